"""Learns a student that calls tools from turns of conversations, or from requests."""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from typing_extensions import override

from stratos.contrib.tools.call_paths import Leaf, Part, flattened
from stratos.contrib.tools.call_student import (
    NO_ITEM,
    NONE,
    OMIT,
    TEXT,
    Caller,
    Learnt,
    State,
    actions_of,
    options,
    state_of,
)
from stratos.contrib.tools.call_texts import Neighbours, Template, is_sentence, template_of
from stratos.contrib.tools.call_values import as_json
from stratos.contrib.tools.calls import Call, calls_of_or_none
from stratos.contrib.tools.choice_model import Choices, fit
from stratos.contrib.tools.grounding import form
from stratos.contrib.tools.signatures import Tool, messages_in
from stratos.contrib.tools.trace_drawer import made_of, recorded_of
from stratos.core.formats import counted
from stratos.core.intervals import n_independent, wilson
from stratos.models.kinds.base import Fit, Learner, Predictor
from stratos.models.kinds.kind_choice import without_optimism
from stratos.models.kinds.tagger.tagger import calibrated, fit_scale
from stratos.tasks.answers import same
from stratos.tasks.base import Item, Task
from stratos.tasks.dedup.hashes import content_id

_MOST_CONSTANTS, _FEWEST_OF_CONSTANT = 40, 3
_MOST_NEGATIVES = 30
_FEWEST_OF_FORMS, _NEW_FORMS = 20, 0.01
"""Different texts of an argument, and the share of them with a form of their own, by which its
values have known forms."""
_YEAR_OF_CALL = re.compile(r'"(\d{4})-\d\d-')
_YEAR = re.compile(r"\b((?:19|20)\d\d)-\d\d-\d\d")
_N_FOLDS, _ROWS_OF_FOLDS = 4, 1500
"""Folds of cross-validation, and rows from which on one of them alone is held out."""


@dataclass(frozen=True)
class States:
    """States of texts. Those of many are made each time they are read: all would take gigabytes."""

    texts: Sequence[str]
    year: str
    made: Sequence[State] | None = None

    @classmethod
    def of(cls, texts: Sequence[str], year: str) -> Self:
        """Return the states of texts."""
        are_few = len(texts) < _ROWS_OF_FOLDS
        return cls(texts, year, [state_of(text, year) for text in texts] if are_few else None)

    def some(self, places: Iterable[int]) -> States:
        """Return the states at some places."""
        places = [*places]
        made = None if self.made is None else [self.made[k] for k in places]
        return States([self.texts[k] for k in places], self.year, made)

    def and_some(self, texts: Sequence[str]) -> States:
        """Return them with the states of other texts behind them."""
        more = States.of(texts, self.year)
        are_made = self.made is not None and more.made is not None
        made = [*self.made, *more.made] if are_made else None  # type: ignore[misc]
        return States([*self.texts, *texts], self.year, made)

    def __iter__(self) -> Iterator[State]:
        """Yield the state of each text."""
        yield from (
            (state_of(text, self.year) for text in self.texts) if self.made is None else (self.made)
        )


class CallerLearner(Learner):
    """Learns a student that calls tools; the last one is kept from its probe to the training."""

    _last: ClassVar[dict[Hashable, Fit]] = {}

    @override
    def fit(
        self, texts: tuple[str, ...], answers: tuple[str, ...], task: Task, seed: int = 0
    ) -> Fit:
        # A task of the user's own may have no hash: what it is written as stands for it.
        key = texts, answers, type(task), repr(task), seed
        if key not in self._last:
            fit = _fitted(texts, answers, task, seed)
            self._last.clear()
            self._last[key] = fit
        return self._last[key]

    @override
    def fit_again(
        self,
        folder: Path,
        texts: tuple[str, ...],
        answers: tuple[str, ...],
        task: Task,
        seed: int = 0,
    ) -> Predictor:
        before = Caller.load(folder)
        states = States.of(texts, year_in(answers, texts))
        return replace(
            learnt(states, answers, seed, injects=before.n_made > 0), scales=before.scales
        )


