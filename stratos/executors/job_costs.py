"""What a job costs: its servers by the second, and what they send to this machine by the GB.

A job may run and end while nobody follows it. It is settled then by the words of its engine, else
by its own.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from stratos.core.atomic_files import write_atomically
from stratos.core.errors import BudgetError, StratosError
from stratos.core.formats import duration, exact_usd
from stratos.executors import submission
from stratos.executors.job import (
    BEGAN,
    PLANNED,
    Executor,
    Job,
    JobSpec,
    events_path,
    folder_of,
    job_name,
    read_events,
)
from stratos.ledger import Ledger
from stratos.ledger.reserves import AHEAD_S, Lease, Leave, expect, leases, leaves, rent

Spans = Sequence[tuple[float, float]]
"""Begin and end of each time that a job held its servers, in seconds since the epoch."""

# --- bytes ----------------------------------------------------------------------------------------

_WHOLE = re.compile(r"Total bytes received: ([\d,]+)")
_SO_FAR = re.compile(r"([\d,]+) +\d+%")


class ByteCounter:
    """Bytes that the servers of a stage have sent to this machine, counted in the run folder.

    The count only grows. What a copy has brought is read from what `rsync` says of it. So it counts
    even where the copy is cut short, or the process that began it.
    """

    def __init__(self, run: Path, stage: str) -> None:
        """Go on with what was counted before."""
        self._path = folder_of(run) / f"{stage}.received"
        self._copies = folder_of(run) / f"{stage}.copies"

    @property
    def total(self) -> int:
        """All bytes so far, those of copies that are under way among them."""
        total, counted = self._written()
        copies = (path for path in self._copies.glob("*") if path.name not in counted)
        return total + sum(map(_bytes_of, copies))

    def new_copy(self) -> Path:
        """Return a file for what `rsync` says of a copy."""
        self._copies.mkdir(parents=True, exist_ok=True)
        return self._copies / uuid4().hex[:12]

    def end_copy(self, copy: Path) -> None:
        """Count a copy that has ended; one that was counted already adds nothing.

        It is written down with the names of the copies in it whose file is there: a process that is
        killed before it deletes the file of a copy has not counted it twice.
        """
        total, counted = self._written()
        if copy.name not in counted:
            total += _bytes_of(copy)
            counted.add(copy.name)
        counted &= {path.name for path in self._copies.glob("*")}
        write_atomically(self._path, "\n".join([str(total), *sorted(counted)]).encode())
        copy.unlink(missing_ok=True)

    def _written(self) -> tuple[int, set[str]]:
        """Return the bytes that are written down, and the copies among them, by name."""
        try:
            total, *counted = self._path.read_text().split()
            return int(total), {*counted}
        except (OSError, ValueError):
            return 0, set()


def _bytes_of(copy: Path) -> int:
    """Return the bytes of a copy: of all of it, or as far as it has said."""
    try:
        text = copy.read_text(errors="replace")
    except OSError:
        return 0
    counts = _WHOLE.findall(text) or _SO_FAR.findall(text)
    return int(counts[-1].replace(",", "")) if counts else 0


# --- a job that nobody followed -------------------------------------------------------------------


def spans_of(executor: Executor, job: Job) -> Spans | None:
    """Return when a job held its servers, by its engine; None where that does not know."""
    try:
        return executor.spans(job)
    except (StratosError, OSError):
        return None


def settle_unseen(
    run: Path,
    stage: str,
    ledger: Ledger,
    spans: Spans | None,
    *,
    since: float | None = None,
    at: float | None = None,
) -> str:
    """Settle what is open of a job that ended while nobody followed it.

    Args:
        run: its folder.
        stage: of the job.
        ledger: of the run.
        spans: when it held its servers; None where its engine does not know.
        since: when they were handed to it, in seconds since the epoch; None where nobody saw it.
        at: when they were given back; None where nobody saw it.

    Returns:
        What is not known of its costs; "" where all is.
    """
    known = submission.find(run, stage)
    doubts = [
        settle(lease, run, stage, spans, since=since, at=at)
        for lease in leases_of(ledger, stage, "" if known is None else known.servers)
    ]
    for leave in leaves(ledger):
        if _is_of(leave.line.what, stage):
            leave.settle(ByteCounter(run, stage).total)
    submission.forget(run, stage)
    for name in {job_name(run, stage), *([] if known is None else [known.name])}:
        submission.take_off_list(name)
    return " ".join(filter(None, doubts))


def leases_of(ledger: Ledger, stage: str, what: str = "") -> list[Lease]:
    """Return the servers of a stage's job that are not released; a run has one job of a stage.

    Its folder may have been moved since, and its plan made anew: then name and server are others.

    Args:
        ledger: of the run.
        stage: of the job.
        what: they are called in the ledger, by the latest command.
    """
    return [lease for lease in leases(ledger)
            if lease.line.what == what or _is_of(lease.line.what, stage)]  # fmt: skip


def _is_of(what: str, stage: str) -> bool:
    return re.search(rf" (for|of) \S+-{re.escape(stage)}$", what) is not None


def settle(
    lease: Lease,
    run: Path,
    stage: str,
    spans: Spans | None,
    *,
    since: float | None = None,
    at: float | None = None,
) -> str:
    """Settle one lease of such a job; the arguments are those of `settle_unseen`.

    Without a word of the engine it is what the job said first and last. Without that it is all that
    is reserved, or the time since then where that is less: nothing is free because nobody looked.
    """
    line, launched = lease.line, lease.launched_at
    if launched is not None:
        end = last_end(spans, launched) or at or _last_event(run, stage)
        lease.release(None if end is None else max(launched, end))
        return ""
    if spans is None and since is not None:
        spans = [(since, at or _last_event(run, stage) or time.time())]
    if spans is None:
        spans = _spans_of_events(run, stage, line.at)
    if spans is None:
        return _settle_unknown(lease, stage)
    # Servers are rented before their job is submitted: what is earlier is of another job.
    cut = [(max(begin, line.at), end) for begin, end in spans if end > line.at]
    if not cut:
        lease.release()
        return ""
    lease.launch(cut[0][0])
    lease.release(cut[0][0] + sum(max(0.0, end - begin) for begin, end in cut))
    return ""


def _settle_unknown(lease: Lease, stage: str) -> str:
    line = lease.line
    most_s = line.reserved_usd / line.usd_per_hour * 3600 if line.usd_per_hour else 0.0
    seconds = min(most_s, max(0.0, time.time() - line.at))
    lease.launch(line.at)
    usd = lease.release(line.at + seconds)
    if not usd:
        return ""
    return (
        f"{stage}: nobody knows how long the servers of its earlier job ran. {exact_usd(usd)} "
        f"is booked for it, of {duration(seconds)}: what was reserved at most."
    )


def last_end(spans: Spans | None, after: float) -> float | None:
    """Return when servers were given back last, after a time; None where that is not known."""
    ends = (min(end, time.time()) for _, end in spans or () if end > after)
    return max(ends, default=None)


def _spans_of_events(run: Path, stage: str, after: float) -> Spans | None:
    """Return from when to when a job said something; None if it said nothing."""
    events, _ = read_events(run, stage, 0)
    starts = [values[2] for kind, values in events if kind == BEGAN and len(values) > 2]
    first = min((start for start in starts if start >= after), default=None)
    last = _last_event(run, stage)
    return None if first is None or last is None else [(first, max(first, last))]


def _last_event(run: Path, stage: str) -> float | None:
    """Return when a job said something last, in seconds since the epoch; None if it never did."""
    try:
        return events_path(run, stage).stat().st_mtime
    except OSError:
        return None


# --- a job that is followed -----------------------------------------------------------------------

_NEARLY_S = 240.0
"""Seconds by which a job may end earlier than its money: it saves before its time limit."""
_SAME_S = 1.0
"""Seconds by which two words of an engine may differ about one start."""
_SHORTER = ", or give the job fewer hours with executor.hours=<hours>"
"""What makes a job of unknown hours cost less."""
_METER_S = 30.0
"""Seconds between two lines of the ledger about servers that run."""
_ENDS_SHARE = 0.05
"""Share of the hours that are paid which is kept back for the end of a job, `AHEAD_S` at most."""


class JobCosts:
    """Reserved before a job is submitted, settled when its servers are given back."""

    def __init__(self, ledger: Ledger, executor: Executor, spec: JobSpec) -> None:
        """Set aside what it costs at most, or go on with what an earlier command set aside.

        Raises:
            BudgetError: there is no money for it.
        """
        self._ledger, self._spec = ledger, spec
        offer = "a server" if spec.offer is None else spec.offer.name
        self.what = f"{spec.role} {spec.nodes} × {offer} for {spec.name}"
        """What its servers are called in the ledger."""
        earlier = leases_of(ledger, spec.stage, self.what)
        earlier.sort(key=lambda lease: (lease.launched_at is not None, lease.line.at))
        for lease in earlier[:-1]:  # a run has one job of a stage
            settle(lease, spec.folder, spec.stage, None)
        self._is_earlier = bool(earlier)
        self._lease = earlier[-1] if earlier else self._rent()
        paid_hours = self.hours_left
        share_s = AHEAD_S if paid_hours is None else _ENDS_SHARE * 3600 * paid_hours
        self._ahead_s = max(executor.ends_s, min(AHEAD_S, share_s))
        self._meters_at = 0.0
        self._leave: Leave | None = None
        if egress_gb := executor.egress_gb(spec):
            try:
                self._leave = self._expect(egress_gb)
            except BaseException:
                self._lease.release()
                raise

    def settle_earlier(self, spans: Spans | None) -> str:
        """Settle what an earlier command left, whose job has ended unseen.

        Args:
            spans: when that job held its servers; None where its engine does not know.

        Returns:
            What is not known of its costs; "" where all is.
        """
        if not self._is_earlier:
            return ""
        self._is_earlier = False
        return self._settle_and_rent(spans)

    def catch_up(self, spans: Spans | None, since: float | None) -> None:
        """Settle what a job had and gave back while nobody followed it, before what it has now.

        Args:
            spans: each time that it held servers, by its engine; None where that does not know.
            since: when it got those that it has now; None where it waits for some.
        """
        launched = self._lease.launched_at
        past = [span for span in spans or () if since is None or span[0] < since - _SAME_S]
        has_gone = launched is not None and since is None
        if has_gone or any(end > (launched or 0.0) for _, end in past):
            self._settle_and_rent(past if past or launched is None else spans)

    def _settle_and_rent(self, spans: Spans | None) -> str:
        doubt = settle(self._lease, self._spec.folder, self._spec.stage, spans)
        self._lease = self._rent()
        return doubt

    def launch(self, since: float | None) -> None:
        """Take notice that its servers run, or ran before anybody saw them.

        Args:
            since: in seconds since the epoch; None for now.
        """
        if not self.is_launched:
            self._lease.launch(since)

    def meter(self) -> None:
        """Book what it has cost so far, now and then.

        Raises:
            BudgetError: there is no more money for it.
        """
        if time.monotonic() > self._meters_at:
            # Sooner where the money ends before that: a limit of minutes is used to its end.
            self._meters_at = time.monotonic() + self._lease.meter(
                ahead_s=self._ahead_s, every_s=_METER_S
            )
            if self._leave is not None:
                self._leave.meter(self._counter, self._ahead_gb(self._leave))

    @property
    def is_launched(self) -> bool:
        """Whether its servers were seen to run, and are not known to be back."""
        return self._lease.launched_at is not None

    @property
    def usd_per_hour(self) -> float:
        """What its servers cost an hour: as when they were reserved, whatever was typed since."""
        return self._lease.line.usd_per_hour

    @property
    def hours_left(self) -> float | None:
        """For how many hours of its servers there is money; None for any number."""
        left_usd = self._ledger.left_usd(role=self._spec.role)
        if left_usd is None or not self.usd_per_hour:
            return None
        left_usd += self._lease.set_aside_usd - self._lease.usd()
        return max(0.0, left_usd / self.usd_per_hour)

    def has_ended_with_money(self, hours: float | None) -> bool:
        """Return whether its servers ran for about so long as there was money for.

        Args:
            hours: for which there was money when the job was submitted.
        """
        if hours is None or not self.usd_per_hour:
            return False
        ran_s, paid_s = self._lease.usd() / self.usd_per_hour * 3600, hours * 3600
        return ran_s > max(paid_s / 2, paid_s - _NEARLY_S)

    @property
    def covers_copy(self) -> bool:
        """Whether one more copy may begin: it is set aside for, and the end of the job after it."""
        leave = self._leave
        return leave is None or leave.covers(self._counter, self._ahead_gb(leave))

    def return_servers(self, spans: Spans | None) -> None:
        """Take notice that the job waits for servers: those that it had are no more its own.

        Args:
            spans: each time that it held servers, by its engine; None where that does not know.
        """
        if (launched := self._lease.launched_at) is not None:
            self._lease.release(last_end(spans, launched))
            self._lease = self._rent()

    def release(self, spans: Spans | None = None) -> None:
        """Settle it: its servers are given back, and nothing more is sent.

        Args:
            spans: each time that the job held servers; None where nobody knows better than now.
        """
        launched = self._lease.launched_at
        self._lease.release(None if launched is None else last_end(spans, launched))
        if self._leave is not None:
            self._leave.settle(self._counter)

    def _ahead_gb(self, leave: Leave) -> float:
        """Return what the job has yet to send at most where it is told to end now."""
        returns = self._spec.returns
        if returns.copy_gb:  # what was sent so far are copies; one that is under way goes on
            return returns.end_gb + returns.copy_gb
        return max(0.0, returns.end_gb - leave.gb(self._counter))

    @property
    def _counter(self) -> int:
        return ByteCounter(self._spec.folder, self._spec.stage).total

    def _rent(self) -> Lease:
        spec = self._spec
        return rent(
            self._ledger,
            spec.role,
            self.what,
            spec.usd_per_hour,
            spec.planned_hours,
            server="" if spec.offer is None else spec.offer.name,
            advice=None if spec.stage in PLANNED else _SHORTER,
        )

    def _expect(self, egress_gb: float) -> Leave:
        what = f"egress of {self._spec.name}"
        earlier = next((leave for leave in leaves(self._ledger) if leave.line.what == what), None)
        if earlier is not None:
            return earlier
        price = self._spec.returns.usd_per_gb
        try:
            return expect(self._ledger, what, price, egress_gb, self._counter)
        except BudgetError as error:
            if not self._spec.returns.copy_gb:
                raise
            raise BudgetError(
                f"{error} Fewer copies of checkpoints cost less: "
                "executor.fetch_every_minutes=<more minutes>."
            ) from error
