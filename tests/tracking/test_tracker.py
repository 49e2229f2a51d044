from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stratos import config as schema
from stratos.core.extras import ModuleMissing
from stratos.tracking.sink import Sink, SinkThread, Start
from stratos.tracking.tracker import Tracker, tracked
from tests.wandb_file import exit_code, history, records_of

KEY = "0123456789abcdef0123456789abcdef01234567"


def make_config(run_dir: Path, **logger: Any) -> schema.Config:
    return schema.Config(
        task=SimpleNamespace(name="mahjong"),  # type: ignore[arg-type]
        teachers=(),
        students=(),
        strategies=(),
        cloud=schema.CloudConfig(name="aws"),
        complexity=schema.ComplexityConfig(),
        limits=schema.LimitsConfig(),
        synthesize=schema.SynthesizeConfig(),
        traffic=schema.TrafficConfig(),
        plan=schema.PlanConfig(),
        objective=schema.ObjectiveConfig(),
        trainer=schema.TrainerConfig(),
        callbacks=schema.CallbacksConfig(),
        logger=schema.LoggerConfig(**{"wandb": True, **logger}),
        deploy=schema.DeployConfig(),
        paths=schema.PathsConfig(run_dir=str(run_dir), cache_dir=str(run_dir / "cache")),
        probe=schema.ProbeConfig(),
        evaluate=schema.EvaluateConfig(),
        stages=schema.STAGES,
        seed=0,
        plain={"teacher": {"api_key": "sk-abcdefghijklmnop1234", "max_tokens": 32}, "seed": 0},
    )


@pytest.fixture(autouse=True)
def no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def test_a_run_is_kept_offline_with_all_that_was_logged(tmp_path, capfd):
    warnings: list[str] = []
    with tracked(make_config(tmp_path, group="a-sweep"), warnings.append) as tracker:
        log = tracker.for_stage("distill")
        log({"loss": 0.5}, step=7)
        log({"distill/exact": 0.25}, 7)
        tracker.log({"seconds": 3.0})
        tracker.summary({"accuracy": 0.98, "teacher": "small"})

    records = records_of(tmp_path)
    rows = [
        {"/".join(item.nested_key) or item.key: item.value_json for item in r.history.item}
        for r in records
        if r.HasField("history")
    ]
    names = ("distill/step", "distill/loss", "distill/exact")
    assert [tuple(map(row.get, names)) for row in rows] == [
        ("7", "0.5", None),
        ("7", None, "0.25"),
        (None, None, None),
    ]
    assert rows[2]["seconds"] == "3"
    steps = {r.metric.glob_name: r.metric.step_metric for r in records if r.HasField("metric")}
    assert steps["distill/*"] == "distill/step"
    summary = {
        "/".join(item.nested_key) or item.key: item.value_json
        for r in records
        if r.HasField("summary")
        for item in r.summary.update
    }
    assert (summary["accuracy"], summary["teacher"]) == ("0.98", '"small"')
    (run,) = [r.run for r in records if r.HasField("run")]
    assert (run.run_group, run.project, list(run.tags)) == (
        "a-sweep",
        "stratos",
        ["mahjong", "aws"],
    )
    assert exit_code(tmp_path) == 0
    assert warnings == []
    assert capfd.readouterr() == ("", "")
    # The config is logged, the key in it is not.
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert b"max_tokens" in path.read_bytes()
    assert b"sk-abcdef" not in path.read_bytes()
    assert not list((tmp_path / "home").rglob("artifacts"))


