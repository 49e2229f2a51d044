"""A guest puts everything of a process back, also when it fails."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from stratos.core.process import guest


def litter(folder: Path) -> None:
    """Change whatever a run might."""
    os.environ["GUEST"] = "1"
    del os.environ["HOST"]
    os.chdir(folder)
    sys.argv = ["guest"]
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    torch.set_num_threads(torch.get_num_threads() + 1)
    logging.root.setLevel(logging.DEBUG)
    logging.root.addHandler(logging.NullHandler())
    logging.getLogger("host").propagate = False
    logging.disable(logging.CRITICAL)
    logging.raiseExceptions = False
    logging.captureWarnings(True)
    warnings.simplefilter("error")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def state() -> list[object]:
    return [
        dict(os.environ), Path.cwd(), sys.argv, random.getstate(),
        np.random.get_state()[1].tolist(), torch.get_rng_state().tolist(),
        torch.get_num_threads(), logging.root.level, [*logging.root.handlers],
        logging.getLogger("host").propagate, logging.root.manager.disable, logging.raiseExceptions,
        warnings.showwarning, [*warnings.filters], signal.getsignal(signal.SIGINT),
        signal.getsignal(signal.SIGTERM),
    ]  # fmt: skip


def test_whatever_it_changes_is_put_back(tmp_path, monkeypatch):
    monkeypatch.setenv("HOST", "here")
    before = state()
    with pytest.raises(KeyboardInterrupt), guest():
        litter(tmp_path)
        raise KeyboardInterrupt
    assert state() == before


def test_a_caller_who_keeps_warnings_in_his_log_goes_on_to():
    logging.captureWarnings(True)
    try:
        before = warnings.showwarning
        with guest():
            logging.captureWarnings(False)
        assert warnings.showwarning is before
    finally:
        logging.captureWarnings(False)


def test_a_cell_of_a_notebook_may_hold_a_loop():
    """Where the caller's loop runs, the guest runs loops of its own; the caller's goes on."""

    async def cell() -> str:
        with guest():
            inner = asyncio.run(asyncio.sleep(0, "guest"))
        assert asyncio.get_running_loop() is asyncio.get_event_loop()
        return await asyncio.sleep(0, inner)

    assert asyncio.run(cell()) == "guest"


def test_the_service_of_trackers_ends_unless_the_caller_uses_it(monkeypatch):
    class Wandb:
        run: object = None
        n_ended = 0

        def teardown(self) -> None:
            self.n_ended += 1

    wandb = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    with guest():
        pass
    wandb.run = "the caller's"
    with guest():
        pass
    assert wandb.n_ended == 1
