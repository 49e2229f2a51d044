"""Sweeps by Optuna and grids that were stopped: real Hydra apps, killed and gone on with."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from checked import problems
from required import lacking

from stratos.cli.commands.sweep import command_of
from stratos.core.errors import StratosError
from stratos.core.extensions import conf_dir

TESTS = Path(__file__).parents[1]
APP = f"""
import os, signal, sys, time
sys.path[:0] = [{str(TESTS)!r}, {str(TESTS / "report")!r}]
from dataclasses import replace
from pathlib import Path

import factory
import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from stratos.records import save

ConfigStore.instance().store(
    name="app",
    node={{"x": 0.5, "kind": "a", "fail_at": -1, "kill_at": -1, "stages": ["plan", "distill"],
          "deploy": {{"name": "none"}}}},
)


@hydra.main(version_base="1.3", config_path=None, config_name="app")
def main(cfg):
    settings = HydraConfig.get()
    folder, number = Path(settings.runtime.output_dir), settings.job.num
    starts = folder / "starts"
    starts.write_text((starts.read_text() if starts.exists() else "") + "x")
    once = folder / "once"
    if number in (cfg.fail_at, cfg.kill_at) and not once.exists():
        once.write_text("")
        if number == cfg.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        raise LookupError("no such thing")
    usd = 2 * cfg.x + (1.0 if cfg.kind == "b" else 0.0)
    save(folder / "plan.json", "plan", "f", replace(factory.make_plan(), usd=usd))
    student = replace(factory.make_student(20), validation_exact=cfg.x)
    save(folder / "distill.json", "distill", "f", student)
    return cfg.x


if __name__ == "__main__":
    main()
