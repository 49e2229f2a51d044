"""Calls with a limit of time and memory: they run in a process of their own, which is kept.

What a stranger wrote may never end: the chat template or the tokenizer of a model, a regular
expression, the answer that a verifier evaluates. No thread can end such a call within one step of C
or Rust. The kernel ends the process that makes it; the next call starts another one.

A call costs 0.1 ms where its process is there, which begins with Python in 0.1 s.
"""

from __future__ import annotations

import base64
import contextlib
import inspect
import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

SECONDS = 10.0
"""Of CPU, that one call may take; it may wait ten times as long."""
MOST_BYTES = 4 * 2**30
"""Of memory, beyond what the process has at its start."""
_WAITS = 10


class OverLimitError(Exception):
    """A call took too long, or too much memory."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"it takes more than {seconds:g} seconds, or {MOST_BYTES // 2**30} GiB of memory"
        )


class CallError(Exception):
    """A call failed: its error by type and text."""


class Child:
    """A process that answers lines, and is started again after one of them ended it.

    It ends with this object, or with Python: `subprocess` keeps a process that nobody waits for.

    Args:
        command: that starts it.
        env: its variables; None for those of this process.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self._command, self._env = command, env
        self._turn = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._end: Callable[[], object] = lambda: None

    def answer(self, line: str) -> str | None:
        """Return what it answers to a line; None if the line ended it."""
        with self._turn:
            try:
                return self._answer(line)
            except BaseException:  # Ctrl-C: its answer would be taken for that to the next line
                self._end()
                self._process = None
                raise

    def _answer(self, line: str) -> str | None:
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True, env=self._env,
            )  # fmt: skip
            self._end = weakref.finalize(self, _end, self._process, os.getpid())
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        with contextlib.suppress(BrokenPipeError):
            stdin.write(f"{line}\n")
            stdin.flush()
        if answer := stdout.readline():
            return answer
        self._end()
        self._process = None
        return None


def _end(process: subprocess.Popen[str], parent: int) -> None:
    """Kill a process, wait for it and close its pipes; a fork of its parent leaves it alone."""
    if os.getpid() != parent:
        return
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(BrokenPipeError):
            assert pipe is not None
            pipe.close()


def limited(function: Callable[..., T], *arguments: Any, seconds: float = SECONDS) -> T:
    """Return what a function returns, within a limit of time and memory.

    The object of a method goes to the other process once, and what it keeps in itself stays there.
    It runs in this process, without a limit, if another one cannot import it, as the functions of a
    notebook.

    Args:
        function: of a module, or a method whose object can be pickled.
        arguments: that can be pickled, as its result.
        seconds: of CPU.

    Raises:
        OverLimitError: it takes longer, or too much memory.
        CallError: it raises something.
    """
    try:
        owner = _owner(function.__self__) if inspect.ismethod(function) else None
        called = function if owner is None else function.__name__
        call = base64.b64encode(pickle.dumps((called, arguments))).decode()
    except (pickle.PicklingError, AttributeError, TypeError):
        reply: dict[str, Any] = {"unknown": True}
    else:
        number = 0 if owner is None else owner.number
        reply = _answered(seconds, [seconds, call, number, ""])
        if "missing" in reply and owner is not None:
            reply = _answered(seconds, [seconds, call, number, owner.pickled])
    if "error" in reply:
        raise CallError(reply["error"])
    if "unknown" in reply:
        try:
            return function(*arguments)
        except Exception as error:
            raise CallError(_text_of(error)) from error
    result: T = pickle.loads(base64.b64decode(reply["result"]))
    return result


def is_reached(object_: Any) -> bool:
    """Return whether another process can import an object, so that calls of it have a limit."""
    try:
        pickle.dumps(object_)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
    return type(object_).__module__ != "__main__"


def _answered(seconds: float, line: list[Any]) -> dict[str, Any]:
    """Return the reply of the other process.

    Raises:
        OverLimitError: the call ended it.
    """
    answer = _caller(os.getpid(), _folder()).answer(json.dumps(line))
    if answer is None:
        raise OverLimitError(seconds)
    reply: dict[str, Any] = json.loads(answer)
    return reply


class _Owner(NamedTuple):
    """An object whose methods are called."""

    object: Any
    """Held, so that its id stays its own."""
    number: int
    pickled: str


_MOST_OWNERS = 32
_owners: dict[int, _Owner] = {}
_numbers = itertools.count(1)


def _owner(object_: Any) -> _Owner:
    """Return an object as it is sent, pickled once."""
    if id(object_) not in _owners:
        pickled = base64.b64encode(pickle.dumps(object_)).decode()
        while len(_owners) >= _MOST_OWNERS:
            _owners.pop(next(iter(_owners)), None)
        _owners[id(object_)] = _Owner(object_, next(_numbers), pickled)
    return _owners[id(object_)]


def _folder() -> str:
    """Return the current folder, in which relative paths of a call begin; "" if it was deleted."""
    with contextlib.suppress(OSError):
        return os.getcwd()
    return ""


@lru_cache(maxsize=1)
def _caller(pid: int, folder: str) -> Child:
    """Return the process that calls for a process in a folder: a fork has its own."""
    entries = [os.path.abspath(entry) for entry in sys.path if folder or os.path.isabs(entry)]
    path = os.pathsep.join(entries)
    command = [sys.executable, "-P", "-c", "from stratos.core.limited import main; main()"]
    return Child(command, {**os.environ, "PYTHONPATH": path})


def _text_of(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def main() -> None:
    """Make the calls of standard input, one a line; what they print goes nowhere."""
    answers = os.fdopen(os.dup(1), "w")
    calls = os.fdopen(os.dup(0))
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # they are for the process that asks: it ends this
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    _limit_memory()
    owners: dict[int, Any] = {}
    for line in calls:
        seconds, call, number, owner = json.loads(line)
        reply = _called(seconds, base64.b64decode(call), number, base64.b64decode(owner), owners)
        print(json.dumps(reply), file=answers, flush=True)


def _called(
    seconds: float, call: bytes, number: int, owner: bytes, owners: dict[int, Any]
) -> dict[str, Any]:
    try:
        if owner:
            while len(owners) >= _MOST_OWNERS:
                del owners[next(iter(owners))]
            owners[number] = pickle.loads(owner)
        if number and number not in owners:
            return {"missing": True}
        function, arguments = pickle.loads(call)
        if number:
            function = getattr(owners[number], function)
    except Exception as error:  # whatever a module does when it is imported
        return {"unknown": _text_of(error)}
    try:
        with _ended_after(seconds):
            result = pickle.dumps(function(*arguments))
    except MemoryError:
        os._exit(1)
    except BaseException as error:  # also the panic of a Rust library, and SystemExit
        return {"error": _text_of(error)}
    return {"result": base64.b64encode(result).decode()}


@contextlib.contextmanager
def _ended_after(seconds: float) -> Any:
    """Have the kernel end this process where the block takes longer; Windows has no such timers.

    Seconds of CPU are the same on a busy machine.
    """
    if sys.platform == "win32":
        yield
        return
    timers = {signal.ITIMER_PROF: seconds, signal.ITIMER_REAL: seconds * _WAITS}
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    for timer, after in timers.items():
        signal.setitimer(timer, after)
    try:
        yield
    finally:
        for timer in timers:
            signal.setitimer(timer, 0)


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    # Of data: what a library of a GPU reserves and never uses is none.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
