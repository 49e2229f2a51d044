"""Stratos as a library: a run in this process, and what came out of it as values.

`distil` composes the config of the command `stratos run`, finds every mistake in it before anything
is asked or paid, and runs the same stages in the same folder. The process stays its caller's
(`stratos.core.process`).
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import msgspec

from stratos.cli.compose import CONFIG_NAME, hydra_for, hydra_kept
from stratos.core.atomic_files import write_atomically
from stratos.core.errors import BusyError, ConfigError, StratosError, did_you_mean
from stratos.core.extensions import conf_dirs
from stratos.core.extras import required
from stratos.core.output import QUIET, Hiding, disk_errors, guarded, take_flags
from stratos.core.process import guest
from stratos.core.redact import without_secrets
from stratos.core.values import override
from stratos.deploy.student import Question, Served, Student, load
from stratos.evaluate.verdict import accuracy_as_served
from stratos.probe.look.columns import check_columns
from stratos.records import Interval, Plan
from stratos.report.costs import read_ledger
from stratos.report.run_verdict import RunVerdict, run_verdict
from stratos.run.resume import Stage, find
from stratos.run.stages import DEPLOY, EVALUATE, PLAN, STAGES
from stratos.run.stored_config import config_of

_INDEX = "__index_level_"
"""What the columns are called that pyarrow makes of the index of a pandas table."""


@runtime_checkable
class Table(Protocol):
    """A table that others can read without a copy: of pandas, polars, pyarrow or DuckDB."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Return its columns by Arrow's C data interface."""


InMemory: TypeAlias = Iterable[Mapping[str, Any]] | Table
"""Rows as dicts, or a table of any library that speaks Arrow."""


def write_rows(rows: InMemory, path: Path) -> None:
    """Write rows as JSON lines, at once.

    Dates become texts as ISO 8601 has them; what is missing (None, NaN, NaT) becomes null.

    Raises:
        ConfigError: they are no rows, or hold what JSON has no value for.
    """
    lines = [_line(number, row) for number, row in enumerate(_dicts(rows), 1)]
    write_atomically(path, b"".join(lines))


def _line(number: int, row: Any) -> bytes:
    if not isinstance(row, Mapping):
        raise ConfigError(
            f"row {number} is {type(row).__name__}, and not a dict of column to value: give a "
            'list such as [{"text": "…", "label": "…"}, …], a table, or the path of a file.'
        )
    try:
        return msgspec.json.encode(dict(row), enc_hook=_plain) + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"row {number} cannot be written as JSON ({error}).") from error


def _plain(value: Any) -> Any:
    """Return a number or an array of NumPy as Python's own."""
    import numpy as np

    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"it holds a value of {type(value).__name__}")


def _dicts(rows: InMemory) -> Iterator[Any]:
    """Yield the rows of a table or of an iterable."""
    if isinstance(rows, Table):
        yield from _of_table(rows)
        return
    if isinstance(rows, Mapping) or not isinstance(rows, Iterable):
        raise ConfigError(
            f"the data are {type(rows).__name__}: give the path of a file, a list of dicts, or a "
            "table of pandas, polars or pyarrow."
        )
    yield from rows


