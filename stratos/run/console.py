"""The screen of a run: its lines, and one line that is alive while a stage works.

On a terminal the running stage is a progress bar. Anywhere else (a log, a pipe) there is nothing
to redraw: a line now and then says how far the stage is. `screen.LEVELS` says what is printed.
"""

from __future__ import annotations

import logging
import os
import re
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console as RichConsole
from rich.console import RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.text import Text

from stratos.core.formats import clock, duration, visible
from stratos.core.output import QUIET, VERBOSE, is_for_machines, is_on
from stratos.core.process import every
from stratos.records import RoomRecord
from stratos.run.screen import Level, Line, lines_of

_HEARTBEAT_S = 60.0
"""Seconds between two lines of a running stage where no bar can be drawn, at least."""
_LONGEST_SILENCE = 30
"""Heartbeats without a line, at most: half an hour."""
_NAME_WIDTH = 10
"""Columns of the names of lines."""
_WIDTH = 100
"""Columns of a line, at most."""
_WARNING_LENGTH = _WIDTH - _NAME_WIDTH - 1
"""Characters of a warning on the screen, one line; the page and the log have all of it."""
_REST = " … (whole: --verbose)"
"""End of a warning that is longer."""
_TYPED = re.compile(r"\b[a-z_]+\.[a-z_.]+=[^\s,;…]*[^\s,;.…](?!…)")
"""What a warning says to type: a key and its value."""
_SIGNALLED = (129, 143)
"""Exit codes of a process that SIGHUP or SIGTERM has ended."""
_LOG_WIDTH = 120
"""Columns of a table in a log, which has no width of its own."""


RUN_LOG = "stratos.run"
"""Logger of what a run says: it goes to the log in the run folder, and not to the console again."""
_log = logging.getLogger(RUN_LOG)


class Pace:
    """How fast a stage goes on, part by part.

    A stage begins a new part of its work with a share of 0, or with a smaller one than before. What
    its earlier parts took, or what was prepared before the first item, is no part of its pace.
    """

    def __init__(self, now: float) -> None:
        """Begin with a stage.

        Args:
            now: a clock's seconds, as everywhere here.
        """
        self._share, self._is_prepared = 0.0, True
        self._first_share, self._began = 0.0, now

    def tick(self, share: float, now: float) -> None:
        """Take the share that is done."""
        if not share:
            self._is_prepared = False
        elif share < self._share or not self._is_prepared:
            self._first_share, self._began, self._is_prepared = share, now, True
        self._share = share

    def left_s(self, now: float) -> float | None:
        """Return the seconds that the part takes yet; None before its pace is known."""
        done = self._share - self._first_share
        if not 0 < self._share < 1 or done <= 0:
            return None
        return (now - self._began) / done * (1 - self._share)


class PlainConsole(RichConsole):
    """A console to which text is text: brackets are no markup, and escapes are made visible.

    Names and reasons come from catalogs, models and servers.
    """

    def __init__(self, width: int | None = None) -> None:
        """Write as wide as the output is unless `width` says otherwise.

        That is standard output; standard error where that is kept for one line of JSON.
        """
        # A cell of a notebook calls itself a terminal, and keeps each picture of a bar.
        is_notebook = RichConsole().is_jupyter
        super().__init__(
            force_jupyter=False, force_terminal=False if is_notebook else None,
            highlight=False, markup=False, emoji=False, width=width, stderr=is_for_machines(),
            color_system=None if os.environ.get("NO_COLOR") else "auto",  # no bold, either
        )  # fmt: skip

    def render_str(self, text: str, **options: Any) -> Text:
        """Return text as it is shown: every cell of a table passes here."""
        return super().render_str(visible(text), **options)


def level_of_flags() -> Level:
    """Return how much is printed, by what was typed."""
    return Level.VERBOSE if is_on(VERBOSE) else Level.QUIET if is_on(QUIET) else Level.DEFAULT


