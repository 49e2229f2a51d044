"""The values that a field can take from a document, and what describes each.

How a field is read is learned from its values: the reader that explains them (dates, numbers,
times, words that stand for a value, spans in a style), how long its spans are, what they begin and
end with, and whether a value is another field's date plus a count that stands in the text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from stratos.models.kinds.tagger.tagged_text import Document, shape, sort_of
from stratos.tasks.readings import (
    PERIODS,
    READERS,
    STYLES,
    Reading,
    dates,
    equal,
    later,
    numbers,
)

FEW = 40
"""Values of a field that a classifier chooses among, or that words stand for."""
_LONGEST = 12
"""Tokens of a value that is a span."""
Rows = Sequence[tuple[Document, Any]]
"""Documents and their values of one field, none of them null."""


@dataclass(frozen=True)
class Extraction:
    """How the values of a field are read."""

    name: str
    reader: str = "text"
    """Or date, time, number, lexicon."""
    readings: tuple[str, ...] = ()
    """Styles or ways of reading that training values show."""
    longest: int = 1
    """Tokens of a span."""
    openings: tuple[str, ...] = ()
    """Sorts of tokens that spans begin with; below: that they end with, and have between."""
    closings: tuple[str, ...] = ()
    insides: tuple[str, ...] = ()
    base: str | None = None
    """The field whose value this one is compared with."""
    whole: bool = False
    """Whether spans never carry a word before a phrase that also stands alone."""
    lexicon: dict[str, Any] = field(default_factory=dict)
    """Values by the words that stand for them."""


class Candidate(NamedTuple):
    """A value, the first and the last token that it was read from, and the way."""

    value: Any
    first: int
    last: int
    way: str


class Options(NamedTuple):
    """The candidates of a field in a document, and the names of the features of each."""

    candidates: list[Candidate]
    features: list[list[str]]


def options(document: Document, extraction: Extraction, base: Any = None) -> Options:
    """Return every candidate of a field, described.

    Args:
        document: to read.
        extraction: how the field is read.
        base: value of the base field in the same document.
    """
    candidates = list(_candidates(document, extraction, base))
    if extraction.reader == "text":
        mails = [t for t, k in zip(document.tokens, document.kinds, strict=True) if k == "mail"]
        folded = " ".join(mails).lower()
        if not any(document.tokens[c.first].lower() in folded for c in candidates):
            folded = ""
        return Options(candidates, [_span_features(document, c, folded) for c in candidates])
    return Options(candidates, _value_features(document, extraction, candidates, base))


def readings(document: Document, token: int, reader: str) -> tuple[Reading, ...]:
    """Return what a token can mean to a reader of dates, times or numbers."""
    kind = document.kinds[token]
    read_as = {reader, "word" if reader == "number" else "number" if reader == "time" else reader}
    if reader in READERS and kind in read_as:  # "two" is a number, "22.30" may be a time
        return READERS[reader](document.tokens[token])
    return ()


def occurrences(document: Document, value: str, style: str) -> Iterator[tuple[int, int]]:
    """Yield first and last token of the spans whose text, in a style, is the value."""
    form = STYLES[style]
    if not value or form(value) != value:
        return
    initial = value[0].lower()
    for first in range(len(document)):
        if document.folded[document.starts[first]] == initial:
            yield from _endings(document, first, form, value)


def _endings(
    document: Document, first: int, form: Callable[[str], str], value: str
) -> Iterator[tuple[int, int]]:
    for last in range(first, min(len(document), first + _LONGEST)):
        text = form(document.span(first, last))
        if text == value:
            yield first, last
        if len(text) > len(value) + 2:
            return


def spans(document: Document, extraction: Extraction, value: Any) -> list[tuple[int, int]]:
    """Return first and last token of the spans that read as the value."""
    if extraction.reader != "text":
        return [
            (token, token)
            for token in range(len(document))
            if any(equal(r.value, value) for r in readings(document, token, extraction.reader))
        ]
    if not isinstance(value, str):
        return []
    return [span for way in extraction.readings for span in occurrences(document, value, way)]


def _candidates(document: Document, extraction: Extraction, base: Any) -> Iterator[Candidate]:
    if extraction.reader == "text":
        yield from _span_candidates(document, extraction)
        return
    if extraction.reader == "lexicon":
        for first in range(len(document)):
            for last in range(first, min(len(document), first + extraction.longest)):
                words = document.span(first, last).lower()
                if (value := extraction.lexicon.get(words)) is not None:
                    yield Candidate(value, first, last, "lexicon")
        return
    yield from _typed_candidates(document, extraction, base)
    if extraction.base is not None and extraction.reader == "date":
        yield from _derived_candidates(document, extraction, base)


def _span_candidates(document: Document, extraction: Extraction) -> Iterator[Candidate]:
    """Yield the spans of a cell that look like the field's values at their borders and inside."""
    openings, closings = set(extraction.openings), set(extraction.closings)
    insides, sorts = set(extraction.insides), document.sorts
    for first, opening in enumerate(sorts):
        if opening not in openings:
            continue
        for last in range(first, min(len(sorts), first + extraction.longest)):
            if document.cells[last] != document.cells[first]:
                break
            if sorts[last] in closings and not (
                extraction.whole and _carries_a_word(document, first, last)
            ):
                text = document.span(first, last)
                for way in extraction.readings:
                    yield Candidate(STYLES[way](text), first, last, way)
            if last > first and sorts[last] not in insides:
                break


