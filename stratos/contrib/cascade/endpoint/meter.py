"""The cascade that a run has made, ready to be served.

Dollars are kept in a file, so that a limit holds over restarts. A call is written down as open
before it is sent, and as paid when its answer or its refusal is there: a process that is killed
counts the ceilings of what was under way, and no more.

The file is named by the digest of the bundle: a run that was moved keeps its count, and another
bundle in its place begins at $0.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from stratos.contrib.cascade.config import settings
from stratos.contrib.cascade.pairs import bundle_digest, is_of_bundle
from stratos.contrib.cascade.record import Cascade
from stratos.core.atomic_files import write_atomically
from stratos.core.errors import StratosError
from stratos.core.process import is_locked, locked
from stratos.core.values import named
from stratos.deploy.hosted_server import FrontProgram, Hosted
from stratos.ledger import Overrun
from stratos.report.sweep_jobs import record_of
from stratos.teachers.openai import OpenAITeacher

_KEPT_DAYS = 62


@dataclass
class Spent:
    """What lies in the file."""

    usd_by_day: dict[str, float] = field(default_factory=dict)
    """YYYY-MM-DD (UTC) to dollars."""
    usd_open: float = 0.0
    """Dollars that calls under way may take, which count for the day of `opened`."""
    opened: str = ""
    overrun: Overrun = field(default_factory=Overrun)
    """By how much answers passed their ceilings."""


@dataclass
class Counters:
    """What happened since the endpoint was started."""

    requests: int = 0
    """Answered by the cascade."""
    escalated: int = 0
    """Whose answer by the student was judged to be unsure."""
    teacher_answers: int = 0
    teacher_input_tokens: int = 0
    teacher_output_tokens: int = 0
    usd: float = 0.0
    """Dollars of the teacher."""
    out_of_money: int = 0
    """Unsure answers that were given all the same, since a limit on dollars was reached."""
    unavailable: int = 0
    """Unsure ones whose teacher gave no answer in time."""
    student_errors: int = 0
    """Requests that the student's server did not answer."""
    refused: int = 0
    """Requests that were wrong."""


@dataclass
class Facts(Counters):
    """What a cascade has asked and spent since it was started, and on this day and in this month.

    The latter two are UTC, with what was spent before this start.
    """

    usd_today: float = 0.0
    usd_this_month: float = 0.0
    usd_per_day: float | None = None
    """Limit; None for none."""
    usd_per_month: float | None = None


