"""A sweep of a real Hydra app in processes, one of which is really killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

APP = """
import os, signal, time
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig

ConfigStore.instance().store(
    name="app", node={"x": 1, "kill": -1, "once": False, "fail": -1, "results": "results"}
)


@hydra.main(version_base="1.3", config_path=None, config_name="app")
def main(cfg):
    folder = Path(HydraConfig.get().runtime.output_dir)
    starts = folder / "starts"
    n_starts = len(starts.read_text()) if starts.exists() else 0
    starts.write_text("x" * (n_starts + 1))
    print("job", cfg.x, "threads", os.environ["OMP_NUM_THREADS"], flush=True)
    if cfg.x == cfg.kill and not (cfg.once and n_starts):
        os.kill(os.getpid(), signal.SIGKILL)
    if cfg.x == cfg.fail:
        raise LookupError("no such thing")
    time.sleep(0.2 * (3 - cfg.x))  # the first job ends last
    return 10.0 * cfg.x


if __name__ == "__main__":
    main()
"""
SWEEPER = '''
from hydra.core.config_store import ConfigStore
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf


class TellingSweeper(BasicSweeper):
    """Writes down what the launcher returned, in its order."""

    def sweep(self, arguments):
        launch = self.launcher.launch

        def told(batch, initial_job_idx):
            outcomes = launch(batch, initial_job_idx=initial_job_idx)
            with open("returned", "w") as file:
                for one in outcomes:
                    print(one.overrides[0], one.status.name, one._return_value, file=file)
            return outcomes

        self.launcher.launch = told
        return super().sweep(arguments)


ConfigStore.instance().store(
    group="hydra/sweeper",
    name="telling",
    node={
        "_target_": "hydra_plugins.telling.TellingSweeper", "max_batch_size": None, "params": None,
    },
)
'''


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    plugins = tmp_path / "hydra_plugins"
    plugins.mkdir()
    (plugins / "telling.py").write_text(SWEEPER)
    return tmp_path


def sweep(app: Path, *overrides: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    command = [sys.executable, "app.py", "-m", "x=1,2,3", "hydra/launcher=pool"]
    command += ["hydra/sweeper=telling", "hydra.sweep.dir=out", *overrides]
    env = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run(
        command, cwd=app, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    returned = app / "returned"
    return done, returned.read_text().splitlines() if returned.exists() else []


def test_results_keep_the_order_of_the_jobs(app: Path) -> None:
    done, returned = sweep(app, "hydra.launcher.n_jobs=3", "hydra.launcher.threads_per_job=5")
    assert done.returncode == 0, done.stderr
    assert returned == ["x=1 COMPLETED 10.0", "x=2 COMPLETED 20.0", "x=3 COMPLETED 30.0"]
    # What a job prints is in a file of its own.
    assert (app / "out/2/console.log").read_text() == "job 3 threads 5\n"
    assert "threads 5" not in done.stdout


def test_a_killed_job_takes_no_other_with_it(app: Path) -> None:
    done, returned = sweep(app, "kill=2", "hydra.launcher.retries=0")
    assert done.returncode == 1
    assert returned == [
        "x=1 COMPLETED 10.0",
        "x=2 FAILED Job 1 was killed by signal 9; see out/1/console.log.",
        "x=3 COMPLETED 30.0",
    ]
    assert done.stderr.splitlines()[1] == ("Job 1 was killed by signal 9; see out/1/console.log.")
    assert "Traceback" not in done.stderr


def test_a_killed_job_starts_again_in_its_folder(app: Path) -> None:
    done, returned = sweep(app, "kill=2", "once=true")
    assert done.returncode == 0, done.stderr
    assert returned[1] == "x=2 COMPLETED 20.0"
    assert (app / "out/1/starts").read_text() == "xx"
    assert (app / "out/0/starts").read_text() == "x"


def test_a_job_that_raises_is_not_started_again(app: Path) -> None:
    done, returned = sweep(app, "fail=1")
    assert done.returncode == 1
    assert returned == [
        "x=1 FAILED Job 0 failed (see out/0/console.log): LookupError: no such thing",
        "x=2 COMPLETED 20.0",
        "x=3 COMPLETED 30.0",
    ]
    assert (app / "out/0/starts").read_text() == "x"
    assert "LookupError: no such thing" in (app / "out/0/console.log").read_text()