def _typed_candidates(document: Document, extraction: Extraction, base: Any) -> Iterator[Candidate]:
    known_readings = set(extraction.readings)
    order = day_order(document, base) if any(_is_order(way) for way in known_readings) else ""

    def is_used(way: str) -> bool:
        """A document may prove the order that no training row uses; else the mark decides."""
        if not _is_order(way):
            return way in known_readings or (way == "same" and any(map(_is_order, known_readings)))
        if order:
            return way[:3] == order
        return way in known_readings or not any(
            _is_order(reading) and reading[3:] == way[3:] for reading in known_readings
        )

    for token in range(len(document)):
        for reading in readings(document, token, extraction.reader):
            if is_used(reading.way):
                yield Candidate(reading.value, token, token, reading.way)


def _is_order(way: str) -> bool:
    """Return whether a way of reading is an order of day and month, with the mark between them."""
    return way[:3] in ("dmy", "mdy")


def _derived_candidates(
    document: Document, extraction: Extraction, base: Any
) -> Iterator[Candidate]:
    """Yield the base date plus each count in the text, in the periods that the field uses."""
    for token in range(len(document)) if isinstance(base, str) else ():
        for count in readings(document, token, "number"):
            if isinstance(count.value, int) and 0 < count.value < 1000:
                for date in later(base, count.value):
                    if date.way in extraction.readings:
                        yield Candidate(date.value, token, token, date.way)


def day_order(document: Document, base: Any = None) -> str:
    """Return which order of day and month a document states or proves: dmy or mdy, or ""."""
    proofs = set()
    for token, kind in enumerate(document.kinds):
        if kind == "date":
            read = dates(document.tokens[token])
            proofs |= {r.way[:3] for r in read if len(read) == 1 or r.value == base}
    low = document.folded
    stated = {"dmy"} if "dd/mm" in low or "dd.mm" in low else {"mdy"} if "mm/dd" in low else set()
    order = (stated or proofs) & {"dmy", "mdy"}
    return order.pop() if len(order) == 1 else ""


def learn(name: str, rows: Rows) -> tuple[Extraction, float]:
    """Return the reader that explains most values of a field, and the share that it explains."""
    typed = [_learn_typed(name, reader, rows) for reader in READERS]
    written = [t for t in typed if _is_written_so(t[0].reader, rows)]
    best = max(written or typed, key=lambda option: option[1])
    if written or best[1] >= 0.9:
        return best
    best = max([_learn_spans(name, rows), best], key=lambda option: option[1])
    if best[1] < 0.95 and len({value for _, value in rows}) <= min(FEW, len(rows) / 5):
        best = max([best, _learn_lexicon(name, rows)], key=lambda option: option[1])
    return best


def _is_written_so(reader: str, rows: Rows) -> bool:
    """Return whether values are ISO dates, HH:MM, or numbers, as a reader writes its values."""
    n = sum(any(equal(r.value, v) for r in READERS[reader](str(v))) for _, v in rows)
    return n >= 0.95 * max(len(rows), 1)


def _learn_typed(name: str, reader: str, rows: Rows) -> tuple[Extraction, float]:
    explained, counts = 0, Counter[str]()
    for document, value in rows:
        ways_of_row = {
            reading.way
            for token in range(len(document))
            for reading in readings(document, token, reader)
            if equal(reading.value, value)
        }
        explained += bool(ways_of_row)
        counts.update(ways_of_row)
    used = tuple(sorted(w for w, n in counts.items() if n >= max(1, 0.002 * len(rows))))
    return Extraction(name, reader, used), explained / max(len(rows), 1)


