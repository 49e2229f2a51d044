"""A real Hydra app whose jobs can be killed, fail, hang or eat memory, and a sweeper that tells."""

from __future__ import annotations

import os
from pathlib import Path

APP = """
import logging, os, signal, subprocess, sys, time
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig

ConfigStore.instance().store(
    name="app",
    node={
        "x": 1, "kill": -1, "once": False, "fail": -1, "results": "results",
        "hang": -1, "eat": -1, "deaf": False, "slow_end": 0,
    },
)


@hydra.main(version_base="1.3", config_path=None, config_name="app")
def main(cfg):
    folder = Path(HydraConfig.get().runtime.output_dir)
    starts = folder / "starts"
    n_starts = len(starts.read_text()) if starts.exists() else 0
    starts.write_text("x" * (n_starts + 1))
    print("job", cfg.x, "threads", os.environ["OMP_NUM_THREADS"], flush=True)
    if "://" in cfg.results:
        print("to", cfg.results, flush=True)
        logging.getLogger("app").warning("results go to %s", cfg.results)
    if cfg.x == cfg.kill and not (cfg.once and n_starts):
        os.kill(os.getpid(), signal.SIGKILL)
    if cfg.x == cfg.fail:
        raise LookupError("no such thing")
    if cfg.deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if cfg.x == cfg.eat:
        held = [b"x" * 2**20 for _ in range(700)]
    if cfg.x in (cfg.hang, cfg.eat) or cfg.hang == 0:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
        (folder / "pids").write_text(f"{os.getpid()} {child.pid}")
        try:
            time.sleep(300)
        except BaseException as error:
            print("ended by", type(error).__name__, "at", time.time(), flush=True)
            time.sleep(cfg.slow_end)
            child.kill()
            raise
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


def write_app(folder: Path) -> Path:
    """Write the app, and the sweeper that writes down what the launcher returned."""
    (folder / "app.py").write_text(APP)
    plugins = folder / "hydra_plugins"
    plugins.mkdir()
    (plugins / "telling.py").write_text(SWEEPER)
    return folder


def alive(pid: int) -> bool:
    """Return whether a process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
