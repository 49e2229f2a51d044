"""What a run says where no bar can be drawn."""

import io
import time
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console as RichConsole

from stratos.run import console
from stratos.run.console import Console, PlainConsole


def test_a_stage_without_a_word_for_long_says_that_it_is_at_work(monkeypatch):
    monkeypatch.setattr(console, "_HEARTBEAT_S", 0.2)
    file = io.StringIO()
    with Console(RichConsole(file=file, width=80)).stage("probe") as tick:
        tick(1, 4, "smollm2")
        tick(2, 4, "smollm2")
        deadline = time.monotonic() + 20
        while file.getvalue().count("\n") < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
    first, told, *silent = file.getvalue().splitlines()
    assert first.split() == ["probe", "…"]
    assert told.split() == ["probe", "50%", "smollm2"]
    for line in silent:
        assert line.split()[:7] == ["probe", "50%", "smollm2,", "still", "at", "work", "after"]
    after = len(file.getvalue())
    time.sleep(0.5)
    assert len(file.getvalue()) == after


def test_a_log_has_a_line_for_each_5_percent_at_most(monkeypatch):
    monkeypatch.setattr(console, "_HEARTBEAT_S", 0.01)
    monkeypatch.setattr(console, "_LONGEST_SILENCE", 1000)
    file = io.StringIO()
    with Console(RichConsole(file=file, width=80)).stage("distill") as tick:
        for done in range(200):
            tick(done, 200, "loss")
            time.sleep(0.011)
    told = [line.split() for line in file.getvalue().splitlines()[1:]]
    shares = [int(words[1].rstrip("%")) for words in told if "still" not in words]
    assert 2 < len(shares) <= 20
    # As they are written, without a digit behind the point.
    assert all(later - share >= 4 for share, later in pairwise(shares))


def test_another_part_of_a_stage_is_told_though_its_share_is_less(monkeypatch):
    monkeypatch.setattr(console, "_HEARTBEAT_S", 0.02)
    file = io.StringIO()
    with Console(RichConsole(file=file, width=80)).stage("deploy") as tick:
        for share, text in ((90, "requests"), (10, "streamed requests")):
            tick(share, 100, text)
            deadline = time.monotonic() + 20
            while f"{share}% {text}\n" not in file.getvalue() and time.monotonic() < deadline:
                time.sleep(0.01)
    assert "10% streamed requests\n" in file.getvalue()


def test_a_stage_that_is_silent_is_told_of_ever_more_seldom(monkeypatch):
    monkeypatch.setattr(console, "_HEARTBEAT_S", 0.01)
    file = io.StringIO()
    with Console(RichConsole(file=file, width=80)).stage("probe"):
        time.sleep(1.0)
    told = file.getvalue().splitlines()[1:]
    assert 3 <= len(told) <= 7, "after 1, 2, 4, 8, 16, 32 beats and so on"


@pytest.mark.parametrize("is_off", [True, False])
def test_no_color_is_heeded(monkeypatch, is_off):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    if is_off:
        monkeypatch.setenv("NO_COLOR", "1")
    rich = PlainConsole(width=80)
    with rich.capture() as caught:
        rich.print("text", style="red")
    assert ("\x1b[31m" in caught.get()) is not is_off


@pytest.mark.parametrize("ended", [SystemExit(143), SystemExit(129), KeyboardInterrupt()])
def test_a_run_that_a_signal_ends_says_how_it_goes_on(ended: BaseException, tmp_path: Path) -> None:
    out = io.StringIO()
    console = Console(RichConsole(file=out, width=200), folder=tmp_path)
    with pytest.raises(type(ended)), console.closing():
        raise ended
    assert "The same command resumes with" in out.getvalue()
    with pytest.raises(SystemExit), console.closing():
        raise SystemExit(2)
    assert out.getvalue().count("Interrupted.") == 1