def _learn_lexicon(name: str, rows: Rows) -> tuple[Extraction, float]:
    """Learn words such as "€" for EUR: nearly all rows that have the word have the value.

    Words that spell the value itself may stand in a single row, and of rows that have them most are
    enough: other amounts may stand beside it.
    """
    pairs, words = Counter[tuple[str, Any]](), Counter[str]()
    phrases = {form for _, value in rows if len((form := str(value).lower()).split()) > 1}
    longest = 1
    for document, value in rows:
        present = {word.lower() for word in document.tokens if not word[0].isdigit()}
        for phrase in phrases:
            for first, last in occurrences(document, phrase, "lower"):
                present.add(phrase)
                longest = max(longest, last - first + 1)
        words.update(present)
        pairs.update((word, value) for word in present)
    values = Counter(value for _, value in rows)
    lexicon = {}
    for (word, value), n in sorted(pairs.items(), key=str):
        is_spelt = word == str(value).lower()
        least, share = (1, 0.5) if is_spelt else (max(4, 0.005 * len(rows)), 0.9)
        is_sure = n >= least and n > share * words[word]
        if is_sure and values[value] < 0.7 * len(rows):
            lexicon[word] = value
    extraction = Extraction(name, "lexicon", longest=longest, lexicon=lexicon)
    explained = sum(any(c.value == v for c in _candidates(d, extraction, None)) for d, v in rows)
    return extraction, explained / max(len(rows), 1)


def _learn_spans(name: str, rows: Rows) -> tuple[Extraction, float]:
    """Learn the styles, the length and the borders of spans."""
    strings = [(d, v) for d, v in rows if isinstance(v, str)]
    firsts = {
        style: [next(((d, *s) for s in occurrences(d, v, style)), None) for d, v in strings]
        for style in STYLES
    }
    chosen: list[str] = []
    missing = set(range(len(strings)))
    while missing:  # greedy cover: a style stays if it explains rows that no earlier one does
        gains = {s: {i for i in missing if firsts[s][i]} for s in STYLES if s not in chosen}
        style = max(gains, key=lambda s: len(gains[s]), default=None)
        if style is None or len(gains[style]) < max(2, 0.01 * len(strings)):
            break
        chosen.append(style)
        missing -= gains[style]
    hits = [span for style in chosen for span in firsts[style] if span]
    extraction = Extraction(
        name,
        readings=tuple(chosen),
        longest=max((b - a + 1 for _, a, b in hits), default=1),
        openings=_sorted({d.sorts[a] for d, a, _ in hits}),
        closings=_sorted({d.sorts[b] for d, _, b in hits}),
        insides=_sorted({s for d, a, b in hits for s in d.sorts[a + 1 : b + 1]}),
        whole=sum(_carries_a_word(*span) for span in hits) <= 0.003 * len(hits),
    )
    return extraction, (len(strings) - len(missing)) / max(len(rows), 1)


def _sorted(sorts: set[str]) -> tuple[str, ...]:
    return tuple(sorted(sorts))