"""
STUDY = (
    "hydra/sweeper=study", "hydra.sweeper.n_trials=8", "hydra.sweep.dir=out",
    "hydra.sweeper.objectives=[accuracy,usd]",
    "x=interval(0.0,1.0)", "kind=a,b",
)  # fmt: skip


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def run(app: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "app.py", "-m", *overrides],
        cwd=app, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def starts(app: Path) -> list[int]:
    folders = sorted((app / "out").glob("*/starts"), key=lambda path: int(path.parent.name))
    return [len(path.read_text()) for path in folders]


def optuna_is_here() -> None:
    if importlib.util.find_spec("optuna") is None:
        lacking("optuna", "needs the package optuna")
    import optuna

    if int(optuna.__version__.split(".")[0]) < 4:
        lacking("optuna", "needs optuna 4")


def best(app: Path) -> list[dict[str, object]]:
    return list(yaml.safe_load((app / "out" / "optimization_results.yaml").read_text())["best"])


@pytest.mark.slow
def test_a_study_of_two_objectives_goes_on_where_it_was_killed(app):
    optuna_is_here()
    killed = run(app, *STUDY, "kill_at=3")
    assert killed.returncode == -signal.SIGKILL
    assert starts(app) == [1, 1, 1, 1]
    done = run(app, *STUDY, "kill_at=3")
    assert done.returncode == 0, done.stderr + done.stdout
    # The job that was killed is run again in its folder, those before it are not.
    assert starts(app) == [1, 1, 1, 2, 1, 1, 1, 1]
    tried = [tuple(yaml.safe_load((app / f"out/{n}/.hydra/overrides.yaml").read_text())[:2])
             for n in range(8)]  # fmt: skip
    assert len(set(tried)) == 8, "what was drawn before is not drawn again"
    kept = best(app)
    assert kept, "some trial is not beaten by any other"
    values = [one["values"] for one in kept]
    for one in values:
        assert isinstance(one, dict)
        assert not any(
            other["accuracy"] > one["accuracy"] and other["usd"] < one["usd"]
            for other in values
            if isinstance(other, dict)
        )
    assert run(app, *STUDY).returncode == 0
    assert starts(app) == [1, 1, 1, 2, 1, 1, 1, 1], "there is nothing left to do"


@pytest.mark.slow
def test_a_study_goes_on_that_was_killed_while_trials_were_drawn(app):
    optuna_is_here()
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    assert run(app, *STUDY, "hydra.sweeper.n_trials=1").returncode == 0
    storage = JournalStorage(JournalFileBackend(str(app / "out" / "study.log")))
    (name,) = optuna.get_all_study_names(storage)
    study = optuna.load_study(study_name=name, storage=storage)
    # Its values are drawn and its overrides are not kept; of the other even a value is missing.
    study.ask(dict(study.trials[0].distributions))
    study.ask({"x": study.trials[0].distributions["x"]})
    done = run(app, *STUDY, "hydra.sweeper.n_trials=3")
    assert done.returncode == 0, done.stderr
    folders = [number for number in range(5) if (app / f"out/{number}/starts").exists()]
    assert folders == [0, 1, 3]
    kept = yaml.safe_load((app / "out/1/.hydra/overrides.yaml").read_text())
    assert sorted(line.split("=")[0] for line in kept) == ["kind", "x"]


@pytest.mark.slow
def test_a_job_that_failed_stays_open(app):
    optuna_is_here()
    four = ("hydra.sweeper.n_jobs=4", "fail_at=2")
    done = run(app, *STUDY, *four)
    assert done.returncode == 0, done.stderr
    assert "1 job not finished" in done.stdout + done.stderr
    assert starts(app) == [1] * 8
    done = run(app, *STUDY, *four)
    assert done.returncode == 0, done.stderr
    assert starts(app) == [1, 1, 2, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("hydra.sweeper.objectives=[speed]",), "expected one or several of accuracy, usd"),
        (("hydra.sweeper.sampler=best",), "expected tpe, nsgaii or random"),
        (("hydra.sweeper.n_trials=0",), "hydra.sweeper.n_trials=0 must be at least 1"),
    ],
)
def test_bad_settings_are_one_line(app, overrides, told):
    done = run(app, "hydra/sweeper=study", "x=interval(0.0,1.0)", *overrides)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_what_is_missing_of_a_grid_runs_and_nothing_else(app):
    grid = ("x=0.1,0.2", "kind=a,b", "hydra.sweep.dir=out", "fail_at=1")
    done = run(app, *grid)
    assert done.returncode == 1
    (app / "out" / "3" / "plan.json").unlink()
    missing = "hydra.sweeper._target_=hydra_plugins.stratos_launchers.missing.MissingSweeper"
    done = run(app, *grid, missing, "hydra/launcher=pool")
    assert done.returncode == 0, done.stderr
    assert starts(app) == [1, 2, 1, 2]
    assert "2 jobs of 4 not finished" in done.stdout
    done = run(app, *grid, missing)
    assert (done.returncode, starts(app)) == (0, [1, 2, 1, 2])
    done = run(app, "x=0.3,0.2", *grid[1:], missing)
    assert done.returncode == 1
    assert "holds the job x=0.1 kind=a" in done.stderr


def test_the_command_of_a_sweep_is_read_back(app):
    assert run(app, "x=0.1,0.2", "hydra.sweep.dir=out").returncode == 0
    command = command_of(app / "out", ["hydra.launcher.n_jobs=1"])
    assert command.folder == app
    assert command.words == (
        "-m", "x=0.1,0.2", "hydra.launcher.n_jobs=1",
        f"hydra.sweep.dir='{app / 'out'}'",
        "hydra.sweeper._target_=hydra_plugins.stratos_launchers.missing.MissingSweeper",
    )  # fmt: skip
    with pytest.raises(StratosError, match="Only Hydra's own part may change"):
        command_of(app / "out", ["x=3"])
    with pytest.raises(StratosError, match="no sweep in it"):
        command_of(app)
    path = app / "out" / "multirun.yaml"
    path.write_text(path.read_text().replace("x=0.1,0.2", "x=***"))
    with pytest.raises(StratosError, match="had a secret"):
        command_of(app / "out")
    for text in ("null", ""):
        path.write_text(text)
        with pytest.raises(StratosError, match=r"multirun\.yaml cannot be read \(it is empty\)"):
            command_of(app / "out")


@pytest.mark.parametrize("name", ["optuna", "pareto"])
def test_what_a_shipped_search_draws_is_a_config(name):
    optuna = pytest.importorskip("optuna")
    from hydra_plugins.stratos_launchers import _study

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    text = (conf_dir() / "hparams_search" / f"{name}.yaml").read_text()
    params = yaml.safe_load(text)["hydra"]["sweeper"]["params"]
    space, _ = _study._space([f"{key}={value}" for key, value in params.items()])
    drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(0)).ask(space).params
    assert drawn.keys() == params.keys()
    lines = [f"{key}={value}" for key, value in {"student": "stratos_300k", **drawn}.items()]
    assert problems("+task=mahjong", *lines) == []
