"""Which turns of agents' traces are probably wrong, told by the other traces and the tools alone.

Nothing is asked. A call is compared with the schema, its values with what was said before, each
value with those that other arguments have, and the tool with what such a step mostly calls.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import cached_property, lru_cache
from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stratos.contrib.logs.conversation import Call, Turn
from stratos.contrib.tools.grounding import words_of_name
from stratos.contrib.tools.signatures import Tool, tools_of
from stratos.contrib.tools.trace_steps import (
    TEXT,
    Argument,
    Step,
    Vocabulary,
    heard,
    speech_tools,
    steps_of,
    surroundings,
)
from stratos.contrib.tools.words import TurnDoubt

Turns = Sequence[Turn]

LEAST = 0.5
"""Probability from which a turn is doubtful."""
_FOLDS, _MOST_LEARNT = 3, 30_000
_FEWEST_STEPS, _FEWEST_OF_CLASS = 60, 5
_N_FEATURES, _MOST_WORDS = 2**16, 8192
_FLOOR, _MARGIN = 0.35, 1.0
"""Quantile of the predicted probabilities of an action where another one is likelier."""
_PEAK = 0.95
_CERTAIN = 0.97
_PARTS_OF_LIKENESS = 0.22, 0.35, 0.33, 0.1
"""Weights of the likeness of names, of arguments, of steps, and of not being in one trace."""
_ARGUMENT_ALIKE = 0.35
_ROUNDS = 3
_OFTEN = 0.5
_ALIKE = 0.6
"""Score from which an unknown name is another one for a tool."""
_FEWEST_REPEATED, _OFTEN_REPEATED = 5, 0.25
"""Times that a call is made again after a result, and the share, from which it is meant."""
_FEWEST_VALUES = 20
_USUALLY_SAID, _NEARLY_ALL, _LOWEST = 0.3, 0.9, 0.25
"""Shares of said values from which unsaid ones are looked at, and are wrong where there are too few
to tell what implies them; and the quantile of their predicted probabilities that is by chance."""
_BY_DEFAULT = 0.3


@dataclass(frozen=True, slots=True)
class Doubt:
    """A turn of the agent that is probably wrong."""

    conversation: int
    turn: int
    reason: TurnDoubt
    probability: float
    """That it is wrong."""
    calls: tuple[Call, ...] = ()
    """Its calls with the names of the schema, where nothing but names is wrong."""


def doubtful_turns(
    conversations: Sequence[Turns], tools: Sequence[Mapping[str, Any]], least: float = LEAST
) -> list[Doubt]:
    """Return the turns that are probably wrong, in order, each with its main reason.

    Args:
        conversations: turns of each, as `exchanges.turns_of` reads them.
        tools: in the form of the OpenAI API; `usual_tools.usual_tools` infers them.
        least: probability of being wrong from which a turn is returned.

    Raises:
        ValueError: the tools cannot be read; the message says which and why.
    """
    return TraceChecks(conversations, tools_of([*tools])).doubts(least)


def cleaned(conversations: Sequence[Turns], tools: Sequence[Mapping[str, Any]]) -> list[list[Turn]]:
    """Return conversations with names of the schema and without repeated calls.

    Turns that stay doubtful have `is_learnt` False: they are context for those that follow.

    Raises:
        ValueError: the tools cannot be read; the message says which and why.
    """
    of_each: dict[int, list[Doubt]] = defaultdict(list)
    for doubt in doubtful_turns(conversations, tools):
        of_each[doubt.conversation].append(doubt)
    return [mended(trace, of_each[k]) for k, trace in enumerate(conversations)]


def mended(trace: Turns, doubts: Sequence[Doubt]) -> list[Turn]:
    """Return the turns of one conversation as `cleaned` does, given its doubts in order."""
    made = list(trace)
    for doubt in reversed(doubts):
        k = doubt.turn
        if doubt.reason is TurnDoubt.REPEATED:
            del made[k : k + n_repeated(made, k)]
        else:
            calls = doubt.calls or made[k].calls
            is_right = doubt.reason is TurnDoubt.RENAMED
            made[k] = replace(made[k], calls=calls, is_learnt=made[k].is_learnt and is_right)
    return made


def n_repeated(trace: Turns, turn: int) -> int:
    """Return how many turns go with a call that is made once more: itself, and its results."""
    results = takewhile(lambda after: after.role == "tool", trace[turn + 1 :])
    return 1 + sum(1 for _ in results)


class TraceChecks:
    """What is doubtful about the turns of some traces, and how much."""

    def __init__(
        self, traces: Sequence[Turns], tools: Sequence[Tool], before: TraceChecks | None = None
    ) -> None:
        """Predict what is usual.

        Args:
            traces: turns of each conversation.
            tools: of the schema.
            before: checks of the same traces by other tools, whose work is taken over.
        """
        self.traces = traces
        self.tools = {tool.name: tool for tool in tools}
        self.speech: set[str] = speech_tools(traces) if before is None else before.speech
        self.as_called: _Called = (
            _Called.of(traces, self.speech) if before is None else before.as_called
        )
        self.evidence: dict[int, dict[TurnDoubt, float]] = defaultdict(dict)
        self.names: dict[str, str] = {}
        self.renamed: dict[int, list[tuple[str, dict[str, Any]]]] = {}
        for _ in range(_ROUNDS):  # what is mapped helps to map others
            called = _Called.of(traces, self.speech, self.names) if self.names else self.as_called
            self.steps, self.arguments = called.steps, called.arguments
            self.calls: dict[str, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
            for k, step in enumerate(self.steps):
                for name, arguments in step.calls:
                    self.calls[name].append((k, arguments))
            self.actions = _Predictor(called, {*self.tools, TEXT})
            self.values = _ValuePredictor(called, self.tools, self.actions.are_due())
            names = self._renamed_tools()
            if not names:
                break
            self.names |= names

    def doubts(self, least: float = LEAST) -> list[Doubt]:
        """Return the turns that are wrong with at least a probability."""
        self._check_schema()
        self._check_foreign()
        self._check_repeated()
        self._check_actions()
        self._check_values()
        doubts = []
        for number in sorted({*self.evidence, *self.renamed}):
            step, evidence = self.steps[number], self.evidence[number]
            # Reasons are taken as independent: a turn is right if it is so by each of them.
            wrong = 1 - float(np.prod([1 - p for p in evidence.values()]))
            if wrong >= least:
                reason = max(evidence, key=lambda reason: evidence[reason])
                doubts.append(Doubt(step.conversation, step.turn, reason, wrong))
            elif number in self.renamed:
                turn = self.traces[step.conversation][step.turn]
                calls = tuple(
                    Call(call.id, name, json.dumps(arguments, ensure_ascii=False))
                    for call, (name, arguments) in zip(turn.calls, self.renamed[number],
                                                       strict=True)
                )  # fmt: skip
                doubts.append(
                    Doubt(step.conversation, step.turn, TurnDoubt.RENAMED, _CERTAIN, calls)
                )
        return doubts

    def _doubt(self, step: int, reason: TurnDoubt, probability: float) -> None:
        of_step = self.evidence[step]
        of_step[reason] = max(of_step.get(reason, 0.0), min(_CERTAIN, probability))

    # --- names and forms -------------------------------------------------------------------------

    def _renamed_tools(self) -> dict[str, str]:
        """Return the unknown names that are other names of tools."""
        calls = self.calls
        grounded: dict[str, list[bool]] = defaultdict(list)
        for argument in self.arguments:
            grounded[argument.tool].append(bool(argument.source))
        usually = [is_said for name in self.tools for is_said in grounded[name]]
        names = {}
        for name in calls.keys() - self.tools.keys():
            # A call whose values nobody said is of another conversation.
            share = np.mean(grounded[name] or [True]) / np.mean([True, *usually])
            least = _ALIKE if name in self.speech or share > _OFTEN else 2 * _ALIKE
            scores = {
                tool: self.likeness(name, tool)
                for tool in self.tools
                if (name in self.speech) == (tool in self.speech) or tool not in calls
            }
            best = max(scores, key=lambda tool: scores[tool], default=None)
            if best is not None and scores[best] >= least:
                names[name] = best
        return names

    def likeness(self, name: str, tool: str) -> float:
        """Return how much the calls of a name are like those of a tool, from 0 to 1."""
        calls = self.calls[name]
        given = Counter(key for _, arguments in calls for key in arguments)
        known = self.tools[tool].properties
        likeness = [
            max((self._argument_likeness(name, key, candidate) for candidate in known), default=0.0)
            for key in given
        ]
        of_arguments = float(
            np.average(likeness, weights=[*given.values()]) if given else not known
        )
        if name in self.speech:
            of_arguments = 0.7
        apart = 0.5 if tool not in self.calls else self.apart(name, tool)
        parts = name_likeness(name, tool), of_arguments, self.actions.lift(
            [k for k, _ in calls], tool), apart  # fmt: skip
        return float(np.dot(_PARTS_OF_LIKENESS, parts))

    def apart(self, name: str, tool: str) -> float:
        """Return how seldom one trace has both, from 0 (as if by chance) to 1 (never).

        A tool that is renamed in some traces is called by its other name in the others.
        """
        mine, of_others = ({self.steps[k].conversation for k, _ in self.calls[key]}
                        for key in (name, tool))  # fmt: skip
        together = len(mine & of_others) / max(1, len(mine))
        return 1 - min(1.0, together / max(len(of_others) / len(self.traces), 1e-9))

    def _argument_likeness(self, tool: str, name: str, candidate: str) -> float:
        """Return how much an argument of a called tool is like one of the schema, from 0 to 1."""
        return (name_likeness(name, candidate) + self.values.share(tool, name, candidate)) / 2

    def _check_schema(self) -> None:
        """Doubt calls that the schema does not allow, unless most calls of the tool are like that.

        Of what most calls do the schema is wrong, not the calls.
        """
        of_tool: dict[tuple[str, TurnDoubt], list[int]] = defaultdict(list)
        for k, step in enumerate(self.steps):
            turn = self.traces[step.conversation][step.turn]
            calls, is_renamed = [], False
            for call, (name, arguments) in zip(turn.calls, step.calls, strict=True):
                tool = self.tools.get(name)
                if tool is None:
                    self._doubt(k, TurnDoubt.UNKNOWN_TOOL, _CERTAIN)
                    break
                mapped = self._mapped(tool, arguments)
                is_renamed |= name != call.name or mapped.keys() != arguments.keys()
                calls.append((name, mapped))
                if (problem := _problem(tool, mapped)) is not None:
                    of_tool[name, problem].append(k)
            else:
                if is_renamed:
                    self.renamed[k] = calls
        for (name, problem), numbers in of_tool.items():
            if problem is TurnDoubt.UNKNOWN_ARGUMENT or 2 * len(numbers) < len(self.calls[name]):
                for k in numbers:
                    self._doubt(k, problem, _CERTAIN)

    def _mapped(self, tool: Tool, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return arguments under the names of the schema, as far as one is alike."""
        unknown = [name for name in arguments if not tool.has(name)]
        free = [key for key in tool.properties if key not in arguments]
        if not unknown or not free:
            return {**arguments}
        from scipy.optimize import linear_sum_assignment  # takes half a second to import

        scores = np.array([[self._argument_likeness(tool.name, name, key) for key in free]
                           for name in unknown])  # fmt: skip
        mapped = {
            unknown[row]: free[column]
            for row, column in zip(*linear_sum_assignment(-scores), strict=True)
            if scores[row, column] >= _ARGUMENT_ALIKE
            or (tool.name in self.speech and len(arguments) == 1)
        }
        return {mapped.get(name, name): value for name, value in arguments.items()}

    def _check_foreign(self) -> None:
        """Doubt all of a trace whose calls are of other services alone, and not so by chance."""
        of_trace: dict[int, list[int]] = defaultdict(list)
        called: dict[int, list[bool]] = defaultdict(list)
        for k, step in enumerate(self.steps):
            of_trace[step.conversation].append(k)
            called[step.conversation] += [
                name not in self.tools for name, _ in step.calls if name not in self.speech
            ]
        n_calls = sum(map(len, called.values()))
        share = sum(map(sum, called.values())) / max(1, n_calls)
        for number, numbers in of_trace.items():
            if called[number] and all(called[number]):
                for k in numbers:
                    self._doubt(k, TurnDoubt.FOREIGN, 1 - share ** len(called[number]))

    def _check_repeated(self) -> None:
        """Doubt a call that the agent makes twice in a row, with the same result or none.

        A call that is often made again after such a result is how the agent polls, scrolls or
        tries again: what is repeated by mistake is so after any result.
        """
        n_made, n_again = Counter[tuple[Any, ...]](), Counter[tuple[Any, ...]]()
        repeated: list[tuple[int, tuple[tuple[Any, ...], ...]]] = []
        for k, (first, second) in enumerate(zip(self.steps, self.steps[1:], strict=False), start=1):
            if not first.calls or first.conversation != second.conversation:
                continue
            result, again = (tuple(turn.text for turn in turns if turn.role == "tool")
                             for turns in (second.before, second.after))  # fmt: skip
            names = tuple(name for name, _ in first.calls)
            keys: tuple[tuple[Any, ...], ...] = ((names,), (names, result))
            n_made.update(keys)
            is_asked = any(turn.role == "user" for turn in second.before)
            if first.calls == second.calls and not is_asked:
                n_again.update(keys)
                if not result or not again or result == again:
                    repeated.append((k, keys))
        for k, keys in repeated:
            if not any(n_again[key] >= max(_FEWEST_REPEATED, _OFTEN_REPEATED * n_made[key])
                       for key in keys):  # fmt: skip
                self._doubt(k, TurnDoubt.REPEATED, 0.95)

    # --- what is usual ---------------------------------------------------------------------------

    def _check_actions(self) -> None:
        is_text = {TEXT, *self.speech}
        for k, (wrong, best) in self.actions.wrong().items():
            action = self.steps[k].action
            if action in is_text:
                reason = TurnDoubt.OTHER_TEXT if best in is_text else TurnDoubt.CALL_DUE
            else:
                reason = TurnDoubt.TEXT_DUE if best in is_text else TurnDoubt.OTHER_TOOL
            self._doubt(k, reason, wrong)

    def _check_values(self) -> None:
        for k, wrong in self.values.mistaken().items():
            self._doubt(k, TurnDoubt.OTHER_ARGUMENT, wrong)
        for k, (wrong, source) in self.values.unsaid().items():
            reason = TurnDoubt.TOO_EARLY if source == "tool" else TurnDoubt.NOT_SAID
            self._doubt(k, reason, wrong)