class Console:
    """Says everything that a run says."""

    def __init__(
        self,
        rich: RichConsole | None = None,
        level: Level | None = None,
        *,
        explain: bool = False,
        folder: Path | None = None,
    ) -> None:
        """Write to the terminal unless another console is given.

        Args:
            rich: where to write.
            level: how much is printed; None for what was typed.
            explain: print the plan with all that explains it, whatever else is printed.
            folder: of the run, where it goes on after an interruption.
        """
        self.level = level_of_flags() if level is None else level
        self.explain = explain
        self.folder = folder
        self.rich = rich or PlainConsole()
        if rich is None and not self.rich.is_terminal:
            self.rich = PlainConsole(width=_LOG_WIDTH)
        self._patience = 1
        """Heartbeats until the next line of progress in a log."""

    def show(self, lines: Iterable[Line], after: str = "") -> None:
        """Write lines to the log, and print those that are for this screen.

        Args:
            lines: in their order.
            after: what is added to the first that is printed.
        """
        for line in lines:
            first, *rest = line.text.split("\n")
            text = visible("\n".join([f"{first}{after}", *rest]))
            _log.info("%s: %s", line.name, text)
            if line.level <= self.level:
                self._print(line.name, text, line.style)
                after = ""

    def table(self, content: RenderableType) -> None:
        """Print a table or a text as it is."""
        self.rich.print(content, soft_wrap=isinstance(content, str | Text))

    def _print(self, name: str, text: str, style: str = "") -> None:
        """Print a text behind its name, in as many lines as it takes."""
        room = max(40, min(_WIDTH, self.rich.width) - _NAME_WIDTH - 1)
        if name == "note" and not self.rich.is_terminal:
            room = max(room, len(text))  # programs wait for what a job or another run does
        lines = [
            line
            for part in text.split("\n")
            for line in textwrap.wrap(
                part, room, subsequent_indent="  " if part.startswith("  ") else "",
                break_long_words=False, break_on_hyphens=False,
            )
        ]  # fmt: skip
        for n, line in enumerate(lines):
            head = ("" if n else name).ljust(_NAME_WIDTH)
            whole = Text.assemble((head, f"bold {style}"), f" {line}".replace("\u00a0", " "))
            self.rich.print(whole, soft_wrap=True)

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Keep other voices off the console, and say so if the user interrupts the work."""
        logging.captureWarnings(True)  # Python's own warnings belong in the log file
        # Bars of Hugging Face libraries would tear ours; read when they are imported.
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        try:
            yield
        except KeyboardInterrupt:
            self._say_kept()
            raise
        except SystemExit as ended:  # a training that a signal ended, once its step was saved
            if ended.code in _SIGNALLED:
                self._say_kept()
            raise
        except Exception as error:
            _log.error("%s: %s", type(error).__name__, visible(str(error)))
            raise
        finally:
            logging.captureWarnings(False)

    def _say_kept(self) -> None:
        """Say that what is finished is kept, and how to go on."""
        text = "Finished work is kept."
        if self.folder is not None:
            text += f" The same command resumes with hydra.run.dir={from_here(self.folder)}"
        self.rich.print(Text.assemble(("Interrupted.", "yellow"), f" {text}"), soft_wrap=True)
        _log.warning("Interrupted. %s", text)

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[..., None]]:
        """Show that a stage runs; yields its `tick(done, total, text="")`."""
        _log.info("%s begins", name)
        work = _Work(name)
        if self.level == Level.QUIET:
            yield work.tick
        elif not self.rich.is_terminal:
            if self.level == Level.VERBOSE:
                self._patience = 1
            with self._heartbeat(work):
                yield work.tick
        else:
            columns = SpinnerColumn(), BarColumn(bar_width=20), TextColumn("{task.description}")
            columns[2].markup = False
            with Progress(*columns, console=self.rich, transient=True) as progress:
                bar = progress.add_task(f"progress: {work.text()}", total=None)

                def tick(done: float, total: float, text: str = "") -> None:
                    work.tick(done, total, text)
                    described = f"progress: {visible(work.text())}"
                    progress.update(bar, completed=done, total=total or None, description=described)

                yield tick

    @contextmanager
    def _heartbeat(self, work: _Work) -> Iterator[None]:
        """Print now and then how far a stage is, ever more seldom the longer the run takes."""
        n_silent = 0

        def beat() -> None:
            nonlocal n_silent
            n_silent += 1
            if n_silent >= self._patience:
                self._print("progress", visible(work.text()), "dim")
                self._patience, n_silent = min(2 * self._patience, _LONGEST_SILENCE), 0

        with every(_HEARTBEAT_S, beat):
            yield

    def done(self, name: str, record: Any, again: bool = False) -> None:
        """Print what a stage came to, and whether it was made before."""
        self.show(lines_of(record), "  (made\u00a0before)" if again else "")
        if not again and not isinstance(record, RoomRecord):
            self.show([Line("took", f"{name}: {duration(record.seconds)}")])
        if name == "plan" and (self.explain or self.level == Level.VERBOSE):
            self._show_plan(record)

    def skipped(self, name: str) -> None:
        """Say that a stage was switched off."""
        self.show([Line("detail", f"{name}: switched off")])

    def note(self, text: str) -> None:
        """Say what a user wants to know now."""
        self.show([Line("note", text)])

    def detail(self, text: str) -> None:
        """Say something that explains what happens next."""
        self.show([Line("detail", text)])

    def warn(self, text: str) -> None:
        """Say something that the user should read; what is long is whole on the page."""
        _log.warning("%s", visible(text))
        if self.level > Level.QUIET:
            is_whole = self.level >= Level.VERBOSE
            self._print("warning", visible(text if is_whole else _shortened(text)), "yellow")

    def _show_plan(self, plan: Any) -> None:
        from stratos.plan.explain.show import (
            alternatives_table,
            explanation,
            frontier_table,
            only_plan,
        )
        from stratos.plan.schedule import schedule_text
        from stratos.plan.worth import ways_table

        if plan.worth is not None:
            self.table(ways_table(plan.worth))
        if only := only_plan(plan):
            self.table(visible("\n".join(only)))
        else:
            self.table(frontier_table(plan))
            self.table(alternatives_table(plan))
        self.table(explanation(plan))
        if ahead := schedule_text(plan):
            self.table(ahead)


def _shortened(text: str) -> str:
    """Return a text, or what one line holds: its beginning, and what it says to type."""
    line = " ".join(text.split())
    if len(line) <= _WARNING_LENGTH:
        return line
    rest = _REST
    if (typed := _TYPED.search(line)) and len(typed[0]) < _WARNING_LENGTH // 2:
        rest = f" … {typed[0]}{_REST}"
    cut = line[: _WARNING_LENGTH - len(rest)]
    whole_words = cut.rpartition(" ")[0]
    beginning = whole_words if 2 * len(whole_words) > len(cut) else cut  # a path may be long
    return f"{beginning}{_REST if typed and typed[0] in beginning else rest}"


class _Work:
    """How far a stage is."""

    def __init__(self, name: str) -> None:
        self._name, self._began = name, time.monotonic()
        self._share, self._text, self._pace = 0.0, "", Pace(self._began)

    def tick(self, done: float, total: float, text: str = "") -> None:
        """Take how far it is."""
        self._share, self._text = (done / total if total else 0.0), text
        self._pace.tick(self._share, time.monotonic())

    def text(self) -> str:
        """Return share, time left and what is done, as one line."""
        now = time.monotonic()
        far = (
            f"{min(self._share, 0.99):.0%} done"
            if self._share
            else f"at work for {duration(now - self._began)}"
        )
        left_s = self._pace.left_s(now)
        if left_s is not None and " left" not in self._text:
            far += f", about {clock(left_s)} left"
        return f"{self._name} {far}{f' · {self._text}' if self._text else ''}"


def from_here(folder: Path) -> str:
    """Return a path as it may be typed where the command was."""
    folder = folder.absolute()
    return str(folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder)