class Meter:
    """Money and counters of one endpoint.

    Args:
        path: where the dollars are kept.
        usd_per_day: limit of a day (UTC); None for none.
        usd_per_month: limit of a calendar month.
    """

    def __init__(self, path: Path, usd_per_day: float | None, usd_per_month: float | None) -> None:
        """Read what was spent before; what was under way then counts as spent."""
        self.counters = Counters()
        self.usd_per_day, self.usd_per_month = usd_per_day, usd_per_month
        self._path = path
        self._open = self._held = 0.0
        self._is_behind = False
        """Whether the file lacks what was spent, since it could not be written."""
        self._kept = read_kept(path)
        if self._kept.usd_open:
            day = self._kept.opened or _today()
            self._add(day, self._kept.usd_open)
            self._kept.usd_open = 0.0
            self._write_or_later(0.0)

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit."""
        return self.usd_per_day is not None or self.usd_per_month is not None

    @property
    def overrun(self) -> Overrun:
        """By how much answers passed their ceilings."""
        return self._kept.overrun

    def learn(self, overrun: Overrun) -> bool:
        """Note by how much an answer passed its ceiling; return whether that is new.

        It is written down with what the answer cost.
        """
        risen = self._kept.overrun | overrun
        is_new = risen != self._kept.overrun
        self._kept.overrun = risen
        return is_new

    def take(self, most_usd: float) -> bool:
        """Set aside what a call may cost at most; return False if a limit does not allow it.

        Raises:
            OSError: it cannot be written down; then nothing is set aside.
        """
        today = _today()
        for limit, spent in (
            (self.usd_per_day, self.spent(today)),
            (self.usd_per_month, self.spent(today[:7])),
        ):
            if limit is not None and spent + self._open + most_usd > limit + 1e-12:
                return False
        open_usd = self._open + most_usd
        # What is sent on a new day counts for it, also if this process is killed.
        if self._is_behind or self._kept.opened != today or open_usd > self._held + 1e-12:
            self._write(open_usd)
        self._open = open_usd
        return True

    def cover(self, usd: float) -> None:
        """Set more aside for a call under way, whatever the limits."""
        self._open += usd
        if self._open > self._held + 1e-12:
            self._write_or_later(self._open)

    def pay(self, most_usd: float, usd: float) -> None:
        """Settle a call at its price.

        Args:
            most_usd: as it was set aside.
            usd: what it cost.
        """
        self._open = max(0.0, self._open - most_usd)
        # What is written down as open falls by what is spent: their sum never falls below what may
        # be owed, so that a restart counts no less.
        self._held = max(0.0, self._held - most_usd)
        self._add(_today(), usd)
        self.counters.usd += usd
        self._write_or_later(max(self._held, self._open))

    def spent(self, period: str) -> float:
        """Return the dollars of a day (YYYY-MM-DD) or a month (YYYY-MM)."""
        return sum(usd for day, usd in self._kept.usd_by_day.items() if day.startswith(period))

    def close(self) -> None:
        """Write down what was spent, with nothing under way."""
        self._add(_today(), self._open)
        self._open = 0.0
        self._write_or_later(0.0)

    def facts(self) -> Facts:
        """Return all counters, and what is spent of each limit."""
        if self._is_behind:
            self._write_or_later(max(self._held, self._open))
        today = _today()
        return Facts(
            **vars(self.counters),
            usd_today=self.spent(today),
            usd_this_month=self.spent(today[:7]),
            usd_per_day=self.usd_per_day,
            usd_per_month=self.usd_per_month,
        )

    def _add(self, day: str, usd: float) -> None:
        days = self._kept.usd_by_day
        days[day] = days.get(day, 0.0) + usd
        for old in sorted(days)[:-_KEPT_DAYS]:
            del days[old]

    def _write(self, open_usd: float) -> None:
        self._kept.usd_open, self._kept.opened = open_usd, _today()
        write_atomically(self._path, msgspec.json.encode(self._kept))
        self._held, self._is_behind = open_usd, False

    def _write_or_later(self, open_usd: float) -> None:
        """Write what was spent; if the disk does not take it, before the next call is sent.

        Until then the file has the ceiling of what was set aside.
        """
        try:
            self._write(open_usd)
        except OSError as error:
            if not self._is_behind:
                message = (
                    f"{self._path} cannot be written ({error.strerror}): the teacher is not asked"
                )
                print(f"{message} until it can be.", file=sys.stderr, flush=True)
            self._is_behind = True


def meter_of(bundle: Path, cache_dir: Path) -> Path:
    """Return the file that counts the dollars of a bundle's teacher, wherever the bundle lies."""
    return cache_dir / "served" / f"{bundle_digest(bundle)[:16]}.meter"


@contextmanager
def counting(bundle: Path, cache_dir: Path) -> Iterator[Path]:
    """Yield the file of a bundle's dollars, for this process alone.

    Raises:
        StratosError: another endpoint of the same bundle counts in it.
    """
    path = meter_of(bundle, cache_dir)
    try:
        with locked(path.with_suffix(".counting")):
            yield path
    except BlockingIOError:
        raise StratosError(counted_elsewhere(bundle)) from None


def counted_elsewhere(bundle: Path) -> str:
    """Return why a second endpoint of a bundle is not started."""
    return (
        f"A copy of {bundle} is served with --cascade on this machine already: a second one would "
        "spend its limits twice. To see it, type: stratos serve status"
    )


def read_kept(path: Path) -> Spent:
    """Return what is kept; nothing where there is no file.

    Raises:
        StratosError: it cannot be read: a limit could not be held without it.
    """
    try:
        spent = msgspec.json.decode(path.read_bytes(), type=Spent)
        amounts = (*spent.usd_by_day.values(), spent.usd_open, spent.overrun.extra_input_tokens)
        if min(amounts) < 0 or spent.overrun.output_factor < 1:
            raise ValueError("an amount in it is negative")
    except FileNotFoundError:
        return Spent()
    except (OSError, ValueError, RecursionError) as error:
        raise StratosError(
            f"{path}, which counts the dollars of the cascade's teacher, cannot be read ({error}). "
            "Put it back from a copy, or delete it to count from $0."
        ) from error
    return spent


