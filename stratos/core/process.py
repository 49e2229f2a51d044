"""Processes: which one it is, how it begins and ends, the locks that end with it, and guests in it.

A process id alone does not identify a process: the first one of every container is number 1, and
numbers are used again. With the boot of the machine and the start of the process it does.

Windows has no `flock`: there, one process a run folder is the user's to see to.

A command owns its process. A library is called from a notebook or a service, whose environment,
folder, logging, signal handlers, random numbers and threads are not its own: as a guest it puts
back what a run changes there.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import random
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from stratos.core.machine import is_limited, n_cores

JOB = "STRATOS_JOB"
"""Name of the job that this process is, where it is one."""
JOB_SECONDS = "STRATOS_JOB_SECONDS"
"""Seconds after which a job ends itself, where its engine has no time limit."""


@contextmanager
def without(names: Sequence[str]) -> Iterator[None]:
    """Let what is started in the block have none of some variables."""
    values = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(values)


_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Process:
    """One process of one machine."""

    host: str
    pid: int
    boot: str = ""
    """Identifies the boot of the machine; "" where that is not known."""
    started: str = ""
    """When the process started, as its machine counts; "" where that is not known."""

    @classmethod
    def this(cls) -> Process:
        """Return the process that runs."""
        return _this(os.getpid())

    @classmethod
    def of(cls, pid: int) -> Process:
        """Return a process of this machine that runs."""
        return cls(socket.gethostname(), pid, _boot(), _started(pid))

    @property
    def is_of_this_machine(self) -> bool:
        """Whether it is a process of this machine, and of no container that is gone."""
        return self.host == socket.gethostname()

    def is_alive_here(self) -> bool:
        """Tell whether it runs on this machine, as far as this one can see."""
        return self.is_of_this_machine and not self.is_dead()

    def is_dead(self) -> bool:
        """Tell whether it is gone; one that nothing is known of counts as living."""
        if not self.is_of_this_machine:
            return False
        if self.boot and self.boot != _boot():
            return True
        try:
            if sys.platform == "win32":
                return False  # a signal would end it there
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            return False
        started = _started(self.pid)
        return started == _ENDED or bool(self.started and started and started != self.started)


@functools.lru_cache(maxsize=8)
def _this(pid: int) -> Process:
    return Process.of(pid)


@functools.cache
def _boot() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


_ENDED = "ended"
"""Of a process that has ended, and that nobody has waited for."""


def _started(pid: int) -> str:
    """Return when a process started, `_ENDED`, or "" where that cannot be read."""
    if not _BOOT_ID.exists():
        return _started_by_psutil(pid)
    try:
        # Behind the name, which may hold anything: state, parent … the 20th is the start, in ticks.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return _ENDED if fields[0] in "ZX" else fields[19]


def _started_by_psutil(pid: int) -> str:
    import psutil

    try:
        process = psutil.Process(pid)
        ended = process.status() == psutil.STATUS_ZOMBIE
        return _ENDED if ended else f"{process.create_time():.2f}"
    except psutil.Error:
        return ""


_LOOK_S = 0.5
_AGAIN_S = 0.05
"""When a signal is sent again whose exception was dropped."""
GRACE_S = 10.0
"""How long a process may take to end that is told to."""


class Terminated(KeyboardInterrupt):
    """A server that is taken away, a container that is stopped, a terminal that is closed.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    @property
    def exit_code(self) -> int:
        """Return what a shell expects of a process that such a signal ended."""
        return 128 + self.number


def end_as_by_ctrl_c() -> None:
    """Let SIGTERM and SIGHUP end the main thread as Ctrl-C does: what is finished is kept.

    Under `nohup`, where SIGHUP is ignored, it stays ignored. Python drops what is raised while it
    calls back from a weak reference or a finalizer, so that a signal that comes then comes again.
    """
    sys.unraisablehook = _signal_again
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    for number in (getattr(signal, name) for name in names):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _terminate)


