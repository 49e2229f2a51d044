"""The synthesize stage: verified training items from the planned strategy.

The corpus is decontaminated and deduplicated. Rows are written a few thousand at
once, so memory stays flat; the file appears under its name when it is whole, and never before.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from stratos.config import Config
from stratos.core.atomic_files import flush, staged_apart
from stratos.core.context import Context
from stratos.core.errors import ConfigError
from stratos.core.formats import counted
from stratos.core.redact import shown
from stratos.core.values import find
from stratos.records import FROM_FILE, Corpus, CorpusRow, Plan
from stratos.synthesize.admission import NEAR, held_out
from stratos.synthesize.strategy import Strategy, Tally
from stratos.tasks.base import Item, Task
from stratos.tasks.dedup.copies import HeldOut, family_of
from stratos.tasks.words import NGRAM, Leak

if TYPE_CHECKING:
    from types import TracebackType

    from stratos.tasks.dedup.near import NearDuplicates

_ROWS_AT_ONCE = 4096


class CorpusFile:
    """Takes items one by one; `with` completes the file, an exception leaves none.

    Args:
        path: where the file is to lie.
        held_out: what may not be trained on.
        size_of: size of an item's answer, for the table of sizes.
        near: tells near duplicates; None keeps them.
    """

    def __init__(
        self,
        path: Path,
        held_out: HeldOut,
        size_of: Callable[[Item], int],
        near: NearDuplicates | None = None,
    ) -> None:
        """Open a temporary file beside `path`."""
        self.path = path
        self.refused: Counter[str] = Counter()
        self.n_by_slice: Counter[str] = Counter()
        self.answer_sizes: dict[str, Counter[int]] = {}
        self._held_out = held_out
        self._size_of = size_of
        self._near = near
        self._seen: set[str] = set()
        self._rows: list[CorpusRow] = []
        self._sha256 = hashlib.sha256()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._temporary = staged_apart(path)
        self._file = self._temporary.open("wb")

    def __len__(self) -> int:
        return len(self._seen)

    @property
    def sha256(self) -> str:
        """Hash of the content, row by row: equal for equal corpora, however they are stored."""
        return self._sha256.hexdigest()

    def add(
        self, item: Item, completion: str, source: str = FROM_FILE, agreement: float = 1.0
    ) -> bool:
        """Take an item, or count why it is refused.

        Args:
            item: with its answer.
            completion: what is learnt of it.
            source: how a teacher made or labelled it, if any did.
            agreement: share of the teacher's answers that are its answer.
        """
        if item.id in self._seen:
            self.refused["duplicate"] += 1
            return False
        leak = self._held_out.leak(item, completion)
        if leak is not None:
            self.refused[leak] += 1
            return False
        if self._near is not None and self._near.is_near(item):
            self.refused[NEAR] += 1
            return False
        self._seen.add(item.id)
        self.n_by_slice[item.slice] += 1
        self.answer_sizes.setdefault(item.slice, Counter())[self._size_of(item)] += 1
        self._rows.append(
            CorpusRow(
                item.id,
                family_of(item),
                item.slice,
                item.question,
                item.rationale,
                item.answer,
                completion,
                source,
                agreement,
            )
        )
        if len(self._rows) == _ROWS_AT_ONCE:
            self._flush()
        return True

    def _flush(self) -> None:
        for row in self._rows:
            texts = (row.id, row.family, row.slice, row.question, row.rationale, row.answer)
            content = "\x1f".join((*texts, row.completion))
            self._sha256.update(content.encode() + b"\n")
        self._file.write(msgspec.json.Encoder().encode_lines(self._rows))
        self._rows.clear()

    def __enter__(self) -> CorpusFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Move the whole file to its name, or throw a part of one away."""
        try:
            if error is None:
                self._flush()
            self._file.close()
            if error is None:
                flush(self._temporary)
                self._temporary.replace(self.path)
        finally:
            self._temporary.unlink(missing_ok=True)


_ITEMS_PER_TICK = 512
_LOG_S = 2.0
"""Seconds between two points of what is tracked."""
_N_FOR_PHRASES = 200
"""Training questions from which the phrases of the task are told."""


