"""A student that stays hosted: started, asked, restarted, stopped; a bundle that is verified."""

from __future__ import annotations

import argparse
import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from in_process import stratos

from stratos.cli.commands.serve import _setting
from stratos.cli.commands.verify import _verify_exports, verify
from stratos.core.errors import StratosError
from stratos.core.process import Process, locked
from stratos.deploy import hosting, supervisor
from stratos.deploy.bundle_server import ask
from stratos.deploy.exports import write_exports
from stratos.deploy.hosted_server import (
    Hosted,
    disk_of_served,
    is_looked_after,
    is_starting,
    starting,
    state_of,
    supervised,
)
from stratos.deploy.hosted_status import State, standing
from stratos.deploy.hosting import (
    keep_hosted,
    known_answers,
    prepare,
    start,
    stop,
)
from stratos.deploy.manifest import Known, bundle_in, read_known, write_known, write_manifest
from stratos.deploy.server import READY, free_port
from stratos.deploy.server import answers as server_answers
from stratos.records import Export, Exports, Interval, ServingSetting

pytestmark = [pytest.mark.slow, pytest.mark.kill]


def command(*words: str, cache: Path) -> Any:
    return stratos(*words, env={"STRATOS_CACHE": str(cache)})


def wait_for(what: Any, seconds: float = 90.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def test_it_is_started_asked_restarted_and_stopped(bundle, tmp_path):
    bundle = Path(shutil.copytree(bundle, tmp_path / "bundle")).resolve()
    done = command("serve", str(bundle), "--engine", "transformers", cache=tmp_path)
    assert done.returncode == 0, done.stderr
    state = state_of(bundle, tmp_path)
    hosted = Hosted.read(state)
    assert hosted is not None and hosted.runs
    try:
        assert "It answers 3 known questions as in the evaluation." in done.stdout
        # What it says to type is typed.
        (curl,) = re.findall(r"ask:    (curl .*)", done.stdout)
        said = subprocess.run(curl, shell=True, capture_output=True, text=True, timeout=60)
        known = read_known(bundle)
        assert json.loads(said.stdout)["choices"][0]["message"]["content"] == known[0].text

        again = command("serve", str(bundle), cache=tmp_path)
        served = f"is served at {hosted.url}/v1 (transformers, 1 answer at once) since"
        assert again.returncode == 0 and served in again.stdout and curl in again.stdout
        port = free_port()
        other = command("serve", str(bundle), "--port", str(port), cache=tmp_path)
        assert other.returncode == 1 and f"and not with --port {port}. To start" in other.stderr
        state.write_text("garbage")
        wait_for(lambda: Hosted.read(state) == hosted)
        taken = command("serve", str(bundle), "--port", str(hosted.port),
                        cache=tmp_path / "other")  # fmt: skip
        assert taken.returncode == 1 and "choose another with --port <number>" in taken.stderr

        os.kill(hosted.server_pid, signal.SIGKILL)

        def answers_again() -> bool:
            now = Hosted.read(state)
            with suppress(StratosError):
                answer = ask(hosted.port, known[0].messages, 64)
                return now is not None and now.n_restarts == 1 and answer == known[0].text
            return False

        wait_for(answers_again)
        told = command("serve", "status", cache=tmp_path).stdout
        assert f"answers at {hosted.url}/v1" in told and "started again 1 time" in told
        # What the refusal said to type is typed.
        words = shlex.split(other.stderr.partition("type: stratos serve ")[2])
        moved = command("serve", *words, cache=tmp_path)
        assert f"Ready at http://127.0.0.1:{port}/v1: transformers" in moved.stdout, moved.stderr
        hosted = Hosted.read(state)
        assert hosted is not None and hosted.supervisor is not None and hosted.port == port
        told = command("serve", "status", str(bundle), cache=tmp_path).stdout
        kept_by = f"process {hosted.server_pid}, kept running by process {hosted.supervisor.pid}"
        assert f"  transformers, 1 answer at once; {kept_by}\n" in told
        told = command("serve", "status", "--json", cache=tmp_path).stdout
        found = json.loads(told)
        assert found.items() >= {
            "bundle": str(bundle), "state": "answers", "engine": "transformers",
            "format": "", "at_once": 1, "url": f"http://127.0.0.1:{port}/v1", "port": port,
            "pid": hosted.server_pid, "n_known": 3, "n_differing": 0,
        }.items()  # fmt: skip

        # A run with deploy.keep=true leaves it as it is, unless it has made another bundle.
        kept, ran = keep_hosted(bundle, tmp_path)
        assert ran and kept.port == hosted.port
        (bundle / "README.md").write_text("another card")
        write_manifest(bundle)
        assert "its bundle was made anew" in command("serve", "status", cache=tmp_path).stdout
        again = command("serve", str(bundle), cache=tmp_path)
        assert "its bundle was made anew since" in again.stdout
        kept, ran = keep_hosted(bundle, tmp_path)
        assert ran and kept.port == hosted.port and not kept.is_outdated
    finally:
        stopped = command("serve", "stop", str(bundle), cache=tmp_path)
    assert stopped.stdout == f"{bundle}: stopped.\n"
    now = Hosted.read(state)
    assert now is None
    with pytest.raises(ProcessLookupError):
        os.kill(kept.server_pid, 0)
    assert command("serve", "status", cache=tmp_path).stdout == "Nothing is served.\n"


def test_a_model_that_cannot_be_served_leaves_nothing_behind(bundle, tmp_path):
    broken = Path(shutil.copytree(bundle, tmp_path / "bundle")).resolve()
    (broken / "config.json").write_text("{}")
    done = command("serve", str(broken), "--start-seconds", "12", cache=tmp_path)
    assert done.returncode == 1
    assert "The end of" in done.stderr and "Traceback" not in done.stderr.partition("The end")[0]
    assert Hosted.read(state_of(broken, tmp_path)) is None
    found = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert str(broken) not in found


def test_a_start_is_not_disturbed_by_another_nor_by_a_look(bundle, tmp_path):
    with starting(bundle, tmp_path):
        state, _ = prepare(bundle, tmp_path)
        other = command("serve", str(bundle), cache=tmp_path)
        assert other.returncode == 1 and "another command is starting its server" in other.stderr
        assert "is starting" in command("serve", "status", cache=tmp_path).stdout
        assert state.exists()
    assert "gone" in command("serve", "status", cache=tmp_path).stdout


def test_no_process_of_another_machine_is_stopped(bundle, tmp_path):
    """A container that is made anew has another name, and its process ids are of others."""
    with sleeping() as process:
        state, hosted = prepare(bundle, tmp_path)
        replace(hosted, supervisor=replace(process, host="another")).write(state)
        for words in (("stop", "--all"), ("status",)):
            assert command("serve", *words, cache=tmp_path).stdout == "Nothing is served.\n"
        assert not process.is_dead()
        prepare(bundle, tmp_path)  # nothing of it runs here


@contextmanager
def sleeping() -> Iterator[Process]:
    """A process of this machine that serves nothing."""
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        yield Process.of(sleeper.pid)
    finally:
        sleeper.kill()
        sleeper.wait()


@pytest.mark.parametrize("held_s", [0.0, 0.3])
def test_the_lock_of_a_process_that_is_ending_is_waited_for(held_s, tmp_path, monkeypatch):
    state, is_over, is_held = tmp_path / "state.json", threading.Event(), threading.Event()

    def hold() -> None:
        with locked(supervised(state)):
            is_held.set()
            is_over.wait(held_s or 30)

    holding = threading.Thread(target=hold)
    holding.start()
    is_held.wait()
    if not held_s:  # it is not ending
        monkeypatch.setattr(hosting, "_ENDING_S", 0.1)
    assert hosting._is_free(state) == bool(held_s)
    is_over.set()
    holding.join()


def test_what_holds_no_bundle_is_told(tmp_path):
    with pytest.raises(StratosError, match="holds no bundle: name the folder of a finished run"):
        bundle_in(tmp_path)
    done = command("serve", "stop", cache=tmp_path)
    assert done.returncode == 1 and "stratos serve stop outputs/<run>" in done.stderr


def test_a_name_that_nobody_has_is_no_folder(parrot, tmp_path):
    _, hosted = parrot
    for words in (("stop", "nobody"), ("start", "nobody"), ("unit", "nobody")):
        done = command("serve", *words, cache=tmp_path)
        assert done.returncode == 1 and hosted.name in done.stdout + done.stderr
    assert "nobody: there is no such folder, and no student of that name" in done.stderr
    (tmp_path / "elsewhere").mkdir()
    done = command("serve", "stop", str(tmp_path / "elsewhere"), cache=tmp_path)
    assert done.returncode == 0
    assert "elsewhere is not served. Served by name: " in done.stdout
    assert f"{hosted.name} ({hosted.bundle})" in done.stdout


@pytest.mark.parametrize(
    "option", [("--port", "99999"), ("--at-once", "-3"), ("--at-once", "0"), ("--page-port", "x")]
)
def test_numbers_that_cannot_be(tmp_path, option):
    done = command("serve", str(tmp_path), "=".join(option), cache=tmp_path)
    assert done.returncode == 2
    assert f"argument {option[0]}: {option[1]}: a whole number from" in done.stderr


def test_a_bundle_that_was_changed_is_served_with_a_warning(bundle, tmp_path):
    bundle = Path(shutil.copytree(bundle, tmp_path / "bundle")).resolve()
    with (bundle / "README.md").open("a") as card:
        card.write("more")
    done = command("serve", str(bundle), cache=tmp_path)
    stopped = command("serve", "stop", str(bundle), cache=tmp_path)
    assert done.returncode == 0 and stopped.returncode == 0
    assert "Warning: not as it was made: README.md of" in done.stderr


@pytest.fixture
def program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], tuple[Path, Hosted]]:
    """Return what writes the state of a server that runs a text of Python, not started yet."""
    monkeypatch.setattr(supervisor, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(supervisor, "LONGEST_WAIT_S", 0.01)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)

    def written(text: str) -> tuple[Path, Hosted]:
        (tmp_path / "program.py").write_text(text)
        state, port = tmp_path / "served" / "state.json", free_port()
        hosted = Hosted(
            bundle=str(tmp_path), name="program", port=free_port(), engine_port=port,
            module="program", arguments=[str(port)],
            environment={}, log=str(state.with_suffix(".log")), since="now", version="",
            engine="transformers", at_once=1,
        )  # fmt: skip
        hosted.write(state)
        return state, hosted

    return written


