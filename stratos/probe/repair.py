"""Repair a teacher's prompt: show it how the labels differ that it takes for each other.

The pairs are those that it confuses on one half of the validation items, and their examples are
training rows. Both prompts then answer the other half, which has named no pair and stands in no
prompt. The repaired prompt is taken where it answers more of these items, and McNemar's exact test
tells that from chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from stratos.evaluate.metrics import mcnemar_exact
from stratos.probe.questioning import Answered, Questioning
from stratos.records import ConfusedLabels, PromptRepair
from stratos.tasks.base import Task
from stratos.teachers.prompting import STUDENT

_FEWEST_ITEMS = 16
"""Items answered below which nothing is tried: half of them could not tell a better prompt."""
_MOST_PAIRS = 12
"""Pairs of labels that a prompt tells apart."""
_MOST_CHANCE = 0.1
"""Two-sided p-value from which a repaired prompt is not taken: one-sided 5%."""


def confused(task: Task, answered: Answered) -> tuple[ConfusedLabels, ...]:
    """Return the pairs of labels that wrong answers confuse, the most frequent first."""
    counts: Counter[tuple[str, str]] = Counter()
    for item, answer, score in zip(answered.items, answered.answers, answered.scores, strict=True):
        parsed = None if score.exact >= 1 else task.labelled(item, answer.text)
        if parsed is not None and parsed.answer in task.all_labels:
            first, second = sorted((item.answer, parsed.answer))
            counts[first, second] += 1
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple(ConfusedLabels(labels, n) for labels, n in ordered)


def repaired(
    asking: Questioning, answered: Answered, prompt: str
) -> tuple[Answered, PromptRepair] | None:
    """Try a prompt that tells confused labels apart; ask with it from now on if it is better.

    Args:
        asking: of the teacher; has the prompt as its task's where it is taken.
        answered: what its best prompt gave.
        prompt: this prompt.

    Returns:
        What the repaired prompt gave, and how the two compare; None where none was tried.
    """
    task = asking.config.task
    n = len(answered.items)
    if prompt == STUDENT or not task.takes_unlabelled or n < _FEWEST_ITEMS:
        return None
    named, rest = _part(answered, range(0, n, 2)), _part(answered, range(1, n, 2))
    pairs = tuple(pair.labels for pair in confused(task, named)[:_MOST_PAIRS])
    name = f"{prompt}, labels told apart for {asking.teacher.name}"
    twin = task.telling_apart(name, prompt, pairs) if pairs else None
    if twin is None:
        return None
    before = asking.config
    asking.use(replace(before, task=twin))
    start = Answered(limit=asking.first_limit(name))
    new = asking.ask({name: rest.items}, {name: start})[name]
    scores = list(zip(new.scores, rest.scores, strict=False))  # fewer where the money ends
    only_new = sum(a.exact >= 1 > b.exact for a, b in scores)
    only_old = sum(b.exact >= 1 > a.exact for a, b in scores)
    p_value = mcnemar_exact(only_new, only_old)
    is_taken = only_new > only_old and p_value <= _MOST_CHANCE
    if not is_taken:
        asking.use(before)
    return new, PromptRepair(
        prompt=name,
        base=prompt,
        pairs=pairs,
        n_items=len(scores),
        n_right_before=sum(b.exact >= 1 for _, b in scores),
        n_right=sum(a.exact >= 1 for a, _ in scores),
        only_repaired=only_new,
        only_base=only_old,
        p_value=p_value,
        is_taken=is_taken,
    )


def _part(answered: Answered, places: Sequence[int]) -> Answered:
    return Answered(
        tuple(answered.items[k] for k in places),
        tuple(answered.answers[k] for k in places),
        tuple(answered.scores[k] for k in places),
        answered.limit,
    )