def _problem(tool: Tool, arguments: Mapping[str, Any]) -> TurnDoubt | None:
    """Return what the schema of a tool does not allow; None where it allows all."""
    if any(not tool.has(key) for key in arguments):
        return TurnDoubt.UNKNOWN_ARGUMENT
    if any(key not in arguments for key in tool.required):
        return TurnDoubt.MISSING_ARGUMENT
    is_wrong = tool.problem(tool.without_nulls(arguments)) is not None
    return TurnDoubt.SCHEMA if is_wrong else None


@lru_cache(maxsize=65_536)
def name_likeness(name: str, candidate: str) -> float:
    """Return how alike two names are, from 0 to 1: their words, or their letters."""
    if name == candidate:
        return 1.0
    words, of_others = words_of_name(name), words_of_name(candidate)
    shared = len({*words} & {*of_others}) / max(1, min(len({*words}), len({*of_others})))
    letters = SequenceMatcher(None, "".join(words), "".join(of_others)).ratio()
    return max(0.9 * shared, letters)


# --- predictions ----------------------------------------------------------------------------------


class _Rows:
    """Rows of words from which labels are predicted."""

    def __init__(self, rows: Iterable[list[str]], groups: NDArray[np.int64]) -> None:
        """Count the words.

        Args:
            rows: words of each.
            groups: of each row; it is predicted by rows of other groups.
        """
        from scipy.sparse import csr_matrix
        from sklearn.feature_extraction import FeatureHasher

        hasher = FeatureHasher(
            _N_FEATURES, input_type="string", dtype=np.float32, alternate_sign=False
        )
        none = csr_matrix((0, _N_FEATURES), dtype=np.float32)
        features = hasher.transform(rows) if len(groups) else none
        features.data[:] = 1.0
        often = np.asarray(features.getnnz(axis=0))
        most = np.argsort(-often)[: min(_MOST_WORDS, int((often > 2).sum()))]
        self.features = features[:, np.sort(most)]
        self.groups = groups
        self._predicted: dict[bytes, NDArray[np.float64]] = {}

    def predicted(
        self, labels: Sequence[str], known: set[str]
    ) -> tuple[NDArray[np.float64], list[str]]:
        """Return of each row the probability of each label, as rows of other groups predict it.

        Rows whose label is unknown, or rare, are predicted, and nothing is learnt from them.
        """
        counts = Counter(label for label in labels if label in known)
        classes = sorted(label for label, n in counts.items() if n >= _FEWEST_OF_CLASS)
        if len(classes) < 2 or len(labels) < _FEWEST_STEPS:
            return np.zeros((len(labels), len(classes))), []
        number = {label: k for k, label in enumerate(classes)}
        y = np.array([number.get(label, -1) for label in labels], dtype=np.int32)
        key = hashlib.sha256(y.tobytes()).digest()  # rows are asked for the same labels again
        if key not in self._predicted:
            self._predicted[key] = self._probabilities(y, len(classes))
        return self._predicted[key], classes

    def _probabilities(self, y: NDArray[np.int32], n_classes: int) -> NDArray[np.float64]:
        """Return of each row the probability of each class, given its own, -1 if unknown."""
        from sklearn.linear_model import LogisticRegression
        from threadpoolctl import threadpool_limits

        probabilities = np.zeros((len(y), n_classes))
        fold = self.groups % _FOLDS
        rng = np.random.default_rng(0)
        for k in range(_FOLDS):
            learnt = np.flatnonzero((fold != k) & (y >= 0))
            if len(learnt) > _MOST_LEARNT:
                learnt = rng.choice(learnt, _MOST_LEARNT, replace=False)
            if len(np.unique(y[learnt])) < 2:
                continue
            model = LogisticRegression(C=0.3, max_iter=200, tol=1e-3)
            with threadpool_limits(limits=1):  # of small matrices, threads wait for each other
                model.fit(self.features[learnt], y[learnt])
            inside = np.flatnonzero(fold == k)
            if len(inside):
                predicted = model.predict_proba(self.features[inside])
                probabilities[np.ix_(inside, model.classes_)] = predicted
        return probabilities