def test_no_key_is_in_a_summary(tmp_path, monkeypatch):
    monkeypatch.setenv("PROVIDER_API_KEY", "a-key-of-no-known-shape")
    said = {
        "teacher": "https://me:hunter22@host/v1",
        "note": "asked with sk-abcdefghijklmnopqrstuv",
        "path": "/models/a-key-of-no-known-shape",
        "endpoint": {"api_key": "anything", "model": "small"},
        "accuracy": 0.98,
    }
    with tracked(make_config(tmp_path), pytest.fail) as tracker:
        tracker.summary(said)
    assert records_of(tmp_path), "it is written to the end"
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    data = path.read_bytes()
    assert b"accuracy" in data and b"small" in data
    for secret in (b"hunter22", b"sk-abcdef", b"a-key-of-no-known-shape", b"anything"):
        assert secret not in data


@pytest.mark.parametrize(
    ("end", "code"),
    [(ValueError("no"), 1), (KeyboardInterrupt(), 130), (SystemExit(3), 3), (SystemExit(), 0)],
)
def test_the_run_is_finished_however_it_ends(tmp_path, end, code):
    with pytest.raises(type(end)), tracked(make_config(tmp_path), pytest.fail) as tracker:
        tracker.log({"loss": 1.0}, step=1)
        raise end
    assert exit_code(tmp_path) == code


def test_two_runs_in_one_process_are_apart(tmp_path):
    for name in ("one", "two"):
        with tracked(make_config(tmp_path / name), pytest.fail) as tracker:
            tracker.summary({"name": name})
        assert exit_code(tmp_path / name) == 0
    assert "WANDB_DATA_DIR" not in os.environ


