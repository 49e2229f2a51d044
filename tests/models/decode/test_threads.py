"""The number of CPU threads that tokens are decoded on follows what else the machine does."""

import time

import pytest
import torch

from stratos.models.decode.decoder import Threads, fastest, thread_counts


class Machine:
    """A machine of four cores on which a token takes so long, by the threads it is decoded on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float]) -> None:
        self.now, self.n, self.seconds = 0.0, 4, seconds
        self.used: list[int] = []
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(torch, "get_num_threads", lambda: self.n)
        monkeypatch.setattr(torch, "set_num_threads", self._set)

    def _set(self, n: int) -> None:
        self.n = n

    def decode(self, threads: Threads, n_tokens: int) -> None:
        """Write a batch."""
        self.used = []
        threads.begin()
        for place in range(n_tokens):
            self.now += 5.0 if place == 0 else self.seconds[self.n]  # first all prompts are read
            self.used.append(self.n)
            threads.token()


QUIET, BUSY = {1: 1.0, 2: 0.6, 4: 0.35}, {1: 1.0, 2: 1.1, 4: 3.0}


def test_all_numbers_are_tried_at_first_and_the_neighbours_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine, threads = Machine(monkeypatch, QUIET), Threads()
    with threads.choosing():
        machine.decode(threads, 60)
        assert machine.used[1:7] == [1, 2, 4, 1, 2, 4]
        assert set(machine.used[7:]) == {4}
        machine.decode(threads, 60)
        assert machine.used[1:5] == [2, 4, 2, 4] and set(machine.used[5:]) == {4}
        machine.seconds = BUSY
        machine.decode(threads, 60)
        assert machine.used[-1] == 2
        machine.decode(threads, 60)
        assert set(machine.used[7:]) == {1}
    assert machine.n == 4, "torch has its threads back"


def test_a_long_batch_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, threads = Machine(monkeypatch, QUIET), Threads()
    with threads.choosing():
        machine.decode(threads, 400)
        assert 2 in machine.used[100:]
        assert machine.used.count(4) > 380


def test_one_core_has_nothing_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, threads = Machine(monkeypatch, {1: 1.0}), Threads()
    machine.n = 1
    with threads.choosing():
        machine.decode(threads, 20)
    assert set(machine.used) == {1}


def test_more_threads_have_to_be_worth_it() -> None:
    assert fastest({1: 1.0, 2: 0.95}) == 1
    assert fastest({1: 1.0, 2: 0.6, 4: 0.58}) == 2
    assert thread_counts(6) == (1, 2, 4, 6)
