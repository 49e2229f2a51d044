"""Trainings that are stopped in their midst, here or in a process of their own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_SCRIPT = """
import sys
sys.path[:0] = {paths!r}
import pathlib, time, training_runs
def slowly(folder, **settings):
    class Ticks(list):
        def append(self, tick):
            print(tick[0], *tick[2].split()[-1:], flush=True)
            time.sleep(0.2 if tick[0] >= {step} else 0)
    run = training_runs.run_distill
    run = getattr(run, "__wrapped__", None) or run._get_wrapped_function()
    run(pathlib.Path({corpus!r}))(pathlib.Path(folder), ticks=Ticks(), **settings)
try:
    slowly({folder!r}, **{settings!r})
except KeyboardInterrupt:
    # Python itself ends with 1 or with the signal, as what runs at its exit may have it.
    sys.exit(130)
"""


def stop_at(
    step: int,
    how: signal.Signals,
    corpus: Path,
    folder: Path,
    doing: str = "left",
    **settings: Any,
) -> int:
    """Run until a step is done, send a signal, and return the code that the process ends with.

    Args:
        step: the step.
        how: the signal.
        corpus: what is trained on.
        folder: of the run.
        doing: last word of the progress when the signal is sent: "left" (what comes behind the
            step), or "validating".
        settings: of the training.
    """
    script = _SCRIPT.format(
        paths=[str(Path(__file__).parent), *sys.path],
        step=step,
        corpus=str(corpus),
        folder=str(folder),
        settings=settings,
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.split() == [str(step), doing]:
            os.kill(process.pid, how)
            break
    process.stdout.read()
    return process.wait()


def interrupted(
    run: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> None:
    """Stop with Ctrl-C behind step 6; the last checkpoint is of step 4."""
    from stratos.distill.monitor import TrainingMonitor

    after = TrainingMonitor.on_train_batch_end

    def stop(self: TrainingMonitor, trainer: Any, *args: Any) -> None:
        after(self, trainer, *args)
        if trainer.global_step == 6:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingMonitor, "on_train_batch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            run(folder, **settings)