def learn_base(
    extraction: Extraction,
    rows: Sequence[Document],
    values: Sequence[Any],
    bases: Mapping[str, Sequence[Any]],
) -> tuple[Extraction, float]:
    """Let a date be another field's date plus a count, if that explains what nothing else does.

    Args:
        extraction: of the date field.
        rows: documents.
        values: of the field in each; None for none.
        bases: other date fields, with their values.

    Returns:
        The extraction, and the share of the stated values that this adds to those explained.
    """
    unexplained = [
        k
        for k, (document, value) in enumerate(zip(rows, values, strict=True))
        if isinstance(value, str)
        and all(c.value != value for c in _candidates(document, extraction, None))
    ]
    probe = Extraction(extraction.name, "date", PERIODS)
    best, most = extraction, max(2, len(values) // 200)
    share = 0.0
    for name, column in bases.items():
        counts, n = Counter[str](), 0
        for k in unexplained:
            hits = {
                derived.way
                for derived in _derived_candidates(rows[k], probe, column[k])
                if derived.value == values[k]
            }
            n += bool(hits)
            counts.update(hits)
        if n > most:
            used = {way for way, count in counts.items() if count >= 0.02 * n}
            best = replace(
                extraction, base=name, readings=tuple(sorted({*extraction.readings, *used}))
            )
            most, share = n, n / sum(value is not None for value in values)
    return best, share


def _relation(value: Any, base: Any) -> str:
    if base is None or isinstance(value, str) != isinstance(base, str):
        return "none"
    order = "equal" if value == base else "above" if value > base else "below"
    if order == "below" and not isinstance(value, str) and 0 < value < 0.35 * base:
        return "far below"
    return order


def _carries_a_word(document: Document, first: int, last: int) -> bool:
    """Return whether a span without its first word stands alone as often as the whole span."""
    if last - first < 2 or document.sorts[first] != document.sorts[first + 1]:
        return False
    phrase, rest = document.span(first, last).lower(), document.span(first + 1, last).lower()
    n = document.folded.count(phrase)
    if document.folded.count(rest) == n:
        return False
    word, alone = document.tokens[first + 1], 0
    for token, neighbour in enumerate(document.tokens):
        if neighbour == word and document.folded.startswith(rest, document.starts[token]):
            is_first = token == 0 or document.lines[token - 1] != document.lines[token]
            alone += is_first or document.sorts[token - 1] != sort_of(word)
    return alone >= n


def _span_features(document: Document, candidate: Candidate, mails: str) -> list[str]:
    """Describe a span by length, shape, and how often it and its first word stand in the text."""
    first, last = candidate.first, candidate.last
    text, word = document.span(first, last), document.tokens[first].lower()
    again = document.folded.count(text.lower())
    inner = document.folded.count(word) - again if len(word) > 3 else 0
    longer = document.span(first, min(last + 1, len(document) - 1)).lower()
    return [
        f"length={last - first}",
        f"shape={shape(text)}",
        f"again={min(again, 4)}",
        f"inner={min(inner, 3)}",
        f"shorter={_carries_a_word(document, first, last)}",
        f"longer={document.folded.count(longer) == again}",
        f"mail={word in mails if mails else 'none'}",
        f"way={candidate.way}",
    ]


def _value_features(
    document: Document, extraction: Extraction, candidates: Sequence[Candidate], base: Any
) -> list[list[str]]:
    """Describe typed values by their ranks in size and order, by repetition and by sums."""
    stated = [c.value for c in candidates if c.way not in PERIODS]
    order = {v: i for i, v in enumerate(dict.fromkeys(stated))}
    ranks = {v: i for i, v in enumerate(sorted(order, key=lambda v: (str(type(v)), v)))}
    counts, n = Counter(stated), len(order)
    sums = _sum_features(document) if extraction.reader == "number" else {}
    features = []
    for value, _, _, way in candidates:
        row = [f"way={way}", f"relation={_relation(value, base)}"]
        if way in PERIODS:
            row += [f"agrees={value in order}", f"size={min(len(str(value)), 5)}"]
        else:
            row += [
                f"low={min(ranks[value], 3)}",
                f"high={min(n - 1 - ranks[value], 3)}",
                f"order={min(order[value], 5)}",
                f"back={min(n - 1 - order[value], 3)}",
                f"again={min(counts[value], 4)}",
                *sums.get(value, ()),
            ]
        features.append(row)
    return features


def _sum_features(document: Document) -> dict[float, list[str]]:
    """Say of each amount whether it is a sum, a part of a sum, or a rate of others in the text."""
    cents: dict[int, set[str]] = {}
    rates = set()
    for token, kind in enumerate(document.kinds):
        for reading in numbers(document.tokens[token]) if kind == "number" else ():
            if abs(float(reading.value)) < 1e12:
                cents.setdefault(round(100 * float(reading.value)), set())
            if document.tokens[min(token + 1, len(document) - 1)] == "%":
                rates.add(float(reading.value))
    amounts = sorted(c for c in cents if c > 0)[-24:]
    for k, small in enumerate(amounts):
        for large in amounts[k:]:
            if small + large in cents and small > 100:
                cents[small + large].add("is_sum")
                cents[small].add("is_smaller_part")
                cents[large].add("is_larger_part")
            for rate in rates if large > small else ():
                if abs(large * rate / 100 - small) <= 1:
                    cents[small].add("is_rate_of")
                    cents[large].add("has_rate_part")
                if abs((large - small) * rate / 100 - small) <= 1:
                    cents[small].add("is_rate_within")
                    cents[large].add("has_rate_within")
    return {cent / 100: sorted(names) for cent, names in cents.items()}
