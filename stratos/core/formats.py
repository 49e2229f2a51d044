"""Numbers, counts, lists and foreign text as messages, tables and pages show them."""

from __future__ import annotations

import math
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from stratos.records import Comparison, Interval, PlanPoint, Tried

NOTHING = "–"
"""Stands where there is no number."""


def is_number(value: Any) -> TypeGuard[float]:
    """Tell whether there is a finite number to show."""
    return isinstance(value, int | float) and math.isfinite(value)


def percent(value: float | None, digits: int = 1) -> str:
    """Write a share: 0.9912 is "99.1%"."""
    return f"{value * 100:.{digits}f}%" if is_number(value) else NOTHING


def least(value: float, digits: int = 2) -> str:
    """Write a lower bound, rounded down so that what is written holds, too."""
    return _bound(value, digits, ROUND_FLOOR)


def most(value: float, digits: int = 2) -> str:
    """Write an upper bound, rounded up so that what is written holds, too."""
    return _bound(value, digits, ROUND_CEILING)


def _bound(value: float, digits: int, rounding: str) -> str:
    exact = Decimal(f"{value:.12g}")  # 0.29 × 100 is 28.999999999999996: take the noise away
    return f"{exact.quantize(Decimal(1).scaleb(-digits), rounding):,f}"


def percent_least(value: float | None, digits: int = 1) -> str:
    """Write the lower bound of a share, rounded down: 0.9919 is "99.1%"."""
    return f"{least(100 * value, digits)}%" if is_number(value) else NOTHING


def percent_most(value: float | None, digits: int = 1) -> str:
    """Write the upper bound of a share, rounded up: 0.9911 is "99.2%"."""
    return f"{most(100 * value, digits)}%" if is_number(value) else NOTHING


def points_gained(gain: tuple[float, float]) -> str:
    """Say how many points of accuracy more rows may bring, by the ends of a share."""
    low, high = (100 * end for end in gain)
    if high < 0.5:
        return "would bring next to nothing"
    if low <= 0:
        return f"may bring 0 to {high:.0f} points: the curve may be flat"
    return f"may bring {low:.0f} to {high:.0f} points"


def percent_range(low: float, high: float) -> str:
    """Write the ends of an interval: "98.3–99.6%"."""
    if not (is_number(low) and is_number(high)):
        return NOTHING
    return f"{low * 100:.1f}–{high * 100:.1f}%"


def interval(quantity: Interval) -> str:
    """Write the ends of a record's interval."""
    return percent_range(quantity.low, quantity.high)


def accuracy(point: PlanPoint) -> str:
    """Write a plan's predicted accuracy with its interval; of an unknown one the most it may be."""
    if point.accuracy_known:
        ends = percent_range(point.accuracy_low, point.accuracy_high)
        return f"{percent(point.accuracy)} ({ends})"
    if point.accuracy_tried is not None:
        return right_shortly(point.accuracy_tried)
    if point.accuracy_high < 1:
        return f"≤ {percent_most(point.accuracy_high, 0)}, not measured"
    return "unknown"


def usd(value: float | None) -> str:
    """Write dollars with as many digits as the amount deserves."""
    if not is_number(value):
        return NOTHING
    if value == 0:
        return "$0"
    size = abs(value)
    if size >= 1000:
        return f"${value:,.0f}"
    if size >= 0.1:
        return f"${value:,.2f}"
    if size >= 1e-4:
        return f"${value:.{1 - math.floor(math.log10(size))}f}"
    return "<$0.0001"


def duration(seconds: float | None) -> str:
    """Write a time span with its two largest units: "8 min 02 s", "3 h 05 min"."""
    if not is_number(seconds):
        return NOTHING
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms" if seconds else "0 s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def about(seconds: float) -> str:
    """Write a time with one unit: "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 10 else f"{hours:,.0f} h"


def clock(seconds: float) -> str:
    """Write the time that is left as a clock: "1:02:03" or "2:03"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def hours(value: float | None) -> str:
    """Write hours as a time span."""
    return NOTHING if value is None else duration(value * 3600)


def taken_before(value: float) -> str:
    """Write what the stages before a plan took."""
    return f"the stages before the plan took {hours(value)}"


def milliseconds(value: float | None) -> str:
    """Write a latency."""
    if not is_number(value):
        return NOTHING
    if value >= 1000:
        return f"{value / 1000:.2f} s"
    return f"{value:.0f} ms" if value >= 10 else f"{value:.2g} ms"


def per_second(value: float | None) -> str:
    """Write a rate."""
    return f"{value:.3g}/s" if is_number(value) else NOTHING


def gib(value: float | None) -> str:
    """Write a size of memory in GiB, or MiB where it is below one."""
    if not is_number(value):
        return NOTHING
    return f"{value:.1f} GiB" if value >= 1 else f"{1024 * value:.0f} MiB"


