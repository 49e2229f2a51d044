"""The items of a run that student and teacher have both answered: some choose, others measure.

A run with `cascade.accuracy` has asked the student that it serves: validation items choose the
threshold, and test items measure the cascade. For any other run both are test items, which no
choice of the run has read, in two halves. Which half an item is in depends on its text alone.

Whoever tries until the promise passes, with more items, another student, teacher, prompt, measure
or engine, looks several times, and each look may pass by chance. The k-th look therefore has the
level δ / (k (k + 1)); these add up to δ however many there are (alpha spending). The very same
answers that were looked at before keep their number.

`Task.items` alternates the slices, so that its first items have more of a rare slice than requests
have, and use it up. A promise about requests needs the shares of requests: those of all rows.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from stratos.contrib.cascade.record import Cascade
from stratos.contrib.cascade.threshold import Pair
from stratos.core.atomic_files import write_atomically
from stratos.core.digest import digest_of
from stratos.core.errors import StratosError
from stratos.deploy.manifest import MANIFEST
from stratos.evaluate.answers import KeptAnswer, Took, read_answers
from stratos.records import Deployment, Plan, Scorecard, from_json
from stratos.report.sweep_jobs import is_run, record_of
from stratos.run.stored_config import config_of
from stratos.tasks.base import Item, slices_of


def level(delta: float, look: int) -> float:
    """Return the probability with which the `look`-th look, from 1 on, may break the promise."""
    return delta / (look * (look + 1))


def look_of(
    folder: Path, ids: Iterable[str], facts: Iterable[str], answers: Iterable[str] | None
) -> int:
    """Return which look it is of a run to choose by these answers, from 1 on.

    Args:
        folder: of the run.
        ids: of the items that choose.
        facts: what decides the answers: student, teacher, prompts, measure, engine.
        answers: what is tested, a line for each item: then the look is written down, so that any
            other has another number. None before anybody was asked: the first look with the same
            items and facts counts.

    Raises:
        StratosError: the file of the looks is damaged.
    """
    path = folder / "cascade" / "looks.json"
    setting = _digest([sorted(ids), [*facts]])
    try:
        looks = from_json(path.read_bytes(), list[str])
    except FileNotFoundError:
        looks = []
    except (OSError, msgspec.DecodeError) as error:
        raise StratosError(
            f"{path} cannot be read ({error}): it counts how often a promise was tried. Give the "
            "command with another hydra.run.dir=<folder>."
        ) from error
    if answers is None:
        same = (k for k, known in enumerate(looks, 1) if known.startswith(f"{setting} "))
        return next(same, len(looks) + 1)
    look = f"{setting} {_digest(sorted(answers))}"
    if look in looks:
        return looks.index(look) + 1
    _write(path, [*looks, look])
    return len(looks) + 1


def _digest(value: Any) -> str:
    # Escaped, since texts may have lone surrogates.
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _write(path: Path, looks: list[str]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, msgspec.json.encode(looks))
    except OSError as error:
        raise StratosError(
            f"{path} cannot be written ({error}): it counts how often a promise was tried. Make "
            "the folder of the run writable, or copy it to one that is."
        ) from error


_LEAVABLE = 0.005
"""Share of all items in slices that may be left out as too rare to be drawn."""


@dataclass(frozen=True)
class Drawn:
    """Some ids, each slice in its share."""

    ids: tuple[str, ...]
    left_out: float = 0.0
    """Share of all items in slices of which there were too few: they count as wrong."""


def in_shares(slice_of: Mapping[str, str], able: Collection[str], n: int) -> Drawn:
    """Draw items so that each slice has the share that it has among all.

    Of every slice the first of `able` in an order by hash are taken, and its number is rounded at
    random (systematic sampling), so that it is right on average. Where a slice has too few, fewer
    are taken of all. Slices that together are at most 0.5% of all are left out where they would
    limit the others; whoever promises something counts them as wrong.

    Args:
        slice_of: slice of every item, by id.
        able: ids that may be drawn.
        n: how many, at most.
    """
    counts = Counter(slice_of.values())
    total = sum(counts.values())
    pools: dict[str, list[str]] = {name: [] for name in counts}
    for id in sorted({*able}, key=_key):
        pools[slice_of[id]].append(id)
    rare: list[str] = []
    for name in sorted(counts, key=lambda name: (counts[name], name)):
        share = sum(counts[id] for id in [*rare, name]) / total
        if share > _LEAVABLE:
            break
        if len(pools[name]) * total < min(n, len(able)) * counts[name]:
            rare.append(name)
    drawn_from = {name: count for name, count in sorted(counts.items()) if name not in rare}
    rest = sum(drawn_from.values())
    n = min([n, *(len(pools[name]) * rest // count for name, count in drawn_from.items())])
    start = int.from_bytes(_key("\n".join(sorted(able)))[:6], "big") / 2**48 if n else 0.0
    ids: list[str] = []
    before = 0
    for name, count in drawn_from.items():
        low = math.floor(n * before / rest + start)
        before += count
        high = math.floor(n * before / rest + start)
        ids += pools[name][: high - low]
    return Drawn(tuple(sorted(ids, key=_key)), sum(counts[id] for id in rare) / max(1, total))


def natural(items: Sequence[Item], drawn: Drawn) -> list[Item]:
    """Return the items that were drawn, in their order."""
    by_id = {item.id: item for item in items}
    return [by_id[id] for id in drawn.ids]


def _key(id: str) -> bytes:
    return hashlib.sha256(f"cascade {id}".encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True)
class Answered:
    """What a cascade of a run is chosen and measured by."""

    plan: Plan
    choosing: list[Pair]
    measuring: list[Pair]
    usd_per_1000: float | None
    """Of the student on its planned server."""
    teacher_usd_per_1000: float | None
    student: float
    """Share that it has right of all these items."""
    teacher: float
    chosen_on: Literal["validation", "test"] = "test"
    """Whose items choose."""
    student_ms: float | None = None
    """Mean milliseconds of an answer, as it was served."""
    teacher_ms: float | None = None
    requests_per_day: float | None = None
    """In the first month."""
    look: int = 1
    """How many sets of answers were tried to choose by, with this one (`cascade.looks`)."""
    n_answers: int = 1
    """Answers of the student that one request takes."""
    n_too_long: int = 0
    """Items that are longer than the teacher's context, and left out."""
    left_out: float = 0.0
    """Share of requests in slices too rare to be drawn: they count as wrong."""
    folder: Path | None = None
    """Of the run, in which another try is counted; None where it is not known."""

    @property
    def n(self) -> int:
        """Items in all."""
        return len(self.choosing) + len(self.measuring)