def _of_table(table: Table) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table as pyarrow reads them: without the index of pandas."""
    with required():
        import pyarrow

    try:
        read = pyarrow.table(table)
    except (pyarrow.ArrowException, TypeError, ValueError) as error:
        raise ConfigError(
            f"the table cannot be read ({error}): give each column values of one type."
        ) from error
    names = [name for name in read.column_names if not name.startswith(_INDEX)]
    for batch in read.select(names).to_batches():
        yield from batch.to_pylist()


T = TypeVar("T")

_FOLDER = "hydra.run.dir"
_ROWS = "rows.jsonl"
"""File in the run folder with rows that were given in memory."""


@dataclass(frozen=True)
class Run:
    """A run that has ended, by its folder: what it reached, what it cost, and its student.

    One of another day, or of the command, is opened by `Run("outputs/<run>")`. What a stage has not
    made, because the run was asked for fewer stages, is None.
    """

    folder: Path
    """Where its records, report and bundle lie."""

    def __post_init__(self) -> None:
        folder = Path(self.folder).expanduser().absolute()
        if not folder.is_dir():
            raise StratosError(f"{folder}: there is no such folder. A run is outputs/<run>.")
        object.__setattr__(self, "folder", folder)

    @cached_property
    def student(self) -> Student:
        """The student: `run.student("text")` is its answer.

        Raises:
            StratosError: the run has made none.
        """
        return load(self.folder)

    def predict(self, questions: Sequence[Question]) -> list[str]:
        """Return the answer to each text or chat; see `Student.predict`."""
        return self.student.predict(questions)

    def probability(self, question: Question) -> dict[str, float]:
        """Return the likeliest answers with their probabilities; see `Student.probability`."""
        return self.student.probability(question)

    def serve(self, port: int = 0) -> Served:
        """Host the student on this machine until the end of a `with` block; see `Student.serve`."""
        return self.student.serve(port)

    @property
    def plan(self) -> Plan | None:
        """What was planned: teacher, student, servers, dollars, hours, predicted accuracy."""
        return self._record(PLAN)

    @property
    def accuracy(self) -> Interval | None:
        """Share of right answers to test items, 0 to 1, with the ends of its 95% interval.

        Of the format that is served, where that was asked the test items, else of the student's own
        weights.
        """
        served = accuracy_as_served(self._record(EVALUATE), self._record(DEPLOY))
        return None if served is None else served[0]

    @cached_property
    def verdict(self) -> RunVerdict | None:
        """Whether to serve the student; None where there is nothing to compare it with.

        Raises:
            StratosError: the files that the run was made of cannot be read any more.
        """
        records = {stage.name: self._record(stage) for stage in STAGES}
        made = {name: record for name, record in records.items() if record is not None}
        with _alone(), guest(), hydra_kept():
            return run_verdict(config_of(self.folder), made)

    @property
    def cost_usd(self) -> float:
        """Dollars that the run has spent, as its ledger has them."""
        return sum(spend.usd for spend in read_ledger(self.folder / "ledger.jsonl"))

    @property
    def report(self) -> Path | None:
        """The page of the run, for a browser."""
        path = self.folder / "report.html"
        return path if path.is_file() else None

    def _record(self, stage: Stage[T]) -> T | None:
        stored = find(stage, self.folder)
        if stored is not None and stored.trouble:
            raise StratosError(stored.trouble)
        return None if stored is None else stored.record

    def __repr__(self) -> str:
        reached = self.accuracy
        accuracy = "" if reached is None else (
            f", accuracy={reached.mean:.3f} ({reached.low:.3f} to {reached.high:.3f})"
        )  # fmt: skip
        return f"Run({str(self.folder)!r}{accuracy}, cost_usd={self.cost_usd:g})"


def distil(
    data: str | PathLike[str] | InMemory,
    *,
    budget_usd: float | None = None,
    deadline_hours: float | None = None,
    accuracy: float | None = None,
    latency_ms: float | None = None,
    task: str | None = None,
    text: str | None = None,
    answer: str | None = None,
    teacher: str | None = None,
    student: str | None = None,
    cloud: str | None = None,
    seed: int | None = None,
    out: str | PathLike[str] | None = None,
    overrides: Sequence[str] = (),
    quiet: bool = False,
) -> Run:
    """Distil a student for a task, in this process, and return what came out.

        run = distil("tickets.csv", budget_usd=5, accuracy=0.9)
        run = distil([{"text": "…", "label": "billing"}, …], student="linear")
        run = distil("mahjong", out="outputs/mahjong")

    It does what `stratos run` does with the same settings. A call that was interrupted or killed
    goes on where it was, if it is given again with the same `out`.

    Args:
        data: the path of a file of rows (CSV, JSON lines, Parquet; also a URL), rows as a list of
            dicts, a table (pandas, polars, pyarrow, or another that speaks Arrow), or the name of a
            task that makes its own, such as "mahjong".
        budget_usd: dollars for everything, serving included; what would pass them is not begun.
        deadline_hours: until the student is trained.
        accuracy: least share of right answers, 0 to 1, that the plan has to predict.
        latency_ms: longest 95th percentile of one answer.
        task: kind of task, such as "classify" or "jsonl"; None tells by the columns.
        text: column with the text; None tells by the columns.
        answer: column with the label or the answer; None tells by the columns.
        teacher: a choice of the config group `teacher`; None lets the plan choose.
        student: the same of `student`, such as "linear"; None lets the plan choose.
        cloud: the same of `cloud`.
        seed: of test items, weights and order; None takes 0 for rows, and for a task that makes its
            items the time, which the run folder keeps.
        out: the run's folder; None makes a new one below `outputs/`.
        overrides: whatever else the config has, as it is typed behind `stratos run`:
            ["task.test_share=0.3", "stages=[probe,plan]"].
        quiet: print the verdict, the dollars, and where everything is, and no more.

    Raises:
        ConfigError: the settings or the rows cannot be used; the message lists all mistakes.
        BusyError: another run works in this process, or in this folder.
        InfeasibleError: no plan meets the limits; its `remedies` are changes that are enough.
        StratosError: a stage cannot go on; what was made before it is kept.
        KeyboardInterrupt: it was interrupted; a note of it says how to go on.
    """
    check_columns(text=text, answer=answer)
    settings = {
        "limits.budget_usd": budget_usd, "limits.deadline_hours": deadline_hours,
        "limits.accuracy": accuracy, "limits.latency_ms": latency_ms, "teacher": teacher,
        "student": student, "cloud": cloud, "seed": seed,
    }  # fmt: skip
    folder = _folder(out, overrides)
    with _alone(), guest(), guarded(), without_secrets(), _rows(data, folder) as source:
        take_flags([QUIET] if quiet else [])
        words = [*_words(_task(source, task, text, answer)), *_words(settings)]
        try:
            with _in_python():
                _run([*words, override(_FOLDER, str(folder)), *overrides], folder)
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(f'To go on, call distil again with out="{folder}".')
            raise
    return Run(folder)


_ARGUMENT = re.compile(r"\blimits\.(budget_usd|deadline_hours|accuracy|latency_ms)\b")
"""Keys of the config that are arguments here."""


@contextlib.contextmanager
def _in_python() -> Iterator[None]:
    """Name arguments of `distil` in a refusal as they are called here."""
    try:
        yield
    except StratosError as error:
        error.args = tuple(_ARGUMENT.sub(r"\1", str(text)) for text in error.args)
        raise


_LOCK = threading.Lock()


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Let one run at a time work in this process: two would put back what is the other's.

    Raises:
        BusyError: there is one.
    """
    if not _LOCK.acquire(blocking=False):
        raise BusyError("Another run works in this process: wait for it, or start a process.")
    try:
        yield
    finally:
        _LOCK.release()


