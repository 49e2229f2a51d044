"""What is printed at which level, and how far a stage is where no bar can be drawn."""

import io
import re
import time

import pytest
from rich.console import Console as RichConsole

from stratos.run import console
from stratos.run.console import Console, PlainConsole
from stratos.run.screen import Level, Line


def test_progress_in_a_log_says_that_it_is_progress(monkeypatch):
    monkeypatch.setattr(console, "_HEARTBEAT_S", 0.05)
    file = io.StringIO()
    with Console(RichConsole(file=file, width=80), Level.DEFAULT).stage("probe") as tick:
        tick(1, 4, "smollm2")
        deadline = time.monotonic() + 20
        while "\n" not in file.getvalue() and time.monotonic() < deadline:
            time.sleep(0.05)
    line = file.getvalue().splitlines()[0]
    assert re.fullmatch(r"progress   probe 25% done, about \d+:\d\d left · smollm2", line)


def test_time_left_is_that_of_the_part_at_its_own_pace(monkeypatch):
    now = 1_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    file = io.StringIO()
    with Console(RichConsole(file=file, width=80), Level.QUIET).stage("deploy") as tick:
        work = tick.__self__
        tick(0, 32, "server starts")
        now += 25
        tick(1, 32, "requests · 1 of 32")
        assert work.text() == "deploy 3% done · requests · 1 of 32", "the start is no request"
        now += 1
        tick(2, 32, "requests · 2 of 32")
        assert work.text() == "deploy 6% done, about 0:30 left · requests · 2 of 32"
        tick(32, 32, "requests · 32 of 32")
        tick(1, 250, "random arrivals · 1 of 250")
        assert " left" not in work.text(), "a part of its own"
        now += 1
        tick(26, 250, "random arrivals · 26 of 250")
        assert "10% done, about 0:09 left" in work.text()


def test_a_long_run_is_told_of_ever_more_seldom(monkeypatch):
    monkeypatch.setattr(console, "_HEARTBEAT_S", 0.01)
    for level, fewest, most in ((Level.QUIET, 0, 0), (Level.DEFAULT, 3, 7), (Level.VERBOSE, 6, 13)):
        file = io.StringIO()
        shown = Console(RichConsole(file=file, width=80), level)
        for stage in ("probe", "distill"):
            with shown.stage(stage):
                time.sleep(0.5)
        assert fewest <= file.getvalue().count("\n") <= most, level


def test_a_line_is_broken_between_words_and_never_in_a_path():
    file = io.StringIO()
    path = "folder/" * 20
    shown = Console(RichConsole(file=file, width=300), Level.DEFAULT)
    shown.show([Line("page", f"{'word ' * 30}{path}"), Line("detail", "of the verbose")])
    first, second, third = file.getvalue().splitlines()
    assert first.startswith("page       word") and len(first) <= 100
    assert second.startswith(" " * 11 + "word") and third.strip() == path


@pytest.mark.parametrize(
    ("level", "names"),
    [
        (Level.QUIET, ["verdict"]),
        (Level.DEFAULT, ["rows", "verdict"]),
        (Level.VERBOSE, ["rows", "detail", "verdict"]),
    ],
)
def test_each_level_has_its_lines(level, names):
    file = io.StringIO()
    lines = [Line(name, "text") for name in ("rows", "detail", "why", "verdict")]
    Console(RichConsole(file=file, width=100), level).show(lines)
    assert [line.split()[0] for line in file.getvalue().splitlines()] == names


def test_a_long_warning_is_whole_where_all_is_printed():
    for level, is_whole in ((Level.DEFAULT, False), (Level.VERBOSE, True)):
        for text in ("word " * 100, f"{'word/' * 100} is a path"):
            file = io.StringIO()
            Console(RichConsole(file=file, width=100), level).warn(text)
            lines = file.getvalue().splitlines()
            assert (file.getvalue().count("word") == 100) is is_whole
            assert is_whole or (len(lines) == 1 and 50 < len(lines[0]) <= 100)


def test_a_warning_that_is_cut_short_has_what_to_type():
    file = io.StringIO()
    text = f"29 rows stay out, {'for a reason of many words ' * 4}: task.compares_words=false."
    Console(RichConsole(file=file, width=100), Level.DEFAULT).warn(text)
    [line] = file.getvalue().splitlines()
    assert line.endswith("… task.compares_words=false … (whole: --verbose)") and len(line) <= 100


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
def test_a_run_that_a_signal_ends_says_how_it_goes_on(ended, tmp_path):
    out = io.StringIO()
    console = Console(RichConsole(file=out, width=200), folder=tmp_path)
    with pytest.raises(type(ended)), console.closing():
        raise ended
    assert "The same command resumes with" in out.getvalue()
    with pytest.raises(SystemExit), console.closing():
        raise SystemExit(2)
    assert out.getvalue().count("Interrupted.") == 1


def test_a_line_of_progress_comes_once_a_minute_at_most():
    assert console._HEARTBEAT_S >= 60