def count(value: float | None) -> str:
    """Write a count with thousands separators."""
    return f"{value:,.0f}" if is_number(value) else NOTHING


def magnitude(value: float | None) -> str:
    """Write a large count shortly: 1,062,400 is "1.06M"."""
    if not is_number(value):
        return NOTHING
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def right(tried: Tried) -> str:
    """Write what a short training showed: "0 of 64 right after a short training on 65k tokens"."""
    return (
        f"{tried.n_right} of {tried.n_items} right after a short training on "
        f"{magnitude(tried.train_tokens)} tokens"
    )


def right_shortly(tried: Tried) -> str:
    """Write the same for the cell of a table: "0 of 64 at 65k tokens"."""
    return f"{tried.n_right} of {tried.n_items} at {magnitude(tried.train_tokens)} tokens"


def n_bytes(value: float | None) -> str:
    """Write a file size in decimal units."""
    if not is_number(value):
        return NOTHING
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f} bytes"


def decimal(value: float | None, digits: int = 3) -> str:
    """Write a number with a fixed count of decimals, so that a column lines up."""
    return f"{value:.{digits}f}" if is_number(value) else NOTHING


def times(value: float | None) -> str:
    """Write a ratio: "127×"."""
    if not is_number(value):
        return NOTHING
    return f"{value:,.0f}×" if value >= 10 else f"{value:.2g}×"


def times_least(value: float | None) -> str:
    """Write the lower bound of a ratio, rounded down: 0.9781 is "0.97×"."""
    return _ratio_bound(value, ROUND_FLOOR)


def times_most(value: float | None) -> str:
    """Write the upper bound of a ratio, rounded up: 17.41 is "17.5×"."""
    return _ratio_bound(value, ROUND_CEILING)


def _ratio_bound(value: float | None, rounding: str) -> str:
    if not is_number(value):
        return NOTHING
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{_bound(value, digits, rounding)}×"


def size(n_params: int) -> str:
    """Write how large a model is: "135M parameters"; "" where nobody tells."""
    return f"{magnitude(n_params)} parameters" if n_params else ""


_LEAST_RATIO = 0.05
"""Below it a ratio is written as 0.0."""


def at_least(comparison: Comparison) -> str:
    """Write the lower bound of student over teacher with the highest that its items could show.

    Of a teacher that has none right there is but an upper bound. "" where the bound is none.
    """
    items, least = counted(comparison.n_items, "item", spec=","), comparison.least_ratio
    if least is None:
        most = percent_most(comparison.teacher_exact.high)
        return f"no ratio to the teacher: it has none of {items} right, so at most {most}"
    if least < _LEAST_RATIO:
        return ""
    return (
        f"at least {times_least(least)} the teacher (the {items} that both "
        f"answered can show {times_most(comparison.ratio_bound)} at most)"
    )


def words(name: str) -> str:
    """Write an identifier as words: "full_flush" is "full flush"."""
    return name.replace("_", " ")


_MEASURED = {
    "exact": "exact match",
    "numeric": "right numbers",
    "multiple_choice": "right choices",
    "regex": "matches of the pattern",
    "f1": "answers with enough words in common",
    "sql": "queries with the right rows",
    "verified": "right answers",
}
"""Metric of a task to what a share by it is the share of."""


def measured(metric: str) -> str:
    """Return what is counted under the name of a metric: "exact match"."""
    return _MEASURED.get(metric, metric.replace("_", " "))


def sentence(name: str) -> str:
    """Write an identifier as the start of a sentence: "Full flush"."""
    spoken = words(name)
    return spoken[:1].upper() + spoken[1:]


def p_value(value: float | None) -> str:
    """Write the p-value of a test."""
    if not is_number(value):
        return NOTHING
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def cents(value: float) -> str:
    """Write dollars and cents, as a table of the plan has them: "$1,234.50"."""
    return f"${value:,.2f}"


def exact_usd(value: float) -> str:
    """Write dollars as the ledger counts them, to a hundredth of a cent: "$0.0123".

    An amount below a cent has two digits: "$0.000012".
    """
    digits = 1 - math.floor(math.log10(value)) if 0 < value < 0.01 else 4
    return f"${value:.{max(4, digits)}f}"


# --- counts and lists -----------------------------------------------------------------------------

_NAMED = 4
"""Names that a sentence lists before it only counts."""


def counted(n: float, singular: str, plural: str = "", *, spec: str = "") -> str:
    """Return a count and what it counts, in the number that goes with it.

    Args:
        n: how many.
        singular: what follows "1": a noun, or a noun and what depends on it ("item is").
        plural: what follows any other number; without it the singular with an s.
        spec: how the number is written, as in an f-string: "," separates thousands.
    """
    written = f"{n:{spec}}"
    return f"{written} {singular if written == '1' else plural or f'{singular}s'}"


