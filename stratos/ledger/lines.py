"""The line types of a ledger: format, parsing and validation. One JSON object a line."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import msgspec

from stratos.core.formats import exact_usd
from stratos.core.process import Process


class BadLine(Exception):
    """A line that no ledger writes; the message says why."""


class Overrun(msgspec.Struct, frozen=True):
    """By how much answers passed the ceiling that was set aside for them."""

    extra_input_tokens: int = 0
    """Most tokens that a prompt took beyond its ceiling."""
    output_factor: float = 1.0
    """Most that an answer was longer than its limit."""

    def __or__(self, second: Overrun) -> Overrun:
        """Return the larger of both."""
        return Overrun(
            max(self.extra_input_tokens, second.extra_input_tokens),
            max(self.output_factor, second.output_factor),
        )


class Shares(msgspec.Struct, frozen=True):
    """Shares of their ceilings that answers took, as sums."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    def __add__(self, second: Shares) -> Shares:
        """Return the sums over both."""
        return Shares(self.n + second.n, self.total + second.total, self.squares + second.squares)


class _Line(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", omit_defaults=True):
    at: float = 0.0
    """Seconds since the epoch."""


class Reserved(_Line, frozen=True, kw_only=True, tag="reserved"):
    """Money that is set aside for a call, before it is made."""

    id: str
    what: str
    reserved_usd: float
    role: str
    stage: str = ""
    host: str = ""
    pid: int = 0
    boot: str = ""
    started: str = ""

    @property
    def process(self) -> Process:
        """Return the process that makes the call."""
        return Process(self.host, self.pid, self.boot, self.started)


class Settled(_Line, frozen=True, kw_only=True, tag="settled"):
    """What a reservation really took."""

    what: str
    usd: float
    role: str
    total_usd: float
    """Dollars settled in the whole file, up to and with this line."""
    id: str = ""
    stage: str = ""
    planned_usd: float = 0.0
    calls: int = 0
    answers: int = 0
    unanswered: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    """Of servers: from launch to release."""
    server: str = ""
    """Name of the offer that the servers are of; "" where none is known."""
    n_bytes: int = 0
    """Of egress: bytes that left."""
    extra_input_tokens: int = 0
    output_factor: float = 1.0
    share_sum: float = 0.0
    share_squares: float = 0.0
    note: str = ""

    @property
    def overrun(self) -> Overrun:
        """Return by how much its answers passed their ceilings."""
        return Overrun(self.extra_input_tokens, self.output_factor)

    @property
    def shares(self) -> Shares:
        """Return which shares of their ceilings its answers took."""
        return Shares(self.answers if self.share_sum else 0, self.share_sum, self.share_squares)


class Expected(_Line, frozen=True, kw_only=True, tag="expected"):
    """What something is expected to cost; no money is set aside by it."""

    what: str
    expected_usd: float
    range_usd: tuple[float, float] = (0.0, 0.0)
    n: dict[str, int] = {}
    """What is paid for, and how many."""


class HandedIn(_Line, frozen=True, kw_only=True, tag="handed_in"):
    """Reservations that pay for a batch, which goes on where its process dies."""

    what: str
    batch: str
    ids: tuple[str, ...]
    """Of the reservations."""
    counts: tuple[int, ...]
    """How many questions of the batch each of them pays for, in their order."""


class Allotted(_Line, frozen=True, kw_only=True, tag="allotted"):
    """What a plan holds for each role; it takes the place of what an earlier plan held."""

    plan: str
    """Fingerprint of the plan; "" where there is none any more."""
    usd: dict[str, float]
    """Dollars by role."""
    budget_usd: float | None = None
    """Budget that they were held of."""


class Released(_Line, frozen=True, kw_only=True, tag="released"):
    """A role is done: what is left of its reserve is free."""

    role: str
    usd: float
    """How much that is."""


class Rented(_Line, frozen=True, kw_only=True, tag="rented"):
    """Money that is set aside for servers, before they are launched."""

    id: str
    what: str
    role: str
    reserved_usd: float
    usd_per_hour: float
    """Of all of them together."""
    min_seconds: float = 0.0
    """Billed at least."""
    server: str = ""
    """Name of the offer that they are of; "" where none is known."""
    stage: str = ""
    host: str = ""
    pid: int = 0
    boot: str = ""
    started: str = ""

    @property
    def process(self) -> Process:
        """Return the process that rents them."""
        return Process(self.host, self.pid, self.boot, self.started)

    def usd(self, seconds: float) -> float:
        """Return what they cost for so long."""
        return max(seconds, self.min_seconds) / 3600 * self.usd_per_hour


class Leaving(_Line, frozen=True, kw_only=True, tag="leaving"):
    """Money that is set aside for bytes that leave a cloud, before its server is launched."""

    id: str
    what: str
    reserved_usd: float
    usd_per_gb: float
    bytes_before: int = 0
    """Where the counter of the job's bytes stood."""
    stage: str = ""
    role: str = "egress"

    def n_bytes(self, counter: int) -> int:
        """Return how many bytes have left by a state of the counter."""
        return max(0, counter - self.bytes_before)

    def usd(self, counter: int) -> float:
        """Return what they cost."""
        return self.n_bytes(counter) / 1e9 * self.usd_per_gb


class Launched(_Line, frozen=True, kw_only=True, tag="launched"):
    """From now on servers cost money, also where the process that rented them dies."""

    id: str


class Metered(_Line, frozen=True, kw_only=True, tag="metered"):
    """How long servers have run so far, or how many bytes have left."""

    id: str
    seconds: float = 0.0
    usd: float = 0.0
    n_bytes: int = 0


class Extended(_Line, frozen=True, kw_only=True, tag="extended"):
    """More money that is set aside: servers run longer than planned, or more bytes leave."""

    id: str
    reserved_usd: float


class Stated(_Line, frozen=True, kw_only=True, tag="stated"):
    """What a user says was spent, where the ledger before this one could not tell."""

    usd: float
    total_usd: float
    what: str = "stated by the user"


Line = (
    Reserved
    | Settled
    | Expected
    | HandedIn
    | Allotted
    | Released
    | Rented
    | Leaving
    | Launched
    | Metered
    | Extended
    | Stated
)

_DECODER = msgspec.json.Decoder(Line)
_MOST_USD = 1e12
_AMOUNTS = ("usd", "reserved_usd", "planned_usd", "total_usd", "expected_usd")


Opened = Reserved | Rented | Leaving
"""First line of a reservation."""


def written(line: Line) -> bytes:
    """Return a line as it stands in the file."""
    return msgspec.json.encode(line) + b"\n"


def read(text: bytes) -> Line:
    """Return the line that a text holds.

    Raises:
        BadLine: it holds none.
    """
    try:
        raw = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadLine("it is not JSON") from error
    if not isinstance(raw, dict):
        raise BadLine("it is not a JSON object")
    for name in _AMOUNTS:
        amount = raw.get(name, 0.0)
        if isinstance(amount, int | float) and not 0 <= amount < _MOST_USD:
            raise BadLine(f"{name}={str(amount)[:20]} is no amount of dollars")
    try:
        return _DECODER.decode(text)
    except (msgspec.ValidationError, OverflowError) as error:
        raise BadLine(f"it is no line of a ledger ({error})") from error


def is_readable(text: bytes) -> bool:
    """Return whether a text is a whole line."""
    try:
        read(text)
    except BadLine:
        return False
    return True


# Totals over the lines of a ledger.


_ROUNDING = 1e-6
"""Share by which a running total may be off."""


@dataclass
class Reserve:
    """What a plan holds for one role."""

    usd: float
    spent_usd: float = 0.0
    """Since the plan was made."""
    released_usd: float | None = None
    """What was left when the role was done; None while it is not."""


@dataclass
class Totals:
    """What all lines so far add up to."""

    spent_usd: float = 0.0
    reserved_usd: float = 0.0
    n_lines: int = 0
    spent_in: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Dollars settled by stage."""
    spent_by: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Dollars settled by role."""
    open: dict[str, Opened] = field(default_factory=dict)
    """Reservations that are not settled, whoever made them."""
    extended: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """What was set aside for them later."""
    launched: dict[str, float] = field(default_factory=dict)
    """When the servers of a reservation were launched, in seconds since the epoch."""
    metered: dict[str, float] = field(default_factory=dict)
    """What open reservations have cost so far, of what runs on: servers, and bytes that leave."""
    plan: Allotted | None = None
    reserves: dict[str, Reserve] = field(default_factory=dict)
    """What the plan holds, by role."""
    earlier: dict[str, dict[str, Reserve]] = field(default_factory=dict)
    """What plans before this one held, by fingerprint; one of them may be taken up again."""
    tries: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Answers, and tries that may be billed and brought none, by what was paid for."""
    overruns: dict[str, Overrun] = field(default_factory=dict)
    """By what was paid for."""
    shares: dict[str, Shares] = field(default_factory=dict)
    """By what was paid for."""
    batches: dict[str, HandedIn] = field(default_factory=dict)
    """Those that were handed in."""
    is_stated: bool = False
    """Whether a user said what was spent before."""

    def add(self, line: Line) -> None:
        """Count one line.

        Raises:
            BadLine: its running total does not fit.
        """
        match line:
            case Reserved() | Rented() | Leaving():
                self._open(line)
            case Settled():
                self._settle(line)
            case Stated():
                self.is_stated = True
                self._spend(line.usd, "", "other", line.total_usd)
            case HandedIn():
                self.batches[line.batch] = line
            case Allotted():
                self._allot(line)
            case Released() if line.role in self.reserves:
                self.reserves[line.role].released_usd = line.usd
            case Launched():
                self.launched.setdefault(line.id, line.at)
            case Extended() if line.id in self.open:
                self.extended[line.id] += line.reserved_usd
                self.reserved_usd += line.reserved_usd
            case Metered() if line.id in self.open:
                self.metered[line.id] = line.usd
            case Expected() | Metered() | Released() | Extended():
                pass
        self.n_lines += 1

    def of_batches(self) -> dict[str, HandedIn]:
        """Return which batch each open reservation pays for that pays for one."""
        return {
            id_: batch for batch in self.batches.values() for id_ in batch.ids if id_ in self.open
        }

    def set_aside(self, line: Opened) -> float:
        """Return what is set aside for a reservation by now."""
        return line.reserved_usd + self.extended.get(line.id, 0.0)

    def owed_usd(self, line: Rented, at: float) -> float:
        """Return by how much servers have cost more by now than is set aside for them.

        Args:
            line: the servers.
            at: seconds since the epoch.
        """
        launched = self.launched.get(line.id)
        if launched is None:
            return 0.0
        return max(0.0, line.usd(at - launched) - self.set_aside(line))

    def set_aside_by_others(self, role: str) -> float:
        """Return what is set aside for what roles other than one have under way."""
        lines = list(self.open.values())
        return sum(self.set_aside(line) for line in lines if line.role != role)

    def held_usd(self, role: str) -> dict[str, float]:
        """Return what is held for each of the other roles, and neither spent nor set aside yet.

        Args:
            role: whose money it is not.
        """
        unspent = {
            name: reserve.usd - reserve.spent_usd
            for name, reserve in self.reserves.items()
            if name != role and reserve.released_usd is None
        }
        for line in list(self.open.values()) if unspent else ():
            if (name := line.role) in unspent:
                unspent[name] -= self.set_aside(line)
        return {name: usd for name, usd in unspent.items() if usd > 0}

    def _allot(self, line: Allotted) -> None:
        """Take the reserves of a plan; what was spent of them under the same plan stays spent."""
        same = self.plan is not None and self.plan.plan == line.plan
        if self.plan is not None and not same:
            self.earlier[self.plan.plan] = self.reserves
        before = self.reserves if same else self.earlier.get(line.plan, {})
        # With the budget of before, roles are added, and those that are done stay so.
        is_more = same and self.plan is not None and self.plan.budget_usd == line.budget_usd
        self.plan = line
        self.reserves = {}
        for role, usd in line.usd.items():
            reserve = before.get(role, Reserve(usd))
            released = reserve.released_usd if is_more else None
            self.reserves[role] = Reserve(usd, reserve.spent_usd, released)

    def _open(self, line: Opened) -> None:
        if line.id not in self.open:
            self.reserved_usd += line.reserved_usd
            self.open[line.id] = line

    def _settle(self, line: Settled) -> None:
        self._spend(line.usd, line.stage, line.role, line.total_usd)
        if line.role in self.reserves:
            self.reserves[line.role].spent_usd += line.usd
        if (opened := self.open.get(line.id)) is not None:
            self.reserved_usd -= self.set_aside(opened)
            for known in (self.open, self.extended, self.launched, self.metered):
                known.pop(line.id, None)
        if not self.open:
            self.reserved_usd = 0.0  # no rounding is left behind
        n_answers, n_unanswered = self.tries.get(line.what, (0, 0))
        self.tries[line.what] = n_answers + line.answers, n_unanswered + line.unanswered
        self.overruns[line.what] = self.overruns.get(line.what, Overrun()) | line.overrun
        self.shares[line.what] = self.shares.get(line.what, Shares()) + line.shares

    def _spend(self, usd: float, stage: str, role: str, total_usd: float) -> None:
        after = self.spent_usd + usd
        if abs(after - total_usd) > _ROUNDING * max(1.0, total_usd):
            raise BadLine(
                f"its running total is {exact_usd(total_usd)}, and the lines before it add up to "
                f"{exact_usd(after)}"
            )
        self.spent_usd = after
        self.spent_in[stage] += usd
        self.spent_by[role] += usd