def _words(settings: Mapping[str, Any]) -> list[str]:
    """Return what is set as Hydra's overrides."""
    return [
        override(key, value) if isinstance(value, str) else f"{key}={value}"
        for key, value in settings.items()
        if value is not None
    ]


def _folder(out: str | PathLike[str] | None, overrides: Sequence[str]) -> Path:
    """Return the folder of the run: named, else a new one."""
    typed = [word.partition("=")[2] for word in overrides if word.partition("=")[0] == _FOLDER]
    if typed:
        return Path(typed[-1].strip("'\""))
    if out is not None:
        return Path(out).expanduser()
    now = datetime.now()
    base = Path("outputs", f"{now:%Y-%m-%d}", f"{now:%H-%M-%S}")
    n = 1
    while (folder := base if n == 1 else base.with_name(f"{base.name}-{n}")).exists():
        n += 1
    return folder


@contextlib.contextmanager
def _rows(data: str | PathLike[str] | InMemory, folder: Path) -> Iterator[str]:
    """Yield the path of the data, or the name of a task; rows in memory lie in the run folder.

    Where the settings are refused, the folder is what it was.

    Raises:
        StratosError: the rows are none, or cannot be written there.
    """
    if isinstance(data, str | PathLike):
        yield fspath(data)
        return
    path, is_new = folder / _ROWS, not folder.exists()
    before = path.read_bytes() if path.exists() else None
    with disk_errors("start", folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with disk_errors("start", folder):
            write_rows(data, path)
        yield str(path)
    except ConfigError:
        if before is not None:
            write_atomically(path, before)
        else:
            path.unlink(missing_ok=True)
        if is_new:
            with contextlib.suppress(OSError):  # a run has begun there
                folder.rmdir()
        raise


def _task(source: str, task: str | None, text: str | None, answer: str | None) -> dict[str, Any]:
    """Return the settings of the task: named, or as the file's columns and answers are.

    Raises:
        ConfigError: the source is no file, and no task; or its columns cannot be told.
    """
    known = sorted(path.stem for folder in conf_dirs() for path in (folder / "task").glob("*.yaml"))
    is_file = "://" in source or Path(source).expanduser().exists()
    if not is_file and source in known:
        return {"+task": source, "task.question": text, "task.answer": answer}
    if not is_file and not Path(source).suffix:
        raise ConfigError(
            f"{source}: there is no such file, and no such task.{did_you_mean(source, known)} "
            f"Tasks: {', '.join(known)}."
        )
    if task is not None:
        return {"+task": task, "task.path": source, "task.question": text, "task.answer": answer}
    from stratos.probe.look import read_facts
    from stratos.probe.look.measure import settings

    try:
        facts = read_facts(source, text, answer)
    except ConfigError as error:
        hint = 'From Python: text="<column>", answer="<column>"; or task="<name>".'
        raise ConfigError(f"{error} {hint}") from error
    base, keys = settings(facts)
    return {"+task": base, **{f"task.{key}": value for key, value in keys.items()}}


def _run(words: Sequence[str], folder: Path) -> None:
    """Check and run what `stratos run` would be typed with.

    Raises:
        StratosError: it cannot be run, or a stage cannot go on.
    """
    from hydra._internal.utils import get_args_parser

    from stratos.cli.check import check
    from stratos.cli.commands.run import holds_another, run_composed, seeded
    from stratos.teachers.endpoint import end_loop

    failed: list[Exception] = []

    def job(composed: Any) -> None:
        try:
            with _log(folder / "stratos.log"):
                run_composed(composed)
        except Exception as error:  # which Hydra would print
            failed.append(error)

    args = get_args_parser().parse_args([])
    args.overrides = [*words]
    with contextlib.ExitStack() as stack:
        stack.enter_context(hydra_kept())
        stack.callback(end_loop)
        if (unseeded := check(args, holds_another)) is not None:
            args.overrides.append(seeded(unseeded))
        hydra = stack.enter_context(hydra_for(None))
        hydra.run(CONFIG_NAME, job, args.overrides, with_log_configuration=False)
    if failed:
        raise failed[0]


@contextlib.contextmanager
def _log(path: Path) -> Iterator[None]:
    """Keep what the run says in its folder, beside the warnings of Python and of Stratos."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(Hiding(logging.Formatter("[%(asctime)s][%(levelname)s] %(message)s")))
    own = logging.getLogger("stratos.run")
    own.setLevel(logging.INFO)
    own.propagate = False
    loggers = [own, logging.getLogger("stratos"), logging.getLogger("py.warnings")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()