def cut_short(n: int, n_answers: int) -> str:
    """Return how many of a model's answers ended at the longest length, in words."""
    return f"{n:,} of {counted(n_answers, 'answer', spec=',')} cut short"


def listed(words: Iterable[str], last: str = "and") -> str:
    """Join words as a sentence does."""
    *head, tail = words
    return f"{', '.join(head)} {last} {tail}" if head else tail


def by_reason(left_out: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return (who, why) of what is left out; all with one reason stand together, and are counted.

    Args:
        left_out: who to why.
    """
    groups: dict[str, list[str]] = {}
    for who, why in left_out.items():
        groups.setdefault(why, []).append(who)
    return [(_named(names), why) for why, names in groups.items()]


def _named(names: Sequence[str]) -> str:
    if len(names) <= _NAMED:
        return listed(names)
    return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more ({len(names)} in all)"


# --- progress -------------------------------------------------------------------------------------

_LEAST_SECONDS = 1.0
"""Before that a rate says little."""


def with_items(tick: Callable[..., None]) -> Callable[..., None]:
    """Return a stage's tick whose text says how many items are done, how fast, and what is left.

    Args:
        tick: of the stage, called with (done, total, text).
    """
    progress = ItemProgress()

    def tick_items(done: float, total: float, text: str = "") -> None:
        tick(done, total, progress.text(text, done, total) if text and done else text)

    return tick_items


class ItemProgress:
    """Follows the items of one part after the other; each part has a name."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._part, self._done = "", 0.0
        self._started, self._first = 0.0, 0.0

    def text(self, part: str, done: float, total: float) -> str:
        """Return how far a part is: "student · 120 of 500 · 4.2/s · 1:30 left".

        Args:
            part: its name; another one, or fewer items than before, starts the clock again.
            done: items that are done.
            total: items that there are.
        """
        now = self._now()
        if part != self._part or done < self._done:
            self._part, self._started, self._first = part, now, done
        self._done = done
        text = f"{part} · {done:,.0f} of {total:,.0f}"
        passed, n_new = now - self._started, done - self._first
        if passed < _LEAST_SECONDS or n_new <= 0 or done >= total:
            return text
        rate = n_new / passed
        return f"{text} · {per_second(rate)} · {clock((total - done) / rate)} left"


# --- foreign text ---------------------------------------------------------------------------------

_JOINERS = "\u200c\u200d"
"""What joins letters of some scripts, and the parts of some emoji."""
_UNSEEN = ("Cc", "Cs", "Cf", "Co", "Zl", "Zp")
"""Controls and surrogates; bidi overrides and zero-width characters; private; separators."""


def visible(text: str) -> str:
    """Return `text` with control characters, bidi overrides and lone surrogates made visible.

    Tabs and line ends stay. C0 controls become their Unicode picture (ESC is ␛), all others that
    have no glyph of their own are written as <U+XXXX>.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_visible_character, text))


def writable(text: str) -> str:
    """Return a text with "?" for lone surrogates: JSON may have them, no file or tokenizer does."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def unseen(text: str) -> str:
    """Return the first character that nobody can see, as U+202E; "" where there is none."""
    codes = (f"U+{ord(c):04X}" for c in text if _is_unseen(c) and c not in _JOINERS)
    return next(codes, "")


def shown(text: object, longest: int = 120) -> str:
    """Return what somebody else wrote as a message shows it: escaped, and cut short."""
    escaped = "".join(f"\\u{ord(c):04x}" if _is_unseen(c) else c for c in str(text))
    return escaped if len(escaped) <= longest else f"{escaped[: longest - 1]}…"


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) in _UNSEEN


def _visible_character(character: str) -> str:
    code = ord(character)
    if character in "\n\t":
        return character
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    return f"<U+{code:04X}>" if _is_unseen(character) else character


def predicted(accuracy: Interval) -> str:
    """Write a predicted accuracy with its interval, or what is known of an unknown one."""
    if accuracy.is_known:
        return f"{accuracy.mean:.3f} ({accuracy.low:.3f} to {accuracy.high:.3f})"
    if accuracy.tried is not None:
        return f"not predicted, {right(accuracy.tried)}"
    if accuracy.high < 1:
        return f"at most {most(accuracy.high)}, not measured"
    return "unknown"


FILTERS = {
    function.__name__: function
    for function in (
        accuracy, percent, percent_least, percent_most, interval, usd, duration, hours,
        milliseconds, count, magnitude, n_bytes, times, times_least, times_most, decimal,
        size, p_value, words, sentence, measured, counted,
    )
}  # fmt: skip
"""What templates may write numbers with."""