def end_at_limit() -> None:
    """End this process by SIGTERM when its time as a job is up, whoever follows it or nobody."""
    if (text := os.environ.pop(JOB_SECONDS, None)) is not None:
        timer = threading.Timer(float(text), os.kill, (os.getpid(), signal.SIGTERM))
        timer.daemon = True
        timer.start()


def end_with_parent(*, at_once: bool = False) -> None:
    """End this process when the one that started it is gone, even where that one was killed.

    It is told by SIGTERM, and ended with its process group if it does not end within `GRACE_S`.

    Args:
        at_once: leave the process without being told.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_S)
        if not at_once:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(GRACE_S)
            if os.getpgrp() == os.getpid():
                os.killpg(0, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def end_group(pid: int, kill: Callable[[], None]) -> None:
    """End a process and its process group for good.

    Args:
        pid: of the process, the leader of the group if it has one of its own.
        kill: ends the process alone.
    """
    try:
        os.killpg(pid, signal.SIGKILL)
    except (AttributeError, ProcessLookupError, PermissionError):
        kill()


def _terminate(number: int, _: object) -> None:
    raise Terminated(number)


def _signal_again(dropped: sys.UnraisableHookArgs) -> None:
    """Send a signal again whose exception Python has dropped; say of others what Python says."""
    if not issubclass(dropped.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(dropped)
        return
    error = dropped.exc_value
    number = error.number if isinstance(error, Terminated) else signal.SIGINT
    threading.Timer(_AGAIN_S, os.kill, (os.getpid(), number)).start()


def prepare() -> None:
    """Set what is read when torch loads, and let every signal to end be one to settle first.

    OpenMP's threads wait for each other some thousand times a step; those that spin meanwhile take
    the cores from whoever they wait for, wherever another process wants them too. So they look
    1,000 times (about 25 microseconds) and then sleep; where torch comes with LLVM's or Intel's
    OpenMP, at once. In a container that may use less than it sees, there are no more threads than
    it may use cores.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    if is_limited():
        os.environ.setdefault("OMP_NUM_THREADS", str(n_cores()))
    # What is under way is settled, and what is finished kept, as behind Ctrl-C.
    end_as_by_ctrl_c()


@contextmanager
def every(seconds: float, work: Callable[[], None]) -> Iterator[None]:
    """Do something again and again while the block runs, in a thread; it must raise nothing."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            work()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def leave(code: int) -> NoReturn:
    """End at once: what is under way is settled, and nobody waits for threads and uploads."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    logging.shutdown()
    os._exit(code)


@contextmanager
def locked(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[BinaryIO]:
    """Hold a lock that ends with this process, however it ends; yield the file, to be appended to.

    Args:
        path: the file that is locked; made if need be.
        waiting: called if another process holds it, before waiting for that one to finish;
            without it, a held lock is an error.

    Raises:
        BlockingIOError: another process holds the lock, and `waiting` was not given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        if sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting is None:
                    raise
                waiting()
                fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def opened_alone(path: Path) -> AbstractContextManager[BinaryIO]:
    """Open a file for this process alone, to be read and appended to; waits for its turn."""
    return locked(path, waiting=lambda: None)


@contextmanager
def lock_of_part(path: Path, index: int, wait: bool) -> Iterator[bool]:
    """Hold one of many locks that lie in one file, against other processes of this machine.

    Args:
        path: the file; its folder is made if need be.
        index: which lock.
        wait: for another process that holds it.

    Yields:
        Whether it was got.
    """
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        how = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
        try:
            fcntl.lockf(file, how, 1, index)
        except BlockingIOError:
            yield False
            return
        yield True


def is_locked(path: Path) -> bool:
    """Tell whether a process holds the lock of a file; False where that cannot be told."""
    try:
        import fcntl

        with path.open("r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    except (ImportError, OSError):
        return False
    return False


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
    import asyncio

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