@dataclass(frozen=True)
class HeldOut:
    """Answers to turns of conversations that a student has not learnt."""

    chances: np.ndarray
    """How likely each is, before calibration."""
    right: np.ndarray
    is_call: np.ndarray
    conversations: Sequence[str]
    """That each is of."""

    @property
    def n_independent(self) -> float:
        """How many answers of conversations of their own they are worth."""
        return n_independent(self.right.astype(float).tolist(), self.conversations)

    @property
    def score(self) -> tuple[int, float]:
        """How many are right, and of equals, how near the chances come to that (Brier)."""
        return int(self.right.sum()), -float(((self.chances - self.right) ** 2).sum())

    def scales(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return slope and shift of the log odds of calls and of texts."""
        of_calls, of_texts = (
            fit_scale(self.chances[of], self.right[of]) if of.sum() > 1 else (1.0, 0.0)
            for of in (self.is_call, ~self.is_call)
        )
        return of_calls, of_texts


def _fitted(texts: tuple[str, ...], answers: tuple[str, ...], task: Task, seed: int) -> Fit:
    """Cross-validate a student on other conversations, and fit it on all rows.

    Of few conversations more are made, where cross-validation shows that these help.
    """
    started = time.process_time()
    states = States.of(texts, year_in(answers, texts))
    held_out = held_out_answers(states, answers, task, seed)
    source = f"cross-validation on {counted(len(held_out.right), 'row', spec=',')}"
    injects, n_right = bool(recorded_of(texts, answers)), float(held_out.right.sum())
    if injects:
        injected = held_out_answers(states, answers, task, seed, injects=True)
        # The better of two would be shown too good.
        right = np.stack([held_out.right, injected.right])
        counts = np.stack([2 * right, np.full(right.shape, 2)], axis=2)
        n_right = right.shape[1] * without_optimism(right, counts, np.zeros(2), seed)[0]
        injects = injected.score > held_out.score
        if injects:
            source += f", with conversations made of these ({held_out.right.mean():.0%} without)"
            held_out = injected
    student = learnt(states, answers, seed, injects=injects)
    scales = held_out.scales()
    likely = [
        calibrated(chance, scales[not calls])
        for chance, calls in zip(held_out.chances, held_out.is_call, strict=True)
    ]
    right, worth = held_out.right, max(1.0, held_out.n_independent)
    return Fit(
        replace(student, scales=scales),
        wilson(n_right / max(1, len(right)) * worth, worth, source=source),
        len(texts),
        float(abs(np.mean(likely) - right.mean())) if len(right) else 0.0,
        seconds=time.process_time() - started,
    )


def held_out_answers(
    states: States, answers: Sequence[str], task: Task, seed: int, *, injects: bool = False
) -> HeldOut:
    """Cross-validate a student: answer the turns of each fold as those of the others teach it.

    Args:
        states: before the turns.
        answers: theirs.
        task: compares answers.
        seed: of the folds.
        injects: learn conversations, too, that are made of those of the other folds.
    """
    raw, right, is_call, names = list[float](), list[bool](), list[bool](), list[str]()
    conversations = conversations_of(states.texts)
    folds = folds_of(conversations, seed)
    for fold in range(1 if len(folds) >= _ROWS_OF_FOLDS else _N_FOLDS):
        inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        if not len(inside) or not len(outside):
            continue
        known = [answers[i] for i in inside.tolist()]
        part = learnt(states.some(inside), known, seed, injects=injects)
        for i, state in zip(outside.tolist(), states.some(outside), strict=True):
            text, p, calls = part.answer(state)
            raw.append(p)
            right.append(_is_right(task, states.texts[i], answers[i], text))
            is_call.append(calls)
            names.append(conversations[i])
    return HeldOut(np.array(raw), np.array(right, bool), np.array(is_call, bool), names)


def learnt(states: States, answers: Sequence[str], seed: int, *, injects: bool = False) -> Caller:
    """Return the student of rows and, where it is asked for, of conversations made of them."""
    if not injects:
        return learn(states, answers, states.year, seed)
    rows = made_of(states.texts, answers, seed)
    more, theirs = [text for text, _ in rows], [answer for _, answer in rows]
    student = learn(states.and_some(more), [*answers, *theirs], states.year, seed)
    return replace(student, n_made=len(rows))


def conversations_of(texts: Sequence[str]) -> list[str]:
    """Return a hash for each text that turns of conversations share that begin alike."""
    heads = list[tuple[str, ...]]()
    for text in texts:
        spoken = [m for m in messages_in(text) if m["role"] not in ("system", "developer")]
        heads.append(tuple(map(as_json, spoken[:3])))
    # A first turn is in the fold of a conversation that goes on from it.
    later = {head[:1]: head for head in reversed(heads) if len(head) > 2}
    return [content_id("\n".join(later.get(h[:1], h) if len(h) < 3 else h)) for h in heads]


def folds_of(conversations: Sequence[str], seed: int) -> np.ndarray:
    """Return the fold of each row, which all of its conversation are in."""
    names = sorted({*conversations})
    random.Random(seed).shuffle(names)
    fold = {name: k % _N_FOLDS for k, name in enumerate(names)}
    return np.array([fold[name] for name in conversations])


def _is_right(task: Task, question: str, gold: str, answer: str) -> bool:
    if answer == gold:
        return True
    calls = calls_in(gold)
    slice = "text" if calls is None else "simple" if calls else "irrelevant"
    return task.score(answer, Item("", slice, question, gold)).exact == 1


def calls_in(answer: str) -> list[Call] | None:
    """Return the calls of a gold answer; None where it is a text."""
    return calls_of_or_none(answer) if answer[:1] == "[" else None


def action_in(answer: str) -> str:
    """Return the action of a gold answer."""
    calls = calls_in(answer)
    if calls is None:
        return TEXT
    return "+".join(call.name for call in calls) or NONE


def year_in(answers: Iterable[str], texts: Iterable[str] = ()) -> str:
    """Return the year that dates of calls mostly have, else those of texts, else today's."""
    of_calls = (a for a in answers if a[:1] == "[")
    for some, pattern in ((of_calls, _YEAR_OF_CALL), (texts, _YEAR)):
        years = Counter(year for text in some for year in pattern.findall(text))
        if years:
            return years.most_common(1)[0][0]
    return str(datetime.now(UTC).year)


def learn(states: Iterable[State], answers: Sequence[str], year: str, seed: int = 0) -> Caller:
    """Return the student that learns from states, which are read twice, and their right answers."""
    actions_due = [action_in(answer) for answer in answers]
    counts = Counter(actions_due)
    most = max((max(Counter(action.split("+")).values()) for action in counts), default=1)
    most = min(most, 4)
    known = tuple(counts)
    arguments = _arguments_of(states, answers)
    chosen, values = Choices(), Choices()
    texts: dict[str, list[tuple[Sequence[str], Template]]] = defaultdict(list)
    rng = random.Random(seed)
    for state, action, answer in zip(states, actions_due, answers, strict=True):
        actions = actions_of(state, known, most)
        if action in actions and len(actions) > 1:
            chosen.add([*actions.values()], [name == action for name in actions])
        calls = calls_in(answer)
        if calls is None:
            texts[TEXT].append((state.features, template_of(answer, state.offered)))
        by_name = {tool.name: tool for tool in state.tools}
        groups: dict[str, list[Call]] = defaultdict(list)
        for call in calls or ():
            groups[call.name].append(call)
        for name, same_tool in groups.items():
            if name not in by_name:
                continue
            for leaf, gold in _choices_in(by_name[name], same_tool, state.offered.values):
                learnt = arguments.get(name, {}).get(leaf.name, Learnt())
                if learnt.is_text:
                    texts[f"{name}.{leaf.name}"] += [
                        (state.features, template_of(str(g), state.offered)) for g in gold
                    ]
                elif leaf.part is Part.ITEM:
                    _add_items(values, options(state, by_name[name], leaf, learnt), gold, rng)
                else:
                    _add_value(values, options(state, by_name[name], leaf, learnt), gold, rng)
    return Caller(known, most, year, arguments, fit(chosen), fit(values), Neighbours.of(texts))


def _choices_in(
    tool: Tool, calls: Sequence[Call], offered: Collection[str]
) -> Iterator[tuple[Leaf, list[Any]]]:
    """Yield what is chosen for calls of a tool with what is right, nothing where it is left out.

    Args:
        tool: that is called.
        calls: of it.
        offered: values that the conversation offers, as JSON: of a list among them all is taken.
    """
    flat = [flattened(tool.leaves, call.arguments) for call in calls]
    is_made = False
    for leaf in tool.leaves:
        if leaf.within and not any(values[leaf.within] for values in flat):
            continue
        if leaf.part is Part.PRESENCE and leaf.is_required:
            continue
        gold = [value for values in flat for value in values[leaf.name]]
        if leaf.part is Part.LIST:
            gold = [some if as_json(some) in offered else [] for some in gold]
            is_made = [] in gold
        elif leaf.part is Part.ITEM and not is_made:
            continue
        yield leaf, gold


def _add_value(
    values: Choices, choices: Mapping[str, list[str]], gold: Sequence[Any], rng: random.Random
) -> None:
    """Add the choice of a value, unless the right one is none of the candidates."""
    if gold:
        right = {key for key in choices if key and any(_is_same(key, value) for value in gold)}
    else:
        right = {OMIT} & choices.keys()
    wrong = [key for key in choices if key not in right]
    if not right or not wrong:
        return
    if len(wrong) > _MOST_NEGATIVES:
        always = [key for key in wrong if key == OMIT or choices[key][0] == "*constant"]
        always = always[:_MOST_NEGATIVES]
        wrong = [*dict.fromkeys([*always, *rng.sample(wrong, _MOST_NEGATIVES)])]
    keys = [*right, *wrong]
    values.add([choices[key] for key in keys], [key in right for key in keys])


def _add_items(
    values: Choices, choices: Mapping[str, list[str]], gold: Sequence[Any], rng: random.Random
) -> None:
    """Add of each candidate whether it is an item of a list."""
    right = {key for key in choices if any(_is_same(key, value) for value in gold)}
    wrong = [key for key in choices if key not in right]
    for key in [*right, *rng.sample(wrong, min(len(wrong), _MOST_NEGATIVES))]:
        values.add([choices[key], NO_ITEM], [key in right, key not in right])


def _is_same(key: str, value: Any) -> bool:
    return key == as_json(value) or (key[0] in '"[' and same(json.loads(key), value))


def _arguments_of(states: Iterable[State], answers: Sequence[str]) -> dict[str, dict[str, Learnt]]:
    values: dict[tuple[str, str], list[tuple[str, bool]]] = defaultdict(list)
    owners: dict[str, set[str]] = defaultdict(set)
    for state, answer in zip(states, answers, strict=True):
        calls = calls_in(answer)
        lowered = {key.lower() for key in state.offered.values} if calls else set()
        leaves = {tool.name: tool.leaves for tool in state.tools}
        for call in calls or ():
            for leaf in leaves.get(call.name, ()):
                given = flattened([leaf], call.arguments)[leaf.name]
                if given and leaf.part in (Part.VALUE, Part.ITEM):
                    keys = map(as_json, given)
                    values[call.name, leaf.name] += [(key, key.lower() in lowered) for key in keys]
                    owners[leaf.name].add(call.name)
    made: dict[str, dict[str, Learnt]] = defaultdict(dict)
    for (tool, name), some in values.items():
        counts = Counter(key for key, _ in some)
        unsaid = Counter(key for key, is_offered in some if not is_offered)
        sentences = sum(is_sentence(json.loads(key)) for key, is_offered in some if not is_offered)
        constants = [
            key for key, n in counts.most_common(_MOST_CONSTANTS)
            if n >= _FEWEST_OF_CONSTANT and unsaid[key]
        ]  # fmt: skip
        is_text = 2 * sentences > len(some)
        forms = frozenset() if is_text else _forms(key for key, _ in some)
        made[tool][name] = Learnt(tuple(constants), is_text, len(owners[name]) > 1, forms)
    return dict(made)


def _forms(keys: Iterable[str]) -> frozenset[str]:
    """Return the forms of texts, none where another is to be expected.

    The share of forms to come that are new is about that of those seen once (Good and Turing).
    """
    texts = {key for key in keys if key[:1] == '"'}
    counts = Counter(form(json.loads(key)) for key in texts)
    n_once = sum(n == 1 for n in counts.values())
    is_regular = len(texts) >= _FEWEST_OF_FORMS and n_once <= _NEW_FORMS * len(texts)
    is_regular = is_regular and all("9" in name for name in counts)  # words may be any
    return frozenset(counts) if is_regular else frozenset()
