"""One command at a time works with the copy of a run folder."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

import pytest
from copied import content, dead, folder, held, leased, mirror, synced, work
from stub_executors import Queue

from stratos.core.errors import BusyError
from stratos.core.process import Process
from stratos.executors import submission
from stratos.executors.job import JobSpec
from stratos.executors.submission import Submission
from stratos.run import copy_store
from stratos.run.copy_store import LEASE_S, LEASES, Lease, lease_name
from stratos.run.mirror import MANIFEST, Manifest


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy_store, "SETTLES_S", 0.0)


def test_the_second_of_two_commands_is_shown_the_first(tmp_path, url, warned):
    one = mirror(folder(tmp_path / "first"), url, warned)
    other = mirror(folder(tmp_path / "second"), url, warned)
    me = Process.this()
    with one.lease.hold():
        told = rf"process {me.pid} of {me.host}, in {tmp_path}/first; .*delete .*/{LEASES}/1"
        with pytest.raises(BusyError, match=told), other.lease.hold():
            pass
    with other.lease.hold():
        pass


@pytest.mark.parametrize(("host", "boot", "age_s", "is_free"), [
    ("elsewhere", "other", LEASE_S - 60, False), ("elsewhere", "other", LEASE_S + 60, True),
    (None, None, 0, True), (None, "other", 0, False),
])  # fmt: skip
def test_a_lease_whose_holder_is_gone_is_taken_over(
    tmp_path: Path, url: str, warned: list[str],
    host: str | None, boot: str | None, age_s: float, is_free: bool,
) -> None:  # fmt: skip
    one = mirror(folder(tmp_path / "first"), url, warned)
    me = Process.this()
    holder = Process(host or me.host, 2**22 + 1, boot or me.boot, "1")
    leased(one, holder, age_s=age_s)
    if not is_free:
        with pytest.raises(BusyError, match=f"of {holder.host}, in /there"), one.lease.hold():
            pass
        return
    with one.lease.hold():
        assert held(one) == (2, one.lease.token)


def test_a_holder_that_is_seen_alive_keeps_its_lease_whatever_the_clock_says(tmp_path, url, warned):
    one = mirror(folder(tmp_path / "first"), url, warned)
    leased(one, Process.of(os.getppid()), age_s=2 * LEASE_S)
    with pytest.raises(BusyError, match="in /there"), one.lease.hold():
        pass


def test_jobs_of_the_folder_that_a_copy_was_of_are_named(tmp_path, url, warned, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    spec = JobSpec("stratos-lost-distill", "distill", tmp_path / "lost", "train", 1, 1.0)
    submission.add_to_list(Submission.of(Queue(), spec, id="7", label="queue job 7"))
    one = mirror(folder(tmp_path / "found"), url, warned)
    leased(one, dead(), tmp_path / "lost")
    with one.lease.hold():
        pass
    assert any(
        "distill of" in said and "queue job 7" in said and "down stratos-lost-distill" in said
        for said in warned
    ), warned


def test_who_has_lost_its_lease_copies_no_more(tmp_path, url, warned):
    first = folder(tmp_path / "first")
    one = mirror(first, url, warned)
    with one.lease.hold():
        one.pull()
        one.push()
        leased(one, Process("elsewhere", 1), number=2)
        folder(first, {"distill.json": b"{}"})
        one.push_or_warn()
    assert "(process 1 of elsewhere" in warned[0]
    assert held(one) == (2, "another")


def test_who_was_thought_gone_changes_nothing_of_its_successor(tmp_path, url, warned):
    first, second, third = tmp_path / "first", tmp_path / "second", tmp_path / "third"
    one, other = mirror(folder(first), url, warned), mirror(second, url, warned)
    second.mkdir()
    with one.lease.hold():
        one.pull()
        one.push()
        lease = Lease(1, one.lease.token, Process("elsewhere", 1), "/there", 0.0)
        one.store.write(lease_name(1), lease)
        with other.lease.hold():
            other.pull()
            folder(second, {"distill.json": b"{2}"})
            other.push()
            folder(first, {"corpus/train.jsonl": b"other rows"})
            one.push_or_warn()
            folder(second, {"evaluate.json": b"{2}"})
            other.push()
    assert len(warned) == 1 and "is worked with by another command by now" in warned[0]
    synced(third, url, warned)
    assert content(third) == work(content(second))


def test_a_lease_is_renewed_while_files_take_long(tmp_path, url, warned, monkeypatch):
    monkeypatch.setattr(copy_store, "RENEW_S", 0.1)
    one = mirror(folder(tmp_path / "first"), url, warned)
    with one.lease.hold():
        before = one.store.read(lease_name(1), Lease).at
        until = time.monotonic() + 10
        while one.store.read(lease_name(1), Lease).at == before:
            assert time.monotonic() < until
            time.sleep(0.05)


@pytest.mark.parametrize("last", ["none", "returned", "of a dead"])
@pytest.mark.parametrize("late", ["creates", "looks again"])
def test_of_many_that_take_over_one_lease_one_has_it(
    tmp_path: Path, url: str, warned: list[str], monkeypatch: pytest.MonkeyPatch,
    late: str, last: str,
) -> None:  # fmt: skip
    """Whatever time they take: all have found the same lease free before one goes on."""
    everyone, had = [mirror(folder(tmp_path / str(i)), url, warned) for i in range(4)], []
    if last == "returned":
        synced(tmp_path / "before", url, warned)
    elif last == "of a dead":
        leased(everyone[0], dead())
    together = threading.Barrier(len(everyone))

    def take(i: int) -> None:
        one, n_looks = everyone[i], 0
        look = one.lease.last

        def look_late() -> Lease | None:
            nonlocal n_looks
            n_looks += 1
            if n_looks == 2 and late == "looks again":
                time.sleep(0.2)
            lease = look()
            if n_looks == 1:
                together.wait(10)
                time.sleep(0.1 * i if late == "creates" else 0)
            return lease

        monkeypatch.setattr(one.lease, "last", look_late)
        with contextlib.suppress(BusyError):
            one.lease.take()
            had.append(one)

    threads = [threading.Thread(target=take, args=(i,)) for i in range(len(everyone))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    number = 1 if last == "none" else 2
    assert len(had) == 1
    assert held(had[0]) == (number, had[0].lease.token)
    assert list(had[0].store.sizes(LEASES)) == [f"{number}.json"]


def test_who_is_so_late_that_the_next_two_have_come_has_nothing(tmp_path, url, warned, monkeypatch):
    late, look = mirror(folder(tmp_path / "late"), url, warned), None
    leased(late, dead())
    look = late.lease.last

    def look_once() -> Lease | None:
        lease = look()
        monkeypatch.setattr(late.lease, "last", look)
        for name in ("second", "third"):  # the number that it would have is free again
            synced(tmp_path / name, url, warned)
        return lease

    monkeypatch.setattr(late.lease, "last", look_once)
    with pytest.raises(BusyError):
        late.lease.take()
    fourth = synced(tmp_path / "fourth", url, warned)
    assert held(fourth) == (4, fourth.lease.token)


def test_who_slept_while_another_went_on_and_ended_changes_nothing(tmp_path, url, warned):
    slept = mirror(folder(tmp_path / "first"), url, warned)
    slept.lease.take()
    slept.push()
    leased(slept, dead(), number=2)  # taken over as given up
    other = mirror(tmp_path / "second", url, warned)
    (tmp_path / "second").mkdir()
    with other.lease.hold():
        other.pull()
        (tmp_path / "second" / "paid.json").write_text("of the other")
        other.push()
    left = other.store.read(MANIFEST, Manifest)
    (tmp_path / "first" / "late.json").write_text("woke up")
    assert not slept.push_or_warn()
    assert "is worked with by another command by now" in warned[-1]
    assert slept.store.read(MANIFEST, Manifest) == left and "paid.json" in left.files
    (tmp_path / "third").mkdir()
    mirror(tmp_path / "third", url, warned).pull()
    assert (tmp_path / "third" / "paid.json").read_text() == "of the other"
