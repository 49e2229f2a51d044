"""Calls with a limit: of time and memory, in a process that is kept, and that a kill ends."""

from __future__ import annotations

import math
import os
import re
import signal
import sys
import time

import pytest

from stratos.core.limited import CallError, Child, OverLimitError, _caller, limited

HUGE = (9, 99_999_999)
NESTED = (r"(a+)+b", "a" * 40)


def printed_and_left(code: int) -> None:
    print("no answer", flush=True)
    sys.exit(code)


def test_a_call_gives_what_the_function_gives_in_a_process_that_is_kept():
    assert limited(math.gcd, 12, 18) == 6
    pids = {limited(os.getpid) for _ in range(3)}
    assert len(pids) == 1 and os.getpid() not in pids


class Counter:
    """Counts its calls, and the times that it is sent."""

    n_sent = 0

    def __init__(self) -> None:
        self.n = 0

    def __getstate__(self) -> dict[str, int]:
        type(self).n_sent += 1
        return {"n": self.n}

    def count(self) -> int:
        self.n += 1
        return self.n


def test_the_object_of_a_method_is_sent_once_and_keeps_its_state():
    counter, second = Counter(), Counter()
    assert [limited(counter.count) for _ in range(3)] == [1, 2, 3]
    assert limited(second.count) == 1 and Counter.n_sent == 2
    with pytest.raises(OverLimitError):
        limited(pow, *HUGE, seconds=0.1)
    assert limited(counter.count) == 1, "another process has it as it was sent"


def test_an_answer_that_nobody_waited_for_is_not_that_of_the_next_call(monkeypatch):
    def interrupted(child: Child, line: str) -> str:
        stdin = child._process and child._process.stdin
        assert stdin is not None
        stdin.write(f"{line}\n")
        stdin.flush()
        raise KeyboardInterrupt

    assert limited(math.gcd, 12, 18) == 6
    with monkeypatch.context() as patched:
        patched.setattr(Child, "_answer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            limited(math.gcd, 4, 8)
    assert limited(math.gcd, 5, 10) == 5


def test_a_call_is_made_in_the_folder_of_its_caller(tmp_path, monkeypatch):
    limited(os.getpid)
    monkeypatch.chdir(tmp_path)
    assert limited(os.getcwd) == str(tmp_path)
    tmp_path.rmdir()
    assert limited(math.gcd, 12, 18) == 6


@pytest.mark.parametrize(
    ("function", "arguments"), [(pow, HUGE), (re.fullmatch, NESTED), (bytearray, (2**40,))]
)
def test_a_call_that_does_not_end_is_ended(function, arguments):
    started = time.monotonic()
    with pytest.raises(OverLimitError, match=r"more than 0\.5 seconds, or 4 GiB"):
        limited(function, *arguments, seconds=0.5)
    assert time.monotonic() - started < 30
    assert limited(math.gcd, 12, 18) == 6


def test_a_call_that_fails_says_why_and_what_it_prints_is_no_answer():
    with pytest.raises(CallError, match="ZeroDivisionError: "):
        limited(divmod, 1, 0)
    with pytest.raises(CallError, match="SystemExit: 3"):
        limited(printed_and_left, 3)
    assert limited(math.gcd, 12, 18) == 6


def test_a_function_that_no_other_process_can_import_runs_here():
    assert limited(lambda: os.getpid()) == os.getpid()
    with pytest.raises(CallError, match="ZeroDivisionError: "):
        limited(lambda: 1 // 0)


def test_a_process_that_was_killed_is_started_again():
    os.kill(limited(os.getpid), signal.SIGKILL)
    child = _caller(os.getpid(), os.getcwd())._process
    assert child is not None
    child.wait()
    assert limited(math.gcd, 12, 18) == 6