def _today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())


PROGRAM = "stratos.contrib.cascade.endpoint"
"""What is started, as for `python -m`."""
ALONE = ":student"
"""End of a model's name that asks the student alone, whatever it is sure of."""


def front_of(bundle: Path, cache_dir: Path, options: list[str]) -> FrontProgram:
    """Return what is started to serve the cascade of a run.

    Args:
        bundle: of the student, in the folder of its run.
        cache_dir: where the dollars of the teacher are counted.
        options: of the endpoint, as they were typed.

    Raises:
        StratosError: there is no run, no cascade, or no teacher that can be asked.
    """
    from stratos.run.stored_config import config_of

    run = bundle.parent
    if bundle.name != "bundle" or not (run / ".hydra" / "config.yaml").is_file():
        raise StratosError(
            f"{bundle} lies in no folder of a run, so that nothing is known of its teacher: name "
            "the folder of the run."
        )
    made = cascade_in(run)
    assert made.endpoint is not None
    config = config_of(run)
    try:
        teacher = named(config.teachers, made.endpoint.teacher)
    except KeyError:
        raise StratosError(f"{run}: its teacher {made.endpoint.teacher} is not known.") from None
    # A key that is missing stays so; an endpoint that is down may come back.
    if isinstance(teacher, OpenAITeacher):
        teacher.key()
    elif (why := teacher.unreachable()) is not None:
        raise StratosError(f"{teacher.name} cannot be asked: {why}")
    arguments = [str(run), "--cache", str(cache_dir.absolute()), *options]
    return FrontProgram(
        module=PROGRAM,
        arguments=arguments,
        student=f"{run.name}{ALONE}",
        title="with its teacher behind it",
        run=made.endpoint.run,
    )


def check_alone(bundle: Path, cache_dir: Path, before: Hosted | None) -> None:
    """Refuse a second endpoint whose dollars would be counted in the same file.

    Args:
        bundle: that is to be served.
        cache_dir: where the dollars are counted.
        before: what is served from there, and ends before.

    Raises:
        StratosError: another one runs.
    """
    is_own = (
        before is not None and before.runs and before.module == PROGRAM and not before.is_outdated
    )
    if not is_own and is_locked(meter_of(bundle, cache_dir).with_suffix(".counting")):
        raise StratosError(counted_elsewhere(bundle))


def cascade_in(run: Path) -> Cascade:
    """Return the cascade of a run.

    Raises:
        StratosError: it has none, one that keeps no promise, or one that was not made for the
            student that lies there now, or not with the promise that the run was given last.
    """
    from stratos.run.stored_config import config_of

    cascade: Cascade | None = record_of(run, "cascade", Cascade)
    if cascade is None or cascade.endpoint is None:
        raise StratosError(
            f"{run} has no cascade. Give its command again with cascade.accuracy=<share>, such as "
            f"0.95: then the threshold is chosen. What would come of it: stratos cascade "
            f"{run} --accuracy 0.95"
        )
    options = settings(config_of(run))
    if (options.accuracy, options.confidence) != (cascade.accuracy, cascade.confidence):
        given = "null" if options.accuracy is None else f"{options.accuracy:g}"
        raise StratosError(
            f"{run} was last given with cascade.accuracy={given} "
            f"cascade.confidence={options.confidence:g}, and its cascade was made for "
            f"cascade.accuracy={cascade.accuracy:g} cascade.confidence={cascade.confidence:g}. "
            "Give the command of the run again with these, or serve the student without --cascade."
        )
    if not is_of_bundle(cascade, run):
        raise StratosError(
            f"{run / 'cascade.json'} was made with another bundle than {run / 'bundle'}: its "
            "threshold is of another student. Give the command of the run again with "
            f"cascade.accuracy={cascade.accuracy:g}, so that the threshold is chosen for this one."
        )
    if not cascade.is_promised:
        raise StratosError(f"{run} has no cascade that keeps its promise. {cascade.text}")
    return cascade