@dataclass(frozen=True)
class _Called:
    """The steps of traces under some names of tools, and what is predicted from."""

    steps: list[Step]
    arguments: list[Argument]
    around: _Rows
    """Of each step, what stands around it."""
    values: _Rows
    """Of each argument, what it looks like."""

    @classmethod
    def of(
        cls, traces: Sequence[Turns], speech: set[str], names: Mapping[str, str] | None = None
    ) -> _Called:
        """Read traces; see `steps_of`."""
        steps, arguments = steps_of(traces, speech, names or {})
        of_steps = np.array([step.conversation for step in steps], dtype=np.int64)
        of_arguments = np.array([steps[a.step].conversation for a in arguments], dtype=np.int64)
        around = _Rows(surroundings(steps, Vocabulary.of(steps, arguments)), of_steps)
        return cls(steps, arguments, around, _Rows((a.words for a in arguments), of_arguments))


def floors_of(probabilities: NDArray[np.float64]) -> list[float]:
    """Return of each label what it is predicted with where another one is likelier."""
    best = probabilities.argmax(axis=1) if probabilities.shape[1] else np.zeros(0, np.int64)
    columns = [probabilities[best != k, k] for k in range(probabilities.shape[1])]
    return [float(np.quantile(column, _FLOOR)) if len(column) else 0.0 for column in columns]


