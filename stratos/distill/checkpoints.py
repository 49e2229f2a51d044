"""Crash-safe checkpoints: written atomically, two kept, loaded without running code.

A checkpoint is a zip archive with a checksum for each record. Torch does not compare them when it
loads one; `newest` does, so that a torn or damaged checkpoint is found before it is loaded.
"""

from __future__ import annotations

import random
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor
from typing_extensions import override

from stratos.config import CallbacksConfig
from stratos.core.atomic_files import DiskFull, remove, replacing, room_for, staged
from stratos.core.reasons import Because, Reason
from stratos.distill.distributed import gathered, rank
from stratos.distill.words import CheckpointUnreadable, EmptyCheckpoint, WrongChecksum

KEPT = 2
"""Checkpoints on the disk: the latest, and one to go back to."""
_MOST_OVERHEAD = 0.05
"""Part of the time that writing may take: a checkpoint of many GB is written less often."""


class CheckpointFiles(TorchCheckpointIO):
    """Writes a checkpoint where it is told to, without a copy in memory or in TMPDIR."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint.

        Raises:
            DiskFull: there is no room for it.
        """
        what = f"the checkpoint of step {checkpoint['global_step']}"
        with room_for(n_bytes(checkpoint), Path(path), what), Path(path).open("wb") as file:
            torch.save(checkpoint, file)


# Lightning's ModelCheckpoint writes to its place at once, so that a kill leaves a torn file there,
# and does not know a disk that is full.
class Checkpoints:
    """The checkpoints of one training: when the next one is due, and how it is written."""

    def __init__(self, folder: Path, callbacks: CallbacksConfig) -> None:
        """One is due after so many steps or minutes, whichever comes first."""
        self.folder, self._callbacks = folder, callbacks
        self._saved_at, self._took = time.monotonic(), 0.0

    def start(self) -> None:
        """Count the seconds to the next one from now."""
        self._saved_at = time.monotonic()

    def is_due(self, step: int, seconds_ahead: float) -> bool:
        """Return whether to save now, because of the steps or because the time would be passed.

        Args:
            step: steps that were made.
            seconds_ahead: what is done next takes so long.
        """
        callbacks = self._callbacks
        every = max(60 * callbacks.checkpoint_every_minutes, self._took / _MOST_OVERHEAD)
        passed = time.monotonic() - self._saved_at + seconds_ahead
        return step % callbacks.checkpoint_every_steps == 0 or passed >= every

    def takes_at_most(self, seconds: float) -> bool:
        """Return whether the last checkpoint, if there was one, took at most so many seconds."""
        return self._took <= seconds

    def save(self, trainer: L.Trainer, step: int) -> None:
        """Write the checkpoint of a step; every process has to ask.

        Raises:
            DiskFull: there is no room for it, even without the older of those that are kept.
        """
        path, started = self.folder / f"step-{step}.ckpt", time.monotonic()
        if not trainer.is_global_zero:
            trainer.save_checkpoint(staged(path))
        else:
            try:
                self._write(trainer, path)
            except DiskFull:
                older = checkpoints_in(self.folder)[1:]
                if not older or trainer.world_size > 1:  # others do not write a second time
                    raise
                for checkpoint in older:
                    remove(checkpoint)
                self._write(trainer, path)
            for checkpoint in checkpoints_in(self.folder)[KEPT:]:
                remove(checkpoint)
        trainer.strategy.barrier("checkpoint")
        self._saved_at = time.monotonic()
        self._took = self._saved_at - started

    def _write(self, trainer: L.Trainer, path: Path) -> None:
        with replacing(path) as new:
            trainer.save_checkpoint(new)


def checkpoints_in(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, latest first."""
    numbered = [
        (int(path.stem.removeprefix("step-")), path)
        for path in folder.glob("step-*.ckpt")
        if path.stem.removeprefix("step-").isdecimal()
    ]
    return [path for _, path in sorted(numbered, reverse=True)]


def newest(folder: Path, warn: Callable[[str], None]) -> Path | None:
    """Return the latest checkpoint that can be loaded, None if there is none.

    Args:
        folder: of the checkpoints.
        warn: is told of those that cannot be.
    """
    for path in checkpoints_in(folder):
        reason = unreadable(path)
        if reason is None:
            return path
        warn(str(CheckpointUnreadable(str(path), reason)))
    return None


def unreadable(path: Path) -> Reason | None:
    """Return why a checkpoint cannot be loaded, or None; no code in it is run."""
    if path.is_dir():  # parts that a strategy of Lightning's writes and checks itself
        return None if any(path.iterdir()) else EmptyCheckpoint()
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            return WrongChecksum(damaged)
        torch.load(path, map_location="meta", mmap=True, weights_only=True)
    except Exception as error:  # whatever zipfile, pickle and torch make of a damaged file
        return Because((str(error) or type(error).__name__).splitlines()[0])
    return None


def n_bytes(value: Any) -> int:
    """Return the bytes of all tensors in nested dicts and lists."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Mapping):
        return sum(map(n_bytes, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(n_bytes, value))
    return 0


class RandomStates(L.Callback):
    """Keeps the random states in every checkpoint, so that a resumed run draws the same numbers."""

    def state_dict(self) -> dict[str, Any]:
        """Return the states of Python, NumPy and torch, of every process."""
        kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
        own = {
            "python": list(random.getstate()[1]),
            "numpy": [kind, np.asarray(keys).tolist(), position, has_gauss, gauss],
            "torch": torch.get_rng_state(),
        }
        if torch.cuda.is_available():
            own["cuda"] = torch.cuda.get_rng_state()
        return {"by_rank": gathered(own)}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        own = state_dict["by_rank"][rank()]
        random.setstate((3, tuple(own["python"]), None))
        kind, keys, position, has_gauss, gauss = own["numpy"]
        np.random.set_state((kind, np.array(keys, np.uint32), position, has_gauss, gauss))
        torch.set_rng_state(own["torch"])
        if "cuda" in own and torch.cuda.is_available():
            torch.cuda.set_rng_state(own["cuda"])


_CUT = "cut_at_usd.txt"
"""Beside the checkpoints: at which cap of the budget the money ended."""


def note_unpaid_signal(folder: Path, cut_at_usd: float | None) -> None:
    """Remember at which cap the money for the signal ended; None where it did not end."""
    if cut_at_usd is not None:
        (folder / _CUT).write_text(repr(cut_at_usd))
    else:
        (folder / _CUT).unlink(missing_ok=True)


def may_learn_more(folder: Path, cap_usd: float | None) -> bool:
    """Return whether the checkpoints lack a signal that the money may suffice for now."""
    if not (folder / _CUT).exists():
        return False
    return cap_usd is None or cap_usd > float((folder / _CUT).read_text())
