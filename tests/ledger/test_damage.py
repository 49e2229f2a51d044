"""A ledger that is lost, cut short or edited is refused, with what to type; never forgotten."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from in_process import stratos

from stratos.core.errors import BudgetError
from stratos.ledger import Ledger, LedgerError
from stratos.ledger import file as ledger_file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a ledger with ten calls of $0.40 each, and one that was never settled."""
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path, 5.0)
    for _ in range(10):
        with ledger.reserve("teacher x", 0.5) as call:
            call.settle(0.4)
    ledger.take("teacher x", 0.3)
    return path


def edit(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))


def amount(line: bytes, name: str, value: str) -> bytes:
    return re.sub(rb'"%s":[^,}]*' % name.encode(), f'"{name}":{value}'.encode(), line)


DAMAGES: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "lost": (lambda lines: [], r"ledger\.jsonl has 0 bytes; [\d,]+ were written"),
    "first half": (lambda lines: lines[:9], r"has [\d,]+ bytes; [\d,]+ were written"),
    "second half": (lambda lines: lines[9:], r"line 1: its running total is \$2\.0000"),
    "a line missing": (lambda lines: lines[:5] + lines[6:], r"line 7: its running total is"),
    "a line twice": (lambda lines: [*lines, lines[5]], r"line 22: its running total is"),
    "the order": (lambda lines: lines[::-1], r"line 2: its running total is"),
    "rubbish": (lambda lines: [*lines[:4], b"rubbish\n", *lines[4:]], r"line 5: it is not JSON"),
    "an array": (lambda lines: [b"[1]\n", *lines], r"line 1: it is not a JSON object"),
    "no UTF-8": (lambda lines: [*lines[:4], b"\xff\n", *lines[4:]], r"line 5: it is not JSON"),
    "another kind": (lambda lines: [b'{"kind":"gift"}\n', *lines], r"line 1: it is no line of a"),
    "no kind": (lambda lines: [b'{"cost":1}\n', *lines], r"line 1: it is no line of a ledger"),
    "half a line": (lambda lines: [lines[0], lines[1][:40] + b"\n", *lines[2:]], r"line 2: it is"),
    "less": (lambda lines: [lines[0], amount(lines[1], "usd", "0.04"), *lines[2:]], r"line 2: its"),
    "negative": (
        lambda lines: [lines[0], amount(lines[1], "usd", "-3"), *lines[2:]],
        r"line 2: usd=-3 is no amount of dollars",
    ),
    "infinite": (lambda lines: [lines[0], amount(lines[1], "usd", "1e999"), *lines[2:]], "line 2"),
    "NaN": (lambda lines: [lines[0], amount(lines[1], "usd", "NaN"), *lines[2:]], r"line 2: it is"),
    "huge": (
        lambda lines: [lines[0], amount(lines[1], "usd", "1" + "0" * 400), *lines[2:]],
        "line 2",
    ),
    "text": (lambda lines: [lines[0], amount(lines[1], "usd", '"0.4"'), *lines[2:]], "line 2"),
    "reserved": (
        lambda lines: [amount(lines[0], "reserved_usd", "-9"), *lines[1:]],
        r"line 1: reserved_usd=-9 is no amount",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_every_damage_is_refused_with_what_to_do(path, name):
    change, match = DAMAGES[name]
    edit(path, change)
    with pytest.raises(LedgerError, match=match) as caught:
        Ledger(path, 5.0)
    told = str(caught.value)
    assert "nothing more is paid" in told
    command = f"stratos ledger {path.parent} --spent-usd "
    assert command in told
    if name not in ("less", "reserved"):
        assert float(told.split(command)[1]) >= 3.6 - 1e-9


def test_a_ledger_that_is_gone_is_refused(path):
    path.unlink()
    with pytest.raises(LedgerError, match=r"ledger\.jsonl is gone; [\d,]+ were written"):
        Ledger(path, 5.0)


def test_one_that_is_cut_while_a_run_uses_it_is_refused(path):
    ledger = Ledger(path, 50.0)
    edit(path, lambda lines: lines[:9])
    with pytest.raises(LedgerError, match="was cut short while this run used it"):
        ledger.take("teacher x", 0.1)
    path.unlink()
    with pytest.raises(LedgerError, match="was cut short while this run used it"):
        ledger.take("teacher x", 0.1)


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_last_line_is_none(path, cut):
    """Whoever wrote it was killed in the middle, and has not set its money aside."""
    whole = path.read_bytes()
    more = (
        b'{"kind":"reserved","at":1.5,"id":"0123","what":"teacher x","role":"teacher",'
        b'"reserved_usd":0.25}'
    )
    path.write_bytes(whole + more[:cut])
    ledger = Ledger(path, 5.0)
    assert (ledger.spent_usd, ledger.reserved_usd) == (pytest.approx(4.0), 0.3)
    with ledger.reserve("teacher x", 0.25) as call:
        call.settle(0.125)
    again = Ledger(path, 5.0)
    assert again.spent_usd == pytest.approx(4.125)
    for line in path.read_bytes().splitlines():
        json.loads(line)


def test_a_last_line_without_its_end_counts(path):
    path.write_bytes(path.read_bytes()[:-1])
    (path.parent / ".ledger.json").unlink()
    ledger = Ledger(path, 5.0)
    assert ledger.reserved_usd == 0.3
    with ledger.reserve("teacher x", 0.25) as call:
        call.settle(0.125)
    assert Ledger(path, 5.0).spent_usd == pytest.approx(4.125)


def test_a_line_without_its_kind_is_refused(tmp_path):
    path = tmp_path / "ledger.jsonl"
    path.write_text('{"what": "teacher x", "usd": 0.5}\n')
    with pytest.raises(LedgerError, match=r"line 1: it is no line of a ledger"):
        Ledger(path, 2.0)


def settled(usd: float) -> str:
    """Return a whole ledger of one line."""
    line = {"kind": "settled", "what": "teacher x", "role": "teacher", "usd": usd}
    return json.dumps({**line, "total_usd": usd}) + "\n"


def record(folder: Path, stage: str, record: dict) -> None:
    envelope = {"stage": stage, "fingerprint": "f", "record": record}
    (folder / f"{stage}.json").write_text(json.dumps(envelope))


def test_records_that_cost_more_than_their_ledger_tells_are_refused(tmp_path):
    path = tmp_path / "ledger.jsonl"
    record(tmp_path, "probe", {"task": "t", "teachers": [{"usd": 1.5}, {"usd": 0.25}]})
    record(tmp_path, "plan", {"usd": 99.0, "spent_usd": 1.75})  # planned, not paid
    record(tmp_path, "synthesize", {"usd": 2.0, "n_items": 5})
    with pytest.raises(LedgerError, match=r"is not there, and the records .* say that \$3\.7500"):
        Ledger(path, 5.0)
    path.write_text(settled(1.0))
    with pytest.raises(LedgerError, match=r"adds up to \$1\.0000, and the records beside it"):
        Ledger(path, 5.0)
    path.write_text(settled(3.75))
    assert Ledger(path, 5.0).spent_usd == 3.75
    free = tmp_path / "free"
    free.mkdir()
    record(free, "probe", {"task": "t", "teachers": [{"usd": 0.0}]})
    assert Ledger(free / "ledger.jsonl").spent_usd == 0


def test_what_was_spent_can_be_said(path):
    folder = path.parent
    record(folder, "synthesize", {"usd": 4.0})
    edit(path, lambda lines: lines[:9])
    refused = stratos("ledger", str(folder))
    assert refused.returncode == 1
    typed = re.search(r"stratos ledger (\S+ --spent-usd [\d.]+)", refused.stderr)
    assert typed is not None
    done = stratos("ledger", *typed[1].split())
    assert (done.returncode, done.stderr) == (0, "")
    assert f"The ledger before is kept as {folder / 'ledger.damaged-1.jsonl'}." in done.stdout
    assert "$4.0000 spent" in done.stdout
    ledger = Ledger(path, 4.5)
    assert (ledger.spent_usd, ledger.left_usd()) == (4.0, 0.5)
    with pytest.raises(BudgetError):
        ledger.take("teacher x", 0.6)
    with ledger.reserve("teacher x", 0.4) as call:
        call.settle(0.4)
    edit(path, lambda lines: lines[:1])  # and that one is watched again
    with pytest.raises(LedgerError, match="were written"):
        Ledger(path, 5.0)
    assert stratos("ledger", str(folder), "--spent-usd", "-1").returncode == 2
    assert stratos("ledger", str(folder / "none")).returncode == 1


def test_a_folder_in_which_a_run_works_is_left_alone(path):
    from stratos.core.process import locked

    with locked(path.parent / ".lock"):
        done = stratos("ledger", str(path.parent), "--spent-usd", "1")
    assert done.returncode == 1 and "a run is working in this folder" in done.stderr
    assert Ledger(path).spent_usd == pytest.approx(4.0)


def test_what_is_spent_is_shown_by_stage(path, snapshot):
    told = stratos("ledger", str(path.parent))
    assert told.returncode == 0
    assert told.stdout.replace(str(path), "ledger.jsonl") == snapshot


@pytest.mark.parametrize(("recorded", "refused"), [(4.003, False), (4.1, True)])
def test_records_that_say_a_little_more_are_believed(path, recorded, refused):
    """A thousandth is rounding of many answers; a fortieth is a lost answer."""
    (path.parent / f".{path.stem}.json").unlink()
    record = {"stage": "synthesize", "record": {"usd": recorded}}
    (path.parent / "synthesize.json").write_text(json.dumps(record))
    if refused:
        with pytest.raises(LedgerError, match=r"that \$4\.1000 were paid"):
            Ledger(path, 50.0)
    else:
        assert Ledger(path, 50.0).spent_usd == pytest.approx(4.0)


def test_lines_reach_the_disk_before_much_is_paid_on_them(tmp_path, monkeypatch):
    """A machine that loses power has forgotten no more than some seconds of payments."""
    now, synced = [1000.0], []
    monkeypatch.setattr(ledger_file.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(ledger_file.os, "fsync", lambda _: synced.append(now[0]))
    ledger = Ledger(tmp_path / "ledger.jsonl", 5.0)
    for seconds in (0.0, 0.01, ledger_file._SYNC_SECONDS + 0.1, 0.01):
        now[0] += seconds
        ledger.take("teacher x", 0.1)
    assert len(synced) == 2 and synced[1] - synced[0] > ledger_file._SYNC_SECONDS


def test_a_ledger_that_is_not_damaged_stays(path):
    before = path.read_bytes()
    refused = stratos("ledger", str(path.parent), "--spent-usd", "0")
    assert refused.returncode == 1
    assert "is not damaged" in refused.stderr
    assert path.read_bytes() == before
    assert json.loads(stratos("ledger", str(path.parent), "--json").stdout)["spent_usd"] > 0