def wrong_actions(
    probabilities: NDArray[np.float64], own: NDArray[np.int64], floors: Sequence[float]
) -> NDArray[np.float64]:
    """Return how probably labels are wrong, given what is predicted in their steps.

    Wrong labels stand in all steps alike: what a label is predicted with where it is not due is
    the share of wrong ones (anchor points, Liu and Tao 2016), and the more of its own
    probability that is, the more probably it is wrong.
    """
    best = probabilities.argmax(axis=1)
    wrong = np.zeros(len(own))
    for k, floor in enumerate(floors):
        inside = (own == k) & (best != k)
        mine = np.maximum(probabilities[inside, k], 1e-9)
        margin = 1 - mine / np.maximum(probabilities[inside, best[inside]], 1e-9)
        wrong[inside] = np.minimum(floor / mine, 1.0) * margin**_MARGIN
    return np.minimum(wrong, 1.0)


def action_of(kind: str) -> str:
    """Return the action of a kind of steps."""
    return kind.rpartition("#")[0] or kind


class _Predictor:
    """What the agent mostly does in such steps as each of its turns."""

    def __init__(self, called: _Called, known: set[str]) -> None:
        self.labels = [step.kind for step in called.steps]
        known = {label for label in self.labels if action_of(label) in known}
        self.probabilities, self.classes = called.around.predicted(self.labels, known)
        self.number = {label: k for k, label in enumerate(self.classes)}
        self.actions = sorted({action_of(label) for label in self.classes})
        self.of_actions = np.zeros((len(called.steps), len(self.actions)))
        for k, label in enumerate(self.classes):
            self.of_actions[:, self.actions.index(action_of(label))] += self.probabilities[:, k]

    def wrong(self) -> dict[int, tuple[float, str]]:
        """Return of steps how probably the action is wrong, and which is likelier."""
        if not self.actions:
            return {}
        best = self.of_actions.argmax(axis=1)
        number = {action: k for k, action in enumerate(self.actions)}
        own = np.array([number.get(action_of(label), -1) for label in self.labels])
        wrong = wrong_actions(self.of_actions, own, floors_of(self.of_actions))
        kinds = np.array([self.number.get(label, -1) for label in self.labels])
        fine = wrong_actions(self.probabilities, kinds, floors_of(self.probabilities))
        wrong = np.where((own == best) | (own < 0), fine, wrong)
        return {int(k): (float(wrong[k]), self.actions[best[k]]) for k in np.flatnonzero(wrong)}

    def are_due(self) -> list[bool]:
        """Return of each step whether its action is the likeliest; True where none is known."""
        if not self.actions:
            return [True] * len(self.labels)
        best = self.of_actions.argmax(axis=1)
        return [self.actions[k] == action_of(label) for k, label in zip(best, self.labels,
                                                                        strict=True)]  # fmt: skip

    def peak(self, numbers: Sequence[int], action: str) -> float:
        """Return how likely an action is in those of some steps where it is likeliest."""
        if action not in self.actions:
            return 0.0
        return float(np.quantile(self.of_actions[[*numbers], self.actions.index(action)], _PEAK))

    def lift(self, numbers: Sequence[int], action: str) -> float:
        """Return how much likelier an action is in some steps than in all: 0.5 where equally."""
        if action not in self.actions:
            return 0.5
        column = self.of_actions[:, self.actions.index(action)]
        inside, everywhere = float(column[[*numbers]].mean()), float(column.mean())
        return inside / max(inside + everywhere, 1e-9)