@pytest.mark.slow
def test_no_logger_imports_nothing(tmp_path):
    script = f"""
import sys
sys.path += [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}]
from pathlib import Path
from test_tracker import make_config
from stratos.tracking.tracker import tracked
for settings in (dict(wandb=False), dict(mode="disabled")):
    with tracked(make_config(Path({str(tmp_path)!r}), **settings), print) as tracker:
        tracker.for_stage("distill")({{"loss": 1.0}}, step=3)
        tracker.summary({{"a": 1}})
        assert not tracker.is_on
print("wandb" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False\n", "")
    assert not (tmp_path / "wandb").exists()


def test_without_wandb_the_work_goes_on(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    warnings: list[str] = []
    notes: list[str] = []
    with tracked(make_config(tmp_path), warnings.append, notes.append) as tracker:
        tracker.log({"loss": 1.0})
    assert not warnings
    assert len(notes) == 1 and str(ModuleMissing("wandb")) in notes[0]


def test_a_host_that_is_not_there_means_offline(tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    warnings: list[str] = []
    with tracked(make_config(tmp_path), warnings.append) as tracker:
        tracker.log({"loss": 1.0})
    [warning] = warnings
    assert warning.startswith(f"http://127.0.0.1:{port} ") and "offline" in warning
    assert exit_code(tmp_path) == 0


def test_online_without_a_key_means_offline(tmp_path):
    warnings: list[str] = []
    with tracked(make_config(tmp_path, mode="online"), warnings.append):
        pass
    assert len(warnings) == 1
    assert "WANDB_API_KEY" in warnings[0]
    assert exit_code(tmp_path) == 0


def test_a_login_of_netrc_counts(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1\n  login user\n  password {KEY}\n")
    (tmp_path / "netrc").chmod(0o600)
    warnings: list[str] = []
    with tracked(make_config(tmp_path), warnings.append):
        pass
    assert [w for w in warnings if "cannot be reached" in w] == warnings != []


def test_trouble_is_said_once_and_never_raised(tmp_path):
    warnings: list[str] = []
    with tracked(make_config(tmp_path), warnings.append) as tracker:
        tracker.log({"distill/exact": object()}, step=0)  # type: ignore[dict-item]
        tracker.log({"distill/loss": object()}, step=1)  # type: ignore[dict-item]
        tracker.log({"distill/loss": 1.0}, step=2)
    assert len(warnings) == 1
    assert exit_code(tmp_path) == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_stops_nothing(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with tracked(make_config(tmp_path / "run"), lambda text: None) as tracker:
            tracker.log({"loss": 1.0})
    finally:
        tmp_path.chmod(0o700)


def test_a_file_in_the_way_is_a_warning(tmp_path):
    (tmp_path / "run").write_text("not a folder")
    warnings: list[str] = []
    with tracked(make_config(tmp_path / "run"), warnings.append) as tracker:
        tracker.log({"loss": 1.0})
    assert len(warnings) == 1
    assert "W&B could not start" in warnings[0]


def test_wandb_is_not_imported_with_the_module():
    code = "import sys, stratos.tracking.tracker; print('wandb' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n"


@pytest.mark.slow
def test_a_run_that_is_gone_on_with_is_one_run_of_wandb(tmp_path):
    for folder in (tmp_path / "a", tmp_path / "a", tmp_path / "b"):
        with tracked(make_config(folder, mode="offline"), pytest.fail) as tracker:
            tracker.log({"probe/progress": 1.0})
    ids = [
        {path.stem.removeprefix("run-") for path in folder.glob("wandb/offline-run-*/*.wandb")}
        for folder in (tmp_path / "a", tmp_path / "b")
    ]
    assert len(list((tmp_path / "a").glob("wandb/offline-run-*"))) == 2
    assert len(ids[0]) == len(ids[1]) == 1
    assert ids[0] != ids[1]
    assert (tmp_path / "a" / "wandb" / "run_id").read_text().strip() in ids[0]


class Hanging(Sink):
    """A service that does not answer."""

    title = "Hanging"

    def __init__(self, hangs_from: str) -> None:
        self.hangs_from = hangs_from

    def open(self, start: Start, warn: Any) -> None:
        if self.hangs_from == "open":
            threading.Event().wait()

    def log(self, metrics: Any, axis: str, at: float) -> None:
        threading.Event().wait()

    def finish(self, exit_code: int) -> None:
        threading.Event().wait()


@pytest.mark.slow
@pytest.mark.parametrize("hangs_from", ["open", "log", "finish"])
def test_a_service_that_hangs_holds_nothing_back(tmp_path, hangs_from, monkeypatch):
    monkeypatch.setattr("stratos.tracking.sink._MOST_WAITING", 200)
    warnings: list[str] = []
    began = time.monotonic()
    start = Start(make_config(tmp_path), "a-run", None)
    tracker = Tracker([SinkThread(Hanging(hangs_from), start)], warnings.append)
    for step in range(300 if hangs_from == "open" else 1):  # more than may wait
        tracker.log({"distill/loss": 1.0}, step=step)
    tracker.finish(130)
    assert time.monotonic() - began < 4
    [warning] = warnings
    assert warning.startswith("Hanging does not answer")


@pytest.mark.slow
def test_a_call_costs_the_run_microseconds(tmp_path):
    start = Start(make_config(tmp_path), "a-run", None)
    tracker = Tracker([SinkThread(Hanging("open"), start)], [].append)
    spent: list[float] = []
    for _ in range(10):
        began = time.thread_time()
        for step in range(3_000):
            tracker.log({"distill/loss": 1.0}, step=step)
        spent.append(time.thread_time() - began)
    # Where memory is short the kernel reclaims it in some thread's name: not in most batches.
    assert statistics.median(spent) < 0.2


def test_a_wrong_key_is_one_warning_and_the_run_is_kept_offline(tmp_path, monkeypatch):
    class Refuses(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = b'{"errors": [{"message": "user is not logged in", "code": "PERMISSION_ERROR"}]}'
            self.send_response(401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        warnings: list[str] = []
        began = time.monotonic()
        with tracked(make_config(tmp_path), warnings.append) as tracker:
            tracker.log({"probe/progress": 0.5})
            assert time.monotonic() - began < 10, "nobody waits for W&B"
        server.shutdown()
    [warning] = warnings
    assert "WANDB_API_KEY (HTTP 401)" in warning and "offline" in warning
    assert KEY not in warnings[0]
    assert [row["probe/progress"] for row in history(tmp_path)] == [0.5]
