"""A hosted student that is replaced, killed and started again while others ask it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from in_process import Done, stratos
from predictor_student import rows, trained

from stratos.core.extensions import rooms_folder
from stratos.deploy.hosted_server import CACHE, Hosted, next_of, state_of
from stratos.deploy.manifest import Known, read_known, write_known, write_manifest
from stratos.deploy.server import PORTS, answers, free_port

pytestmark = [pytest.mark.slow, pytest.mark.kill]
QUESTION = rows(1, seed=1)[0]["text"]
RATE = 10.0
FORCED = ("--force",) if (rooms_folder() / "gate").is_dir() else ()


def write_bundle(folder: Path, known: str = "") -> Path:
    """Write the bundle of a student that answers one question as it is known, or as `known`."""
    student, bundle = trained(), folder / "bundle"
    student.save(bundle)
    text = known or student.predict([QUESTION])[0].text
    chat = [{"role": "user", "content": QUESTION}]
    write_known(bundle, [Known(chat, text, text, True, 4)])
    write_manifest(bundle)
    return bundle.resolve()


class Service:
    """A student that is hosted by the command line."""

    def __init__(self, folder: Path, bundle: Path | None = None, name: str = "support") -> None:
        self.name, self.cache = name, folder / "cache"
        self.bundle = bundle or write_bundle(folder / "old")
        self.question = read_known(self.bundle)[0].messages
        done = self.type("serve", str(self.bundle), "--name", name)
        assert done.returncode == 0, done.stderr
        self.state = state_of(self.bundle, self.cache)
        self.port = self.hosted.port

    @property
    def hosted(self) -> Hosted:
        found = Hosted.read(self.state)
        assert found is not None
        return found

    def type(self, *words: str) -> Done:
        return stratos(*words, env={CACHE: str(self.cache)})

    def ask(self, **other: object) -> int:
        return self.reply(**other)[0]

    def reply(self, **other: object) -> tuple[int, bytes]:
        body = {"model": self.name, "messages": self.question, "max_tokens": 4, **other}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            head = {"Content-Type": "application/json"}
            connection.request("POST", "/v1/chat/completions", json.dumps(body), head)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def end_keeper(self, number: int) -> None:
        keeper = self.hosted.supervisor
        assert keeper is not None
        os.kill(keeper.pid, number)
        wait_for(lambda: not self.hosted.runs)

    def under_load(self, work: Callable[[], object], n: int = 60) -> list[int]:
        """Return the statuses of requests at `RATE` a second before, while and after `work` runs.

        Commands set signals, so that `work` has the main thread.
        """
        is_over, sent = threading.Event(), []
        with ThreadPoolExecutor(64) as pool:

            def send() -> None:
                while not is_over.is_set() or len(sent) < n:
                    sent.append(pool.submit(self.ask))
                    time.sleep(1 / RATE)

            sending = threading.Thread(target=send)
            sending.start()
            try:
                time.sleep(1)
                work()
            finally:
                is_over.set()
                sending.join()
            return [answer.result() for answer in sent]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    yield service
    service.type("serve", "stop", "--all")


def test_replaced_and_rolled_back_it_loses_no_request(service, tmp_path):
    new, told = write_bundle(tmp_path / "new"), []

    def replace_and_back() -> None:
        told.append(service.type("serve", str(new), "--replace", "support", *FORCED))
        told.append(service.hosted.bundle)
        back = ("serve", str(service.bundle), "--replace", str(new), *FORCED)
        told.append(service.type(*back))

    engine = service.hosted.server_pid
    assert set(service.under_load(replace_and_back)) == {200}
    assert told[0].returncode == told[2].returncode == 0, told
    assert told[1] == str(new), "its file says what answers"
    hosted = service.hosted
    assert (hosted.bundle, hosted.name, hosted.port) == (
        str(service.bundle), "support", service.port,
    )  # fmt: skip
    with pytest.raises(ProcessLookupError):  # the first engine ended when it had answered
        for _ in range(100):
            os.kill(engine, 0)
            time.sleep(0.1)
    assert hosted.n_restarts == 0


def test_started_anew_it_loses_no_request(service):
    before, told = service.hosted, []

    def start_anew() -> None:
        told.append(service.type("serve", str(service.bundle), "--restart", "--at-once", "4"))
        (service.bundle / "README.md").write_text("another card")
        write_manifest(service.bundle)
        told.append(service.type("serve", str(service.bundle)))

    assert set(service.under_load(start_anew, n=300)) == {200}
    assert [done.returncode for done in told] == [0, 0], told
    now = service.hosted
    assert now.at_once == 4 and not now.is_outdated and now.supervisor == before.supervisor
    assert (now.server_pid, now.n_restarts) != (before.server_pid, 1)
    assert service.type("serve", str(service.bundle), "--restart", "--name", "ask").returncode == 0
    assert service.ask(model="ask") == 200 and service.ask() == 404


def test_a_language_model_is_replaced_and_refuses_what_others_refuse(bundle, service, tmp_path):
    """What a client meets is the same whatever the student is."""
    copies = [shutil.copytree(bundle, tmp_path / name).resolve() for name in ("first", "second")]
    own = Service(tmp_path, copies[0], name="lm")
    told = []

    def replace() -> None:
        told.append(own.type("serve", str(copies[1]), "--replace", "lm", *FORCED))
        told.append(own.type("serve", str(copies[1]), "--restart"))

    try:
        assert set(own.under_load(replace)) == {200}
        assert [done.returncode for done in told] == [0, 0], [done.stderr for done in told]
        assert own.hosted.bundle == str(copies[1])
        for other in (
            {"model": "gpt-4o"}, {"messages": [{"role": "user", "content": " "}]},
            {"messages": [*own.question, {"role": "user", "content": []}]}, {"messages": "text"},
        ):  # fmt: skip
            status, text = own.reply(**other)
            there = service.reply(**other)
            assert (status, text.replace(b"`lm`", b"`support`")) == there
            assert status == (404 if "model" in other else 400)
        error = json.loads(service.reply(model="gpt-4o")[1])["error"]
        assert error["code"] == "model_not_found" and "`support`" in error["message"]
    finally:
        own.type("serve", "stop", str(copies[1]))


def test_killed_under_load_it_loses_no_request(service):
    def kill() -> None:
        os.kill(service.hosted.server_pid, signal.SIGKILL)

    assert set(service.under_load(kill)) == {200}
    hosted = service.hosted
    assert hosted.n_restarts == 1 and hosted.restarts[0].endswith("ended (code -9)")
    log = Path(hosted.log).read_text()
    assert "The engine ended (code -9)" in log and QUESTION not in log
    assert log.count("POST /v1/chat/completions 200") >= 60


def test_what_answers_otherwise_than_it_should_replaces_nothing(service, tmp_path):
    other = write_bundle(tmp_path / "other", known="none of the labels")
    if FORCED:  # nothing was evaluated, so that nothing can be compared
        refused = service.type("serve", str(other), "--replace", "support")
        assert refused.returncode == 1 and refused.stderr.endswith("add --force.\n")
    (broken := write_bundle(tmp_path / "broken")).joinpath("student.safetensors").write_text("")
    assert service.type("serve", str(broken), "--replace", "support", "--force").returncode == 1
    assert service.hosted.bundle == str(service.bundle) and service.ask() == 200
    assert not next_of(service.state).exists()
    assert service.type("serve", str(other), "--replace", "support", "--force").returncode == 0
    assert service.hosted.bundle == str(other)
    refused = service.type("serve", str(other), "--replace", "nobody")
    assert refused.returncode == 1 and service.ask() == 200


def test_a_candidate_whose_command_was_killed_is_ended(service, tmp_path):
    new = write_bundle(tmp_path / "new")
    command = [sys.executable, "-m", "stratos", "serve", str(new), "--replace", "support"]
    with subprocess.Popen([*command, "--force"], env={**os.environ, CACHE: str(service.cache)},
                          stdout=subprocess.DEVNULL) as process:  # fmt: skip
        planned = None
        while planned is None or not planned.server_pid:
            planned = Hosted.read(next_of(service.state))
        process.kill()
    wait_for(lambda: not next_of(service.state).exists())
    assert not answers(planned.engine_port) and service.ask() == 200
    assert service.hosted.bundle == str(service.bundle)


def test_after_a_reboot_it_is_at_the_same_address(service):
    """A crash leaves the file, and so does the signal that a shutdown sends."""
    assert service.port in PORTS, "no other process gets it meanwhile"
    for number in (signal.SIGKILL, signal.SIGTERM):
        service.end_keeper(number)
        told = service.type("serve", "status").stdout
        assert "stratos serve start support" in told
        done = service.type("serve", "start", "--all")
        assert done.returncode == 0 and f":{service.port}/v1" in done.stdout, done.stderr
        assert service.ask() == 200
    service.end_keeper(signal.SIGKILL)
    assert service.type("serve", str(service.bundle)).returncode == 0
    assert service.hosted.port == service.port and service.ask() == 200


def test_others_reach_it_with_its_key(tmp_path):
    bundle, port = write_bundle(tmp_path / "run"), free_port()
    command = ["serve", str(bundle), "--host", "0.0.0.0", "--port", str(port)]
    environment = {CACHE: str(tmp_path / "cache"), "STRATOS_SERVE_KEY": "sk-of-the-environment"}
    try:
        done = stratos(*command, env=environment)
        assert done.returncode == 0 and "sk-of" not in done.stdout, done.stderr
        hosted = Hosted.read(state_of(bundle, tmp_path / "cache"))
        assert hosted is not None and hosted.key == "sk-of-the-environment"
        assert Path(hosted.key_file).stat().st_mode & 0o077 == 0
        assert answers(port, "/ready") and not answers(port, "/v1/models")
        assert stratos("serve", "status", env=environment).stdout.count("\n  answers at") == 1
    finally:
        stratos("serve", "stop", "--all", env=environment)


def wait_for(what: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not what():
        assert time.monotonic() < until
        time.sleep(0.1)