class _ValuePredictor:
    """Which argument values are of, and which values are usually said before."""

    def __init__(self, called: _Called, tools: Mapping[str, Tool], are_due: Sequence[bool]) -> None:
        steps, arguments = called.steps, called.arguments
        self.steps, self.arguments, self.tools, self.are_due = steps, arguments, tools, are_due
        self.is_known = [a.tool in tools and tools[a.tool].has(a.name) for a in arguments]
        labels = [a.name if is_known else "" for a, is_known in zip(arguments, self.is_known,
                                                                    strict=True)]  # fmt: skip
        self.probabilities, self.classes = called.values.predicted(labels, {*labels} - {""})
        self.number = {label: k for k, label in enumerate(self.classes)}
        self.rows: dict[tuple[str, str], list[int]] = defaultdict(list)
        for k, a in enumerate(arguments):
            self.rows[a.tool, a.name].append(k)
        self.means: dict[tuple[str, str], NDArray[np.float64]] = {}

    def share(self, tool: str, name: str, candidate: str) -> float:
        """Return how probably the values of an argument are of another one; 0.5 if unknown."""
        key = tool, name
        if candidate not in self.number or key not in self.rows:
            return 0.5
        if key not in self.means:
            self.means[key] = self.probabilities[self.rows[key]].mean(axis=0)
        return float(self.means[key][self.number[candidate]])

    def mistaken(self) -> dict[int, float]:
        """Return of steps how probably a value is of another argument of the tool."""
        doubted: dict[int, float] = {}
        if not self.classes:
            return doubted
        columns = {
            tool: [self.number[name] for name in self.tools[tool].properties if name in self.number]
            for tool in self.tools
        }
        for k, a in enumerate(self.arguments):
            own = self.number.get(a.name)
            if own is None or not self.is_known[k]:
                continue
            among = self.probabilities[k, columns[a.tool]]
            share = self.probabilities[k, own] / max(among.sum(), 1e-9)
            if share < 0.5:
                doubted[a.step] = max(doubted.get(a.step, 0.0), 1 - 2 * float(share))
        return doubted

    @cached_property
    def _of_argument(self) -> dict[tuple[str, str], list[Argument]]:
        """Values of each argument of a tool, but for those that are true, false or null."""
        of_argument: dict[tuple[str, str], list[Argument]] = defaultdict(list)
        for a, is_known in zip(self.arguments, self.is_known, strict=True):
            if is_known and not isinstance(a.value, bool | None):
                of_argument[a.tool, a.name].append(a)
        return dict(of_argument)

    def unsaid_wrongly(self) -> dict[tuple[str, str], float]:
        """Return of arguments that are usually said how probably a value is wrong that is not.

        Of the argument that is said most often, all unsaid values are wrong; of any other one as
        many, and the rest of what is unsaid is how the agent words it.
        """
        shares = {
            key: sum(bool(a.source) for a in some) / len(some)
            for key, some in self._of_argument.items()
            if len(some) >= _FEWEST_VALUES
        }
        wrongly = max(1 - max(shares.values(), default=1.0), 0.02)
        return {
            key: min(1.0, wrongly / max(1 - share, 1e-9))
            for key, share in shares.items()
            if share >= _USUALLY_SAID
        }

    def unsaid(self) -> dict[int, tuple[float, str]]:
        """Return of steps how probably a value is wrong that nothing says, and its usual source."""
        of_argument, wrongly = self._of_argument, self.unsaid_wrongly()
        doubted: dict[int, tuple[float, str]] = {}
        some = [a for key in wrongly for a in of_argument[key]]
        sources = {key: Counter(a.source for a in of_argument[key] if a.source) for key in wrongly}
        for a, by_chance in zip(some, self._unsaid_by_chance(some) if some else (), strict=True):
            key = a.tool, a.name
            wrong = wrongly[key] * by_chance
            if not a.source and wrong > doubted.get(a.step, (0.0, ""))[0]:
                doubted[a.step] = (wrong, sources[key].most_common(1)[0][0])
        return doubted

    def _unsaid_by_chance(self, some: Sequence[Argument]) -> list[float]:
        """Return of values how probably they are unsaid whatever the user said.

        Where words of the user tell that a value is not said (here, tomorrow), it is implied. As in
        `wrong_actions`, what is unsaid where it is least expected is the share of wrong ones.
        """
        labels = [("said" if a.source else "unsaid") if self.are_due[a.step] else "" for a in some]
        words = heard(self.steps)
        rows = _Rows(
            ([a.name, *words[a.step], *(f"{a.name}:{word}" for word in words[a.step])]
             for a in some),
            np.array([self.steps[a.step].conversation for a in some], dtype=np.int64),
        )  # fmt: skip
        probabilities, classes = rows.predicted(labels, {"said", "unsaid"})
        if "unsaid" not in classes:  # nearly all are said, or there are too few to tell
            is_usual = labels.count("said") >= _NEARLY_ALL * len(labels)
            return [float(is_usual or not label) for label in labels]
        unsaid = np.maximum(probabilities[:, classes.index("unsaid")], 1e-9)
        of_argument: dict[tuple[str, str], list[float]] = defaultdict(list)
        for a, p, label in zip(some, unsaid, labels, strict=True):
            if label:
                of_argument[a.tool, a.name].append(p)
        floors = {key: np.quantile(values, _LOWEST) for key, values in of_argument.items()}
        return [
            min(float(floors[a.tool, a.name] / p), 1.0) if label else 1.0  # not due, not implied
            for a, p, label in zip(some, unsaid, labels, strict=True)
        ]