@dataclass(frozen=True)
class KeptPair:
    """One item on disk."""

    id: str
    chooses: bool
    """Whether it chooses the threshold; else it measures."""
    confidence: float | None
    """None for minus infinity."""
    student: bool
    teacher: bool
    """Whether a request that is sent on is answered right: by the teacher, or as the endpoint does
    if the teacher takes too long."""
    teacher_usd: float | None = None
    """Of the teacher's answer, by its tokens; None where they are not known."""
    teacher_seconds: float | None = None

    def tested(self, is_exact: bool) -> str:
        """Return what a promise tests of it, in a line.

        Args:
            is_exact: whether the confidence comes out the same if the student is asked again. A
                probability does to a few digits only, so that it says whether there is one.
        """
        sure = self.confidence if is_exact else self.confidence is not None
        return f"{self.id} {sure} {self.student} {self.teacher}"


def answered(folder: Path) -> Answered:
    """Read a run.

    Raises:
        StratosError: it has no items that both answered, or does not say how sure the student was.
    """
    if not folder.is_dir() or not is_run(folder):
        raise StratosError(f"{folder} is no folder of a run. Type stratos status to list them.")
    plan: Plan | None = record_of(folder, "plan")
    scorecard: Scorecard | None = record_of(folder, "evaluate")
    deployment: Deployment | None = record_of(folder, "deploy")
    cascade: Cascade | None = record_of(folder, "cascade", Cascade)
    if plan is None or scorecard is None:
        raise StratosError(f"{folder} was not evaluated yet. Give its command again.")
    requests = plan.worth.requests_per_day if plan.worth is not None else None
    if cascade is not None and is_of_bundle(cascade, folder) and (measured := read_pairs(folder)):
        assert cascade.endpoint is not None
        return replace(
            of_pairs(plan, scorecard, deployment, measured, requests, cascade.chosen_on),
            look=cascade.look,
            n_answers=cascade.endpoint.n_answers,
            n_too_long=cascade.n_too_long,
            left_out=cascade.left_out,
            folder=folder,
        )
    pairs, left_out = _in_halves(folder, scorecard)
    chosen_by = [pair for pair in pairs if pair.chooses]
    look = look_of(
        folder, [pair.id for pair in chosen_by], ["evaluation", plan.teacher],
        [pair.tested(is_exact=True) for pair in chosen_by],
    )  # fmt: skip
    made = of_pairs(plan, scorecard, deployment, pairs, requests, "test")
    return replace(made, look=look, left_out=left_out, folder=folder)


def is_of_bundle(cascade: Cascade, folder: Path) -> bool:
    """Return whether a cascade was measured with the bundle that lies in the run's folder now."""
    if cascade.endpoint is None:
        return False
    return cascade.endpoint.bundle_sha256 == bundle_digest(folder / "bundle")


def bundle_digest(bundle: Path) -> str:
    """Return by what a bundle is known again: its manifest's SHA-256; "" where there is none."""
    return digest_of(bundle / MANIFEST)


