"""The ledger's lines about one job: servers by the second, and what they send here by the GB."""

from __future__ import annotations

import time

from stratos.core.errors import BudgetError
from stratos.executors.job import Executor, JobSpec
from stratos.executors.job_of_stage import PLANNED
from stratos.executors.received import Received
from stratos.executors.unseen import Spans, egress_of, last_end, leases_of, settle
from stratos.ledger import Ledger
from stratos.ledger.reserves import Lease, Leave, expect, leaves, rent

_NEARLY_S = 240.0
"""Seconds by which a job may end earlier than its money: it saves before its time limit."""
_SAME_S = 1.0
"""Seconds by which two words of an engine may differ about one start."""
_SHORTER = ", or give the job fewer hours with executor.hours=<hours>"
"""What makes a job of unknown hours cost less."""
_METER_S = 30.0
"""Seconds between two lines of the ledger about servers that run."""


class Paid:
    """What a job costs: reserved before it is submitted, settled when its servers are given back.

    Raises:
        BudgetError: by `reserve` and `run`: there is no money for it, or no more.
    """

    def __init__(self, ledger: Ledger, executor: Executor, spec: JobSpec) -> None:
        self._ledger = ledger
        self._spec = spec
        self._egress_gb = executor.egress_gb(spec)
        offer = "a server" if spec.offer is None else spec.offer.name
        self.what = f"{spec.role} {spec.nodes} × {offer} for {spec.name}"
        """What its servers are called in the ledger."""
        self._lease: Lease | None = None
        self._is_left = False
        self._leave: Leave | None = None
        self._metered_at = 0.0

    def reserve(self) -> None:
        """Set aside what it costs at most, or go on with what an earlier command set aside."""
        left = leases_of(self._ledger, self._spec.stage, self.what)
        left.sort(key=lambda one: (one.launched_at is not None, one.line.at))
        for one in left[:-1]:  # a run has one job of a stage
            settle(one, self._spec.folder, self._spec.stage, None)
        self._lease, self._is_left = left[-1] if left else self._rent(), bool(left)
        if self._egress_gb and self._leave is None:
            try:
                self._leave = self._expect()
            except BaseException:
                self._lease.release()
                raise

    def settle_left(self, spans: Spans | None) -> str:
        """Settle what an earlier command left, whose job has ended unseen.

        Args:
            spans: when that job held its servers; None where its engine does not know.

        Returns:
            What is not known of its costs; "" where all is.
        """
        assert self._lease is not None
        if not self._is_left:
            return ""
        said = settle(self._lease, self._spec.folder, self._spec.stage, spans)
        self._is_left = False
        self._lease = self._rent()
        return said

    def catch_up(self, spans: Spans | None, since: float | None) -> None:
        """Settle what a job had and gave back while nobody followed it, before what it has now.

        Args:
            spans: each time that it held servers, by its engine; None where that does not know.
            since: when it got those that it has now; None where it waits for some.
        """
        assert self._lease is not None
        launched = self._lease.launched_at
        past = [one for one in spans or () if since is None or one[0] < since - _SAME_S]
        has_gone = launched is not None and since is None
        if has_gone or any(end > (launched or 0.0) for _, end in past):
            known = past if past or launched is None else spans
            settle(self._lease, self._spec.folder, self._spec.stage, known)
            self._lease = self._rent()

    def run(self, since: float | None) -> None:
        """Take notice that its servers run."""
        assert self._lease is not None
        if self._lease.launched_at is None:
            self._lease.launch(since)
        if time.monotonic() > self._metered_at + _METER_S:
            self._metered_at = time.monotonic()
            self._lease.meter()
            if self._leave is not None:
                self._leave.meter(self._counter, self._ahead_gb)

    @property
    def is_launched(self) -> bool:
        """Whether its servers were seen to run, and are not known to be back."""
        return self._lease is not None and self._lease.launched_at is not None

    @property
    def usd_per_hour(self) -> float:
        """What its servers cost an hour: as when they were reserved, whatever was typed since."""
        return self._spec.usd_per_hour if self._lease is None else self._lease.line.usd_per_hour

    @property
    def hours_left(self) -> float | None:
        """For how many hours of its servers there is money; None for any number."""
        left_usd = self._ledger.left_usd(role=self._spec.role)
        if left_usd is None or not self.usd_per_hour or self._lease is None:
            return None
        left_usd += self._lease.set_aside_usd - self._lease.usd()
        return max(0.0, left_usd / self.usd_per_hour)

    def has_ended_with_money(self, hours: float | None) -> bool:
        """Return whether its servers ran for about so long as there was money for.

        Args:
            hours: for which there was money when the job was submitted.
        """
        if hours is None or self._lease is None or not self.usd_per_hour:
            return False
        ran_s, paid_s = self._lease.usd() / self.usd_per_hour * 3600, hours * 3600
        return ran_s > max(paid_s / 2, paid_s - _NEARLY_S)

    @property
    def covers_copy(self) -> bool:
        """Whether one more copy may begin: it is set aside for, and the end of the job after it."""
        return self._leave is None or self._leave.covers(self._counter, self._ahead_gb)

    def ran(self, since: float | None) -> None:
        """Take notice of servers that were given back before anybody saw them run."""
        assert self._lease is not None
        if self._lease.launched_at is None and since is not None:
            self._lease.launch(since)

    def are_back(self, spans: Spans | None) -> None:
        """Take notice that the job waits for servers: those that it had are no more its own.

        Args:
            spans: each time that it held servers, by its engine; None where that does not know.
        """
        assert self._lease is not None
        if (launched := self._lease.launched_at) is not None:
            self._lease.release(last_end(spans, launched))
            self._lease = self._rent()

    def release(self, spans: Spans | None = None) -> None:
        """Settle it: its servers are given back, and nothing more is sent.

        Args:
            spans: each time that the job held servers; None where nobody knows better than now.
        """
        if self._lease is not None:
            launched = self._lease.launched_at
            self._lease.release(None if launched is None else last_end(spans, launched))
            self._lease = None
        if self._leave is not None:
            self._leave.settle(self._counter)
            self._leave = None

    @property
    def _ahead_gb(self) -> float:
        """Return what the job has yet to send at most where it is told to end now."""
        assert self._leave is not None
        returns = self._spec.returns
        if returns.copy_gb:  # what was sent so far are copies; one that is under way goes on
            return returns.end_gb + returns.copy_gb
        return max(0.0, returns.end_gb - self._leave.gb(self._counter))

    @property
    def _counter(self) -> int:
        return Received(self._spec.folder, self._spec.stage).total

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

    def _expect(self) -> Leave:
        what = egress_of(self._spec.name)
        left = [one for one in leaves(self._ledger) if one.line.what == what]
        if left:
            return left[0]
        price = self._spec.returns.usd_per_gb
        try:
            return expect(self._ledger, what, price, self._egress_gb, self._counter)
        except BudgetError as error:
            if not self._spec.returns.copy_gb:
                raise
            raise BudgetError(
                f"{error} Fewer copies of checkpoints cost less: "
                "executor.fetch_every_minutes=<more minutes>."
            ) from error