def synthesize(config: Config, plan: Plan, context: Context) -> Corpus:
    """Make the corpus of the planned strategy: `corpus/train.jsonl` in the run folder.

    Raises:
        ConfigError: the planned strategy is not configured, or not one item passed.
        TeacherError: the strategy asks a teacher, and that fails.
    """
    started, cpu_started = time.perf_counter(), time.process_time()
    strategy = _planned_strategy(config.strategies, plan.strategy)
    tally = Tally()
    context.ledger.cut_at_usd, logged_at = None, started
    path = context.run_dir / "corpus" / "train.jsonl"
    near = _near_duplicates(strategy, config.task, config.seed)
    sources: Counter[str] = Counter()
    with CorpusFile(path, held_out(config), config.task.answer_size, near) as corpus:
        for n_drawn, (item, completion) in enumerate(
            strategy.draw(config, plan, context, tally), start=1
        ):
            source = tally.sources.get(item.id, FROM_FILE)
            if corpus.add(item, completion, source, tally.agreement.get(item.id, 1.0)):
                sources[source] += 1
            if (now := time.perf_counter()) - logged_at >= _LOG_S:
                logged_at = now
                context.log(_so_far(len(corpus), n_drawn, now - started, tally))
            if n_drawn % _ITEMS_PER_TICK == 0:
                context.tick(len(corpus), strategy.n_items, counted(len(corpus), "item", spec=","))
                context.sample("", item.question, item.answer, completion)
            if len(corpus) == strategy.n_items:
                break
        left_out = Counter(config.task.left_out)
        counts = tally.refused + corpus.refused + left_out
        refused = {str(reason): n for reason, n in sorted(counts.items())}
        if len(corpus) == 0:
            raise ConfigError(_nothing(config.task, strategy, refused, tally))
    context.tick(strategy.n_items, strategy.n_items, counted(len(corpus), "item", spec=","))
    if strategy.makes_questions and (never := config.task.never_drawn) is not None:
        context.warn(str(never))
    for note in advice(config.task, strategy, refused):
        context.note(note)
    context.log(_so_far(len(corpus), n_drawn, time.perf_counter() - started, tally))
    if tally.first_problem:
        n = refused["unverified"]
        refusal = "was refused:" if n == 1 else "were refused, the first of them"
        context.warn(
            f"{counted(n, 'item', spec=',')} did not verify and {refusal} "
            f"{shown(tally.first_problem, 200)}"
        )
    cpu_seconds, seconds = time.process_time() - cpu_started, time.perf_counter() - started
    return Corpus(
        task=config.task.name,
        strategy=strategy.name,
        path=str(path),
        n_items=len(corpus),
        n_by_slice=dict(sorted(corpus.n_by_slice.items())),
        refused=refused,
        answer_sizes={
            name: {str(size): n for size, n in sorted(sizes.items())}
            for name, sizes in sorted(corpus.answer_sizes.items())
        },
        items_per_s=len(corpus) / max(seconds, 1e-9),
        sha256=corpus.sha256,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        teacher_tokens=tally.teacher_tokens,
        usd=tally.usd,
        n_answers=tally.n_answers,
        n_truncated=tally.n_truncated,
        cut_at_usd=context.ledger.cut_at_usd,
        n_by_source=dict(sources) if strategy.adds_rows else {},
        rows_to_label=tally.rows_to_label,
        n_rows_to_label=tally.n_rows_to_label,
        drawn_in_vain=dict(config.task.drawn_in_vain) if strategy.makes_questions else {},
    )


def _near_duplicates(strategy: Strategy, task: Task, seed: int) -> NearDuplicates | None:
    threshold = strategy.near_duplicate_share
    if not threshold:
        return None
    from stratos.tasks.dedup.near import NearDuplicates  # imports numpy

    return NearDuplicates(threshold, task.items("train", _N_FOR_PHRASES, seed), task.own_words)


def _so_far(n_kept: int, n_drawn: int, seconds: float, tally: Tally) -> dict[str, float]:
    """Return what is tracked while the corpus grows."""
    return {
        "items": float(n_kept),
        "kept_share": n_kept / n_drawn,
        "unverified": float(tally.refused["unverified"]),
        "items_per_s": n_kept / max(seconds, 1e-9),
    }


def _planned_strategy(strategies: Sequence[Strategy], name: str) -> Strategy:
    if (planned := find(strategies, name)) is not None:
        return planned
    known = ", ".join(strategy.name for strategy in strategies)
    raise ConfigError(
        f"The plan's strategy {name} is not configured (configured: {known}). "
        "Give the command that made the plan, or plan again with stages=[probe,plan,synthesize]."
    )


def _nothing(task: Task, strategy: Strategy, refused: dict[str, int], tally: Tally) -> str:
    """Say why a corpus is empty and what to type."""
    counts = ", ".join(f"{n:,} {reason}" for reason, n in refused.items()) or "nothing was drawn"
    first = (
        f" The first that did not verify: {shown(tally.first_problem, 200)}."
        if tally.first_problem
        else ""
    )
    suggestions = [*advice(task, strategy, refused)]
    if not suggestions:
        alternative = "strategy=injection" if task.can_reverse else "another teacher=…"
        suggestions = [f"Try {alternative if strategy.learns_teacher else 'strategy=alignment'}."]
    return (
        f"{strategy.name} made no training item for {task.name} ({counts}).{first} "
        f"{' '.join(suggestions)}"
    )


def advice(task: Task, strategy: Strategy, refused: Mapping[str, int]) -> Iterator[str]:
    """Yield a sentence for each kind of refusal that a setting changes.

    Args:
        task: of the run.
        strategy: that made the corpus.
        refused: reason to how many items.
    """
    noun = "row" if task.has_rows else "item"

    def were(n: int) -> str:
        return f"{counted(n, f'{noun} was', f'{noun}s were', spec=',')} not trained on"

    # Of questions that are drawn some are always those of the test; others take their place.
    is_drawn = strategy.makes_questions and not task.has_rows
    if (n := refused.get(Leak.EXACT, 0) + refused.get(Leak.CANONICAL, 0)) and not is_drawn:
        message = f"{were(n)}: the question is a validation or test question, too."
        if task.has_rows:
            message += " To train on it, take it out of the test questions (task.test_path)."
        yield message
    if (n := refused.get(Leak.OVERLAP, 0)) and not is_drawn:
        message = f"{were(n)}: {NGRAM} words in a row are also in a held-out question."
        if task.has_rows:
            message += (
                " If they are a phrase of your questions, and no copy: task.compares_words=false."
            )
        yield message
    if n := refused.get(NEAR, 0):
        yield (
            f"{were(n)}: another one says nearly the same. strategy.near_duplicates=<share> sets "
            f"from which common share of words on (now {strategy.near_duplicate_share:g}); 0 "
            "keeps all."
        )
