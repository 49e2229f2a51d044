"""Where an agent speaks or calls in its traces, and what stands around each step.

A step is one turn of the agent. Its action is the tool that it calls first, or `TEXT`. What stands
around it is a list of words, of what came before and of what followed, from which the action of a
step can be predicted.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stratos.contrib.logs.conversation import Turn
from stratos.contrib.tools.grounding import is_grounded, shape, text_of, times, tokens

TEXT = "(text)"
"""Action of a turn that calls nothing."""
_WORDS_OF_SPEECH = 2.5
"""Words from which the only argument of a tool is what an agent says to the user."""
_USUAL = 0.6
_MOST_GROUPS, _STEPS_A_GROUP, _MOST_GROUPED = 16, 40, 20_000
_MOST_WORDS = 60
"""Of one message that are looked at."""
_LONGEST_VALUE = 4
"""Words of a value that is looked for in messages."""
_FEWEST, _OF_ONE = 3, 0.3
"""Times that a value is there, and the share of them that one argument has, to be its value."""


@dataclass(slots=True)
class Argument:
    """One argument of a call."""

    step: int
    tool: str
    name: str
    value: Any
    source: str
    """Role whose message said it last, "" where nothing before says it."""
    words: list[str]
    """What it looks like, and what stands around it where it was said."""


@dataclass(slots=True)
class Step:
    """One turn of the agent."""

    conversation: int
    turn: int
    action: str
    calls: list[tuple[str, dict[str, Any]]]
    before: list[Turn] = field(default_factory=list)
    """Messages of others between the agent's last turn and this one."""
    after: list[Turn] = field(default_factory=list)
    utterance: str = ""
    """What it says to the user."""
    kind: str = ""
    """Its action, and of one that speaks the group of texts that are alike."""


@dataclass(slots=True)
class _Mention:
    """The last place where a token was said."""

    role: str
    preceding: tuple[str, ...]
    following: str


def speech_tools(traces: Sequence[Sequence[Turn]]) -> set[str]:
    """Return the tools whose only argument is a text to the user, as nearly all calls have it."""
    n_calls = Counter[str]()
    n_words: dict[str, list[int]] = defaultdict(list)
    for trace in traces:
        for turn in trace:
            for call in turn.calls:
                n_calls[call.name] += 1
                arguments = arguments_of(call.arguments)
                if len(arguments) == 1:
                    [value] = arguments.values()
                    if isinstance(value, str):
                        n_words[call.name].append(len(value.split()))
    return {
        tool
        for tool, some in n_words.items()
        if len(some) >= _USUAL * n_calls[tool] and sum(some) >= _WORDS_OF_SPEECH * len(some)
    }


def arguments_of(text: str) -> dict[str, Any]:
    """Return the arguments of a call; none where they are no object."""
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def steps_of(
    traces: Sequence[Sequence[Turn]], speech: Set[str], names: Mapping[str, str]
) -> tuple[list[Step], list[Argument]]:
    """Return all turns of the agent, and the arguments of all calls but those that speak.

    Args:
        traces: turns of each conversation.
        speech: tools that speak to the user.
        names: name of a tool to that of the schema, of those that have another one.
    """
    steps: list[Step] = []
    arguments: list[Argument] = []
    for number, trace in enumerate(traces):
        context: dict[str, _Mention] = {}
        between: list[Turn] = []
        last: Step | None = None
        for index, turn in enumerate(trace):
            if turn.role != "assistant":
                between.append(turn)
                _hear(context, turn.role, turn.text)
                continue
            calls = [
                (names.get(call.name, call.name), arguments_of(call.arguments))
                for call in turn.calls
            ]
            spoken = [turn.text] if turn.text else []
            for tool, given in calls:
                if tool in speech:
                    spoken += [text_of(value) for value in given.values()]
                    continue
                arguments += _arguments(len(steps), tool, given, context)
            step = Step(number, index, calls[0][0] if calls else TEXT, calls, between,
                          utterance=" ".join(spoken))  # fmt: skip
            step.kind = step.action
            if last is not None:
                last.after = between
            steps.append(step)
            last, between = step, []
            for text in spoken:
                _hear(context, "assistant", text)
        if last is not None:
            last.after = between
    _group_texts([step for step in steps if step.action == TEXT or step.action in speech])
    return steps, arguments