@pytest.mark.parametrize("text", ["", "import time; time.sleep(0.4); raise SystemExit(3)"])
def test_a_server_that_ends_before_it_has_answered_is_given_up_however_long_it_took(
    program, text, monkeypatch
):
    monkeypatch.setattr(supervisor, "LIVED_S", 0.1)
    monkeypatch.setattr(supervisor, "LOOK_S", 0.05)
    state, hosted = program(text)
    assert supervisor.keep_running(state, hosted, threading.Event()) == 1
    ended = Hosted.read(state)
    assert ended is not None and ended.is_given_up
    code = 3 if text else 0
    assert (ended.n_restarts, ended.exit_code) == (supervisor.MOST_FAILURES, code)
    shown = standing(state, ended)
    assert shown.state is State.GIVEN_UP
    assert f"given up, started again 5 times (it ended last with code {code})" in shown.text


SERVES = """
import json, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    n = 0
    def log_message(self, *_):
        pass
    def do_GET(self):
        Handler.n += 1
        if Handler.n > MOST:
            time.sleep(600)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"data": [{"id": "m"}]}).encode())
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"choices": [{"message": {"content": "7"}}]}).encode())
MOST = 10**9
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def serves(program: Any) -> tuple[Path, Hosted]:
    """Return the state of a small server that is not started yet: it answers 7 to all."""
    state, hosted = program(SERVES)
    return state, hosted


def test_a_server_that_hangs_is_started_again(program, monkeypatch, capfd):
    monkeypatch.setattr(supervisor, "LOOK_S", 0.2)
    monkeypatch.setattr(supervisor, "SILENT_S", 0.5)
    state, hosted = program(SERVES.replace("10**9", "2"))
    stop = threading.Event()
    running = threading.Thread(target=supervisor.keep_running, args=(state, hosted, stop))
    running.start()

    def was_restarted() -> bool:
        now = Hosted.read(state)
        return now is not None and now.n_restarts >= 1 and not now.is_given_up

    try:
        wait_for(was_restarted)
    finally:
        stop.set()
        running.join()
    assert "No answer for 0.5 seconds" in capfd.readouterr().out


@pytest.fixture
def parrot(serves: tuple[Path, Hosted], tmp_path: Path) -> Iterator[tuple[Path, Hosted]]:
    """Return the state of a server of a bundle whose evaluation answered 7, 7 and 8."""
    bundle = tmp_path / "run" / "bundle"
    bundle.mkdir(parents=True)
    known = [
        Known([{"role": "user", "content": question}], answer, answer, True, 8)
        for question, answer in (("a", "7"), ("b", "7"), ("c", "8"))
    ]
    write_known(bundle, known)
    arguments = [sys.executable, "-m", serves[1].module, *serves[1].arguments]
    with subprocess.Popen(arguments) as server:
        port = serves[1].engine_port
        wait_for(lambda: server_answers(port))
        hosted = replace(
            serves[1], bundle=str(bundle), supervisor=Process.this(), known=known, port=port
        )
        state = state_of(bundle, tmp_path)
        hosted.write(state)
        yield state, hosted
        server.kill()


def test_what_the_answers_are_compared_with_is_said(parrot):
    _, hosted = parrot
    assert "Warning: 1 of 3 known questions it does not answer as in" in known_answers(hosted)
    sevens = [replace(known, text="7") for known in hosted.known]
    export = known_answers(replace(hosted, format="q8_0", known=sevens))
    assert export == (
        "It answers 3 known questions as q8_0 did when it was exported; 2 of them as in the "
        "evaluation."
    )
    same = replace(hosted, known=hosted.known[:2])
    assert known_answers(same) == "It answers 2 known questions as in the evaluation."


def test_a_bundle_that_was_moved_away_is_told_from_one_made_anew(parrot, tmp_path):
    bundle = Path(parrot[1].bundle)
    bundle.rename(tmp_path / "moved")
    for folder in (bundle, bundle.parent):
        told = command("serve", "status", str(folder), cache=tmp_path).stdout
        assert "its bundle is gone (moved or deleted)" in told and "made anew" not in told


def test_what_a_restart_does_not_name_stays(parrot):
    _, hosted = parrot
    bundle, llama = Path(hosted.bundle), replace(hosted, engine="llamacpp", format="f32", at_once=8)

    def setting(running: Hosted | None, **named: Any) -> Any:
        told = argparse.Namespace(**{"engine": None, "format": None, "at_once": None, **named})
        return _setting(told, bundle, running)

    assert setting(llama) == ServingSetting("llamacpp", 8, format="f32")
    assert setting(llama, at_once=2) == ServingSetting("llamacpp", 2, format="f32")
    assert setting(llama, engine="transformers") == ServingSetting("transformers", 1)
    alone = replace(hosted, engine="transformers", at_once=1)
    assert setting(alone) == ServingSetting("transformers", 1)
    assert setting(alone, at_once=4) == ServingSetting("transformers-batching", 4)
    assert setting(replace(alone, engine="vllm"), at_once=4) == ServingSetting("vllm", 4)
    assert setting(None) is None


def test_a_full_disk_ends_no_server(serves):
    """The limit of a process on the size of its files refuses what a full disk refuses."""
    state, _ = serves
    hosted = start(state)
    keeper = hosted.supervisor
    assert keeper is not None
    one = psutil.Process(keeper.pid)
    try:
        before = one.rlimit(psutil.RLIMIT_FSIZE)
        one.rlimit(psutil.RLIMIT_FSIZE, (0, before[1]))
        os.kill(hosted.server_pid, signal.SIGKILL)
        wait_for(lambda: not server_answers(hosted.port, READY))
        wait_for(lambda: server_answers(hosted.port, READY))
        assert not keeper.is_dead()
        found = Hosted.read(state)
        assert found is not None and found.server_pid == hosted.server_pid, "not written"
        one.rlimit(psutil.RLIMIT_FSIZE, before)

        def is_written() -> bool:
            now = Hosted.read(state)
            return now is not None and now.server_pid != hosted.server_pid and now.n_restarts == 1

        wait_for(is_written)
    finally:
        assert stop(state, hosted)


def test_a_log_does_not_grow_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "MOST_LOG_BYTES", 4000)
    monkeypatch.setattr(supervisor, "LOG_END_BYTES", 1000)
    log = tmp_path / "log"
    with log.open("ab") as writer:  # as a server has it
        for i in range(1000):
            writer.write(b"line %d\n" % i)
            writer.flush()
            supervisor.bound_log(log)
            assert log.stat().st_size < 4100
    text = log.read_text()
    assert text.startswith("(what was before is cut)\nline ") and text.endswith("line 999\n")


def test_what_the_disk_refuses_is_told_with_its_place(bundle, tmp_path):
    (tmp_path / "file").write_text("")
    done = command("serve", str(bundle), cache=tmp_path / "file")
    assert done.returncode == 1 and "file/served" in done.stderr
    with pytest.raises(StratosError, match="STRATOS_CACHE=<folder>"), disk_of_served(tmp_path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_supervisor_that_is_told_again_and_again_to_end_was_stopped(serves):
    state, hosted = serves
    hosted.write(state)
    process = subprocess.Popen([sys.executable, "-m", "stratos.deploy.supervisor", str(state)])
    wait_for(lambda: (now := Hosted.read(state)) is not None and now.runs)
    while process.poll() is None:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.002)
    assert process.returncode == 0


@pytest.mark.parametrize("after_s", [0.0, 0.3, 1.0])
def test_a_stop_ends_a_start_wherever_it_is(serves, after_s):
    state, hosted = serves
    sleeps = ["-n1", "-r1", "import time; time.sleep(600)"]
    slow = replace(hosted, module="timeit", arguments=sleeps)  # never answers
    slow.write(state)
    errors: list[BaseException] = []

    def begin() -> None:
        try:
            with locked(state.with_suffix(".starting")):
                start(state)
        except BaseException as error:
            errors.append(error)

    starter = threading.Thread(target=begin)
    starter.start()
    wait_for(lambda: is_starting(state))
    time.sleep(after_s)
    now = Hosted.read(state)
    assert stop(state, slow if now is None else now)
    starter.join(60)
    wait_for(lambda: not is_looked_after(state))
    assert not state.exists()
    assert str(errors[0]) == "It was stopped while it started."


def test_a_bundle_whose_answers_cannot_be_compared_is_not_verified(parrot, monkeypatch):
    """A manifest that was made anew says that all files are right."""
    bundle = Path(parrot[1].bundle)
    for name in ("config.json", "model.safetensors"):
        (bundle / name).write_text("{}")
    known = read_known(bundle)
    export = Export(
        format="q8_0", n_bytes=1, n_items=3, n_equal=3, exact=Interval(1, 1, 1),
        evaluated=Interval(1, 1, 1), loss_points=Interval(0, 0, 0), p_value=1.0,
        latency_p50_ms=1.0, latency_p95_ms=1.0, requests_per_s=1.0, at_once=1, memory_mib=1.0,
        max_loss_points=1.0, known=("7",),
    )  # fmt: skip
    write_exports(bundle, Exports("llamacpp", "1", "", (export,)))
    with pytest.raises(StratosError, match="has 1 answer of q8_0 to 3 known questions: it is not"):
        _verify_exports(bundle, known)
    write_exports(bundle, Exports("none", "1", "", (export,)))
    with pytest.raises(StratosError, match="names the engine 'none', which is none of"):
        _verify_exports(bundle, known)
    write_known(bundle, [])
    write_manifest(bundle)
    with pytest.raises(StratosError, match=r"holds no known answers .*: nothing was compared"):
        verify(bundle)