def of_pairs(
    plan: Plan,
    scorecard: Scorecard,
    deployment: Deployment | None,
    pairs: Sequence[KeptPair],
    requests_per_day: float | None,
    chosen_on: Literal["validation", "test"],
) -> Answered:
    """Return what a cascade is chosen and measured by.

    Args:
        plan: of the run.
        scorecard: what student and teacher cost, and how long the teacher takes.
        deployment: how long the student takes; None where it was not served.
        pairs: the items.
        requests_per_day: in the first month; None where that is not known.
        chosen_on: whose items choose.
    """
    halves: tuple[list[Pair], list[Pair]] = ([], [])
    for pair in pairs:
        confidence = -math.inf if pair.confidence is None else pair.confidence
        halves[not pair.chooses].append(
            Pair(confidence, pair.student, pair.teacher, pair.teacher_usd, pair.teacher_seconds)
        )
    both = [*halves[0], *halves[1]]
    student, teacher = scorecard.score("student"), scorecard.score("teacher")
    served = deployment.answer_ms if deployment is not None else None
    n_teacher = teacher.slices[-1].n_items if teacher is not None else 0
    return Answered(
        plan,
        *halves,
        None if student is None else student.usd_per_1000,
        None if teacher is None else teacher.usd_per_1000,
        sum(pair.student for pair in both) / max(1, len(both)),
        sum(pair.teacher for pair in both) / max(1, len(both)),
        chosen_on,
        None if served is None else served.measured,
        1000 * teacher.seconds / n_teacher if teacher is not None and n_teacher else None,
        requests_per_day,
        n_too_long=0 if teacher is None else teacher.n_too_long,
    )


@dataclass(frozen=True)
class ByTeacher:
    """The teacher's answer to one item."""

    right: bool
    took: Took


def right_by_teacher(folder: Path, scorecard: Scorecard) -> dict[str, ByTeacher]:
    """Return the teacher's answer to each test item, by the item's id.

    Raises:
        StratosError: the answers cannot be read, or there are none.
    """
    path = folder / "evaluate" / "examples.jsonl"
    if not path.exists():
        path = Path(scorecard.examples_path)
    try:
        rows: list[dict[str, Any]] = [
            msgspec.json.decode(line) for line in path.read_bytes().splitlines()
        ]
    except (OSError, msgspec.DecodeError, RecursionError) as error:
        raise StratosError(
            f"The teacher's answers cannot be read from {path} ({error}). Delete "
            f"{folder / 'evaluate.json'} and give the command again."
        ) from error
    by_id = {
        row["id"]: ByTeacher(row["scores"]["teacher"]["exact"] >= 1, Took(**row["took"]["teacher"]))
        for row in rows
        if "teacher" in row.get("scores", {})
    }
    if not by_id:
        raise StratosError(
            f"{folder}: the teacher answered no test item, so there is nothing to escalate to. "
            "Give the command again with evaluate.n_teacher_items=<number>."
        )
    return by_id


def pairs_path(folder: Path) -> Path:
    """Return where the items of a run's cascade lie."""
    return folder / "cascade" / "pairs.jsonl"


def write_pairs(folder: Path, pairs: Sequence[KeptPair]) -> Path:
    """Keep the items; return the file."""
    path = pairs_path(folder)
    write_atomically(path, b"".join(msgspec.json.encode(pair) + b"\n" for pair in pairs))
    return path


def read_pairs(folder: Path) -> list[KeptPair]:
    """Read the items back; none where there are none.

    Raises:
        StratosError: the file is damaged.
    """
    path = pairs_path(folder)
    try:
        lines = path.read_bytes().splitlines()
        return [from_json(line, KeptPair) for line in lines]
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError) as error:
        raise StratosError(
            f"{path} cannot be read ({error}). Delete {folder / 'cascade.json'} and give the "
            "command of the run again."
        ) from error


def half(question: str) -> int:
    """Return in which half a test item is: 0 chooses, 1 measures."""
    return hashlib.sha256(question.encode("utf-8", "surrogatepass")).digest()[0] % 2


def _in_halves(folder: Path, scorecard: Scorecard) -> tuple[list[KeptPair], float]:
    """Return test items that both answered in the evaluation, in the shares of their slices.

    With them the share of all test items in slices too rare to be drawn.
    """
    by_teacher = right_by_teacher(folder, scorecard)
    answers = [answer for answer in read_answers(folder, scorecard) if answer.id in by_teacher]
    drawn = _in_shares(folder, scorecard, answers)
    answers = [answer for answer in answers if answer.id in {*drawn.ids}]
    pairs = [
        KeptPair(
            answer.id,
            half(answer.question) == 0,
            answer.logprob if answer.score.parsed else None,
            answer.score.exact >= 1,
            by_teacher[answer.id].right,
        )
        for answer in answers
    ]
    return pairs, drawn.left_out


def _in_shares(folder: Path, scorecard: Scorecard, answers: Sequence[KeptAnswer]) -> Drawn:
    ids = [answer.id for answer in answers]
    if len({answer.slice for answer in answers}) == 1:
        return Drawn(tuple(ids))
    config = config_of(folder)
    slice_of = slices_of(config.task, "test", config.evaluate.n_items, scorecard.seed)
    if not {*ids} <= slice_of.keys():
        raise StratosError(
            f"{folder}: the rows of the task have changed since its evaluation. Delete "
            f"{folder / 'evaluate.json'} and give the command again."
        )
    return in_shares(slice_of, ids, len(ids))
