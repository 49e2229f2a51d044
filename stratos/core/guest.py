"""A guest in somebody else's process: what a run changes there is put back when it ends.

A command owns its process. A library is called from a notebook or a service, whose environment,
folder, logging, signal handlers, random numbers and threads are not its own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


@contextmanager
def guest() -> Iterator[None]:
    """Put the process back as it was when the block is left, however that comes about."""
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        stack.callback(_environment(dict(os.environ), Path.cwd(), sys.argv))
        stack.callback(_logging())
        stack.callback(_random_numbers())
        stack.callback(_tracking())
        stack.enter_context(_event_loop())
        if threading.current_thread() is threading.main_thread():  # no other may set a handler
            stack.callback(_signals())
        yield


def _environment(variables: dict[str, str], folder: Path, words: list[str]) -> Callable[[], None]:
    def put_back() -> None:
        os.chdir(folder)
        sys.argv = words
        for name in os.environ.keys() - variables.keys():
            del os.environ[name]
        os.environ.update(variables)

    return put_back


def _logging() -> Callable[[], None]:
    """Note levels, handlers and filters of all loggers; those that are made later stay quiet."""
    loggers = {logger: _state(logger) for logger in _loggers()}
    raises, disabled = logging.raiseExceptions, logging.root.manager.disable
    show = warnings.showwarning

    def put_back() -> None:
        if warnings.showwarning is not show:
            logging.captureWarnings(False)
            warnings.showwarning = show
        logging.raiseExceptions = raises
        logging.disable(disabled)
        for logger, (level, handlers, filters, propagates, is_disabled) in loggers.items():
            logger.setLevel(level)
            logger.handlers[:], logger.filters[:] = handlers, filters
            logger.propagate, logger.disabled = propagates, is_disabled

    return put_back


def _loggers() -> list[logging.Logger]:
    named = logging.root.manager.loggerDict.values()
    return [logging.root, *(logger for logger in named if isinstance(logger, logging.Logger))]


def _state(logger: logging.Logger) -> tuple[int, list[Any], list[Any], bool, bool]:
    handlers, filters = [*logger.handlers], [*logger.filters]
    return logger.level, handlers, filters, logger.propagate, logger.disabled


def _random_numbers() -> Callable[[], None]:
    """Note the generators of the libraries that are loaded: a run sets their seeds."""
    numpy: Any = sys.modules.get("numpy")
    torch: Any = sys.modules.get("torch")
    own, of_numpy = random.getstate(), None if numpy is None else numpy.random.get_state()
    of_torch = None if torch is None else (torch.get_rng_state(), torch.get_num_threads())

    def put_back() -> None:
        random.setstate(own)
        if of_numpy is not None:
            numpy.random.set_state(of_numpy)
        if of_torch is not None:
            state, n_threads = of_torch
            torch.set_rng_state(state)
            torch.set_num_threads(n_threads)

    return put_back


def _tracking() -> Callable[[], None]:
    """End the service of W&B that a run starts, unless the caller has a run there himself."""
    wandb: Any = sys.modules.get("wandb")
    is_used = wandb is not None and wandb.run is not None

    def put_back() -> None:
        loaded: Any = sys.modules.get("wandb")
        if loaded is not None and not is_used:
            loaded.teardown()

    return put_back


@contextmanager
def _event_loop() -> Iterator[None]:
    """Let the block run event loops of its own, although it is called from a cell of a notebook.

    The caller's loop stands still meanwhile, as it does for whatever else blocks it.
    """
    running = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(running)
        if running is not None:
            asyncio.set_event_loop(running)  # `asyncio.run` leaves none


def _signals() -> Callable[[], None]:
    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    handlers = {number: signal.getsignal(number) for number in numbers}

    def put_back() -> None:
        for number, handler in handlers.items():
            if handler is not None:  # one that Python did not set cannot be put back
                signal.signal(number, handler)

    return put_back
