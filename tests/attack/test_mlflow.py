"""A real MLflow server that a run is tracked on, gone on with, and that then is not there."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.required import lacking

pytestmark = pytest.mark.slow

SCRIPT = """
from pathlib import Path
from tests.tracking.test_tracker import make_config
from stratos.tracking.sink import Table
from stratos.tracking.tracker import tracked
warnings = []
config = make_config(Path({run!r}), wandb=False, mlflow=True, tracking_uri={uri!r})
with tracked(config, warnings.append) as tracker:
    for step in range({first}, {first} + 3):
        tracker.log({{"distill/loss": 1.0 / (1 + step)}}, step=step)
    tracker.summary({{"verdict": "Distil.", "accuracy": 0.9}})
print(warnings)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    if not all(importlib.util.find_spec(name) for name in ("mlflow", "mlflow.server")):
        lacking("mlflow", "needs the package mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1",
         "--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db",
         "--artifacts-destination", str(tmp_path / "artifacts")],
        cwd=tmp_path, start_new_session=True,
    )  # fmt: skip
    uri = f"http://127.0.0.1:{port}"
    until = time.monotonic() + 180
    while time.monotonic() < until:
        with suppress(OSError), urllib.request.urlopen(f"{uri}/health", timeout=5):
            break
        time.sleep(0.5)
    else:
        pytest.fail("the server does not answer")
    yield uri, process
    _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, 15)
    process.wait(30)


def tracked_there(run: Path, uri: str, first: int) -> tuple[str, float]:
    script = SCRIPT.format(run=str(run), uri=uri, first=first)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), time.monotonic() - began


def test_a_run_is_on_the_server_and_goes_on_there(server, tmp_path):
    uri, process = server
    assert tracked_there(tmp_path / "run", uri, 0)[0] == "[]"
    assert tracked_there(tmp_path / "run", uri, 3)[0] == "[]"
    client = importlib.import_module("mlflow").MlflowClient(uri)
    experiment = client.get_experiment_by_name("stratos").experiment_id
    (run,) = client.search_runs([experiment])
    assert run.info.status == "FINISHED"
    assert run.data.tags["verdict"] == "Distil."
    assert run.data.params["teacher.api_key"] == "***"
    losses = client.get_metric_history(run.info.run_id, "distill/loss")
    assert [loss.step for loss in losses] == [0, 1, 2, 3, 4, 5]

    _end(process)
    printed, seconds = tracked_there(tmp_path / "run", uri, 6)
    assert printed.count("MLflow could not start") == 1, printed
    assert seconds < 60