def _group_texts(steps: Sequence[Step]) -> None:
    """Write into steps the group of what they say: texts of the same words, but for numbers."""
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.feature_extraction import FeatureHasher
    from sklearn.feature_extraction.text import TfidfTransformer
    from threadpoolctl import threadpool_limits

    texts = {step.utterance: [word for word in tokens(step.utterance) if word.isalpha()] or ["-"]
             for step in steps}  # fmt: skip
    n_texts = len({tuple(words) for words in texts.values()})
    n_groups = min(_MOST_GROUPS, n_texts, len(steps) // _STEPS_A_GROUP)
    if n_groups < 2:
        return
    hasher = FeatureHasher(2**12, input_type="string", alternate_sign=False)
    weights = TfidfTransformer(sublinear_tf=True).fit_transform(hasher.transform(texts.values()))
    some = weights[np.random.default_rng(0).permutation(len(texts))[:_MOST_GROUPED]]
    with threadpool_limits(limits=1):  # of small matrices, threads wait for each other
        means = MiniBatchKMeans(n_groups, random_state=0, n_init=3).fit(some)
        group = dict(zip(texts, means.predict(weights), strict=True))
    for step in steps:
        step.kind = f"{step.action}#{group[step.utterance]}"


def _hear(context: dict[str, _Mention], role: str, text: str) -> None:
    words = tokens(text)
    for k, word in enumerate(words):
        context[word] = _Mention(role, words[max(0, k - 2) : k], words[k + 1] if k + 1 < len(words)
                              else "")  # fmt: skip
    for time in times(text):
        context[time] = _Mention(role, (), "")


def _arguments(
    step: int, tool: str, given: Mapping[str, Any], context: Mapping[str, _Mention]
) -> Iterator[Argument]:
    for name, value in given.items():
        text = text_of(value)
        words = tokens(text)[:_MOST_WORDS]
        source = ""
        looks = [f"v={' '.join(words[:8])}", f"s={shape(text)}", f"t={type(value).__name__}",
                 *(f"w={word}" for word in words[:8])]  # fmt: skip
        if is_grounded(value, context):
            first = context.get(words[0]) if words else None
            source = "user" if first is None else first.role
            looks.append(f"from={source}")
            if first is not None:
                last = context.get(words[-1])
                looks += [f"l1={first.preceding[-1:]}", f"l2={first.preceding}"]
                looks += [f"r={last.following}"] if last is not None else []
        yield Argument(step, tool, name, value, source, looks)


@dataclass
class Vocabulary:
    """Values of arguments by which a message says that an argument is known."""

    arguments: dict[str, str]
    """Value, as its tokens with blanks between, to the argument that mostly has it."""
    usual: dict[str, set[str]]
    """Tool to the arguments that most of its calls have."""

    @classmethod
    def of(cls, steps: Sequence[Step], arguments: Sequence[Argument]) -> Vocabulary:
        """Count them."""
        values: dict[str, Counter[str]] = defaultdict(Counter)
        n_calls, n_given = Counter[str](), Counter[tuple[str, str]]()
        for argument in arguments:
            words = tokens(text_of(argument.value))
            if 0 < len(words) <= _LONGEST_VALUE:
                values[" ".join(words)][argument.name] += 1
            n_given[argument.tool, argument.name] += 1
        for step in steps:
            n_calls.update(tool for tool, _ in step.calls)
        known = {}
        for value, names in values.items():
            [(name, n)] = names.most_common(1)
            if n >= _FEWEST and n >= _OF_ONE * names.total():
                known[value] = name
        usual: dict[str, set[str]] = defaultdict(set)
        for (tool, name), n in n_given.items():
            if n >= _USUAL * n_calls[tool]:
                usual[tool].add(name)
        return cls(known, dict(usual))

    def known(self, text: str) -> set[str]:
        """Return the arguments that a text gives a value of."""
        words = tokens(text)[:_MOST_WORDS]
        grams = (
            " ".join(words[k : k + n])
            for n in range(1, _LONGEST_VALUE + 1)
            for k in range(len(words) - n + 1)
        )
        return {self.arguments[gram] for gram in grams if gram in self.arguments}


def surroundings(steps: Sequence[Step], vocabulary: Vocabulary) -> Iterator[list[str]]:
    """Yield of each step the words from which its action can be predicted."""
    known, done = set[str](), set[str]()
    cache: dict[str, list[str]] = {}
    for k, step in enumerate(steps):
        is_first = not k or steps[k - 1].conversation != step.conversation
        is_last = k + 1 == len(steps) or steps[k + 1].conversation != step.conversation
        previous = None if is_first else steps[k - 1]
        earlier = None
        if previous is not None and k > 1 and steps[k - 2].conversation == step.conversation:
            earlier = steps[k - 2]
        if is_first:
            known, done = set(), set()
        fresh = set[str]()
        for turn in step.before:
            fresh |= vocabulary.known(turn.text)
        known |= fresh
        role = step.before[-1].role if step.before else "none"
        next_role = step.after[0].role if step.after else "agent" if not is_last else "end"
        a1, a2 = (each.action if each else "start" for each in (previous, earlier))
        features = ["", f"role={role}", f"next={next_role}", f"1={a1}", f"12={a1},{a2}",
                    f"1r={a1},{role}", f"1n={a1},{next_role}", f"rn={role},{next_role}",
                    f"+1={'end' if is_last else steps[k + 1].action}",
                    f"n={min(len(done), 9)}"]  # fmt: skip
        features += [f"1k={previous.kind}"] if previous is not None else []
        features += [f"d={tool}" for tool in done]
        features += [f"k={name}" for name in known]
        features += [f"f={name}" for name in fresh]
        features += [f"all={tool},{role},{tool in done}" for tool, names in vocabulary.usual.items()
                     if names <= known]  # fmt: skip
        for turn in step.before:
            features += [f"{turn.role}:{word}" for word in _words(turn.text, cache)]
        for turn in step.after:
            features += [f">{turn.role}:{word}" for word in _words(turn.text, cache)]
        if previous is not None and previous.utterance:
            features += [f"a:{word}" for word in _words(previous.utterance, cache)]
        yield features
        done.add(step.action)


def heard(steps: Sequence[Step]) -> list[list[str]]:
    """Return of each step the words of the last two messages of the user."""
    words: list[list[str]] = []
    texts: list[str] = []
    for k, step in enumerate(steps):
        if not k or steps[k - 1].conversation != step.conversation:
            texts = []
        texts = [*texts, *(turn.text for turn in step.before if turn.role == "user")][-2:]
        words.append([word for text in texts for word in tokens(text)[:_MOST_WORDS]])
    return words


def _words(text: str, cache: dict[str, list[str]]) -> list[str]:
    """Return the words of a message, and the forms of what has digits or marks."""
    if (words := cache.get(text)) is None:
        raw = text.split()[:_MOST_WORDS]
        forms = {shape(word) for word in raw if not word.isalpha()}
        words = [*dict.fromkeys(tokens(text)[:_MOST_WORDS]), *(f"~{form}" for form in forms)]
        if len(cache) < 65_536:
            cache[text] = words
    return words
