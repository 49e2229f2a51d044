"""A student that calls tools: it chooses the tools, a value for each argument, or a text.

Tools and values are chosen by log-linear models among what the conversation offers, so that values
which no training row has are copied. A text is that of a similar training turn, with the values of
this conversation.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from sys import intern
from typing import Any, Self

import numpy as np
from typing_extensions import override

from stratos.contrib.tools.call_paths import Leaf, Part, nested
from stratos.contrib.tools.call_texts import Neighbours
from stratos.contrib.tools.call_values import Candidate, Offered, as_json, form_of, offered
from stratos.contrib.tools.calls import Call, question_of_request, written
from stratos.contrib.tools.choice_model import ChoiceModel
from stratos.contrib.tools.grounding import form, stated_in, tokens, words_of_name
from stratos.contrib.tools.signatures import Tool, messages_in, tools_in
from stratos.models.kinds.base import FILE, WEIGHTS, Prediction, Predictor, ToolChoice, text_of
from stratos.models.kinds.tagger.tagger import calibrated
from stratos.tasks.schema.document import resolved

TEXT, NONE = "(text)", "(none)"
"""Actions that call nothing: with a text, and with `[]`."""
_MOST_WORDS = 40
_LEAST_SECOND = 0.05
"""Probability from which on another value is that of another call of the same tool, and other
tools are called where the likeliest cannot be."""
OMIT = ""
"""Key of the decision to leave an argument out; no JSON is empty."""
_ITEM, _ONLY_ITEM = 0.5, 0.2
"""Probability from which on a value is an item of a list, and the likeliest is one at least."""
NO_ITEM = ("[]out",)
"""Features of the decision that a value is no item of a list."""


@dataclass(frozen=True, slots=True)
class State:
    """What stands before an answer."""

    tools: tuple[Tool, ...]
    messages: list[dict[str, Any]]
    offered: Offered
    features: list[str]
    """From which the next action is predicted."""
    words: frozenset[str]
    """Features of the user's words, by which a constant is chosen."""
    last: str
    """The last action."""

    @property
    def stated(self) -> set[str]:
        """Words that the messages state; most states are never asked."""
        return stated_in(self.messages)


def state_of(question: str, year: str) -> State:
    """Return what a question's text shows: its tools, and its messages."""
    messages = messages_in(question)
    values = offered(messages, year)
    last, features = _surroundings(messages, values)
    return State(tools_in(question), messages, values, features, _user_words(messages), last)


def action_of(message: Mapping[str, Any]) -> str:
    """Return the tools that a message calls, or that it is a text."""
    return "+".join(call["name"] for call in message.get("tool_calls", ())) or TEXT


def _words(text: str, most: int = _MOST_WORDS) -> list[str]:
    words = [word.strip("\"'`.,;:!?()[]{}") for word in text.split()]
    return [form_of(word) for word in words[:most] if word]


def _surroundings(messages: Sequence[Mapping[str, Any]], values: Offered) -> tuple[str, list[str]]:
    places = [k for k, message in enumerate(messages) if message["role"] == "assistant"]
    actions = ["start", "start", *(action_of(messages[k]) for k in places)]
    a1, a2 = actions[-1], actions[-2]
    since = messages[places[-1] + 1 :] if places else messages
    role = messages[-1]["role"]
    features = ["", f"1={a1}", f"12={a2},{a1}", f"role={role}", f"1r={a1},{role}",
                f"n={min(len(places), 8)}", f"since={min(len(since), 3)}"]  # fmt: skip
    features += [f"d={action}" for action in {*actions[2:]}]
    for message in since:
        words = _words(message["content"])
        features += [f"{message['role']}:{word}" for word in words]
        features += [f"1{message['role']}:{a1}~{word}" for word in words[:12]]
        if message["role"] == "tool":
            features += _statuses(message["content"], a1)
    if places:
        features += [f"a:{word}" for word in _words(messages[places[-1]]["content"])]
    users = [message["content"] for message in messages if message["role"] == "user"]
    features += [f"f:{word}" for word in (_words(users[0]) if users else ())]
    features += [f"g:{w}" for text in users for w in _words(text) if not w.isalpha()]
    features += _left(values)
    return a1, [*map(intern, dict.fromkeys(features))]


def _statuses(text: str, action: str) -> list[str]:
    """Return the short values of a result, how many a list has, and which numbers are 0."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return [f"lines:{min(text.count(chr(10)), 5)}"]
    if not isinstance(value, Mapping):
        return [f"size:{len(value)}"] if isinstance(value, list) else []
    made = []
    for key, inner in value.items():
        made.append(f"has:{action}.{key}")
        if isinstance(inner, list):
            made.append(f"size:{key}={min(len(inner), 5)}")
        elif isinstance(inner, bool) or (isinstance(inner, str) and inner.replace("_", "a")
                                         .replace(" ", "a").isalpha()):  # fmt: skip
            made.append(f"res:{key}={inner}")
        elif isinstance(inner, int | float):
            made.append(f"zero:{action}.{key}={inner == 0}")
    return made


def _left(values: Offered) -> list[str]:
    """Return how many values of a result are not yet used as the last ones of the same were."""
    made = []
    for (tool, name), used in values.used.items():
        candidate = values.values[used[-1]]
        origin = next((o for o in candidate.origins if o.startswith("r=")), None)
        if origin is None:
            continue
        rest = sum(origin in c.origins for key, c in values.values.items() if key not in used)
        made.append(f"left:{tool}.{name}={min(rest, 2)}")
    return made


def _user_words(messages: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    users = [message["content"] for message in messages if message["role"] == "user"]
    user_words = {f"U:{word}" for text in users for word in _words(text)}
    for text in users[-2:]:
        words = ["^", *_words(text)]
        user_words |= {f"u:{word}" for word in words}
        user_words |= {f"u:{a} {b}" for a, b in pairwise(words)}
    return frozenset(user_words)


# --- actions -------------------------------------------------------------------------------------


def _tool_features(state: State, action: str, tool: Tool, request: frozenset[str]) -> list[str]:
    """Return what tells of a tool that no row calls whether it is due."""
    name = words_of_name(tool.name)
    about = {word for word in tokens(tool.description) if len(word) > 3}
    names = {word for key in tool.properties for word in words_of_name(key)}
    in_name = sum(word in request for word in name) / max(1, len(name))
    return ["*call", f"*name={round(3 * in_name)}", f"*about={min(len(about & request), 5)}",
            f"*share={round(5 * len(about & request) / max(1, len(about)))}",
            f"*names={min(len(names & request), 3)}", f"*again={state.last == action}",
            f"*role={state.messages[-1]['role']}"]  # fmt: skip


def actions_of(state: State, known: Iterable[str], most: int) -> dict[str, list[str]]:
    """Return the actions that there are with their features.

    Args:
        state: before the answer.
        known: actions of training rows.
        most: calls of one tool in a training row.
    """
    by_name = {tool.name: tool for tool in state.tools}
    seen = {*known}
    actions = [a for a in known if a in (TEXT, NONE) or all(n in by_name for n in a.split("+"))]
    actions += ["+".join([name] * n) for name in by_name for n in range(1, most + 1)]
    users = [message["content"] for message in state.messages if message["role"] == "user"]
    request = frozenset(word for text in users[-2:] for word in tokens(text))
    generic = {name: _tool_features(state, name, by_name[name], request) for name in by_name}
    best = max((sum(len(f) > 0 and f[-1] != "0" for f in fs) for fs in generic.values()), default=0)
    lists = min(sum(text.count(",") + text.count(" and ") for text in users[-1:]), 4)
    made: dict[str, list[str]] = {}
    for action in dict.fromkeys(actions):
        names = [] if action in (TEXT, NONE) else action.split("+")
        # No weight tells of what no training row does; its first feature stands for all.
        own = state.features if action in seen else state.features[:1]
        features = [f"{action}|{name}" for name in own]
        features += [f"*{action}", f"*{action},{best}"] if not names else []
        for name in dict.fromkeys(names):
            features += generic[name]
        if len(names) > 1:
            features += [f"*n={len(names)}", f"*n={len(names)},{lists}"]
        made[action] = features
    return made


# --- arguments -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Learnt:
    """What training rows show of one argument of a tool."""

    constants: tuple[str, ...] = ()
    """Frequent values as JSON."""
    is_text: bool = False
    """Whether its values are texts that the model writes."""
    is_shared: bool = False
    """Whether other tools have an argument of the name."""
    forms: frozenset[str] = frozenset()
    """Forms that its texts have, where another one is hardly to be expected."""

    def has_form(self, key: str) -> bool:
        """Return whether a value as JSON has a form of training rows, where these are few."""
        if not self.forms or key[:1] != '"':
            return True
        return form(json.loads(key)) in self.forms


_OF_TYPE: Mapping[str, Any] = {"boolean": bool, "object": dict, "array": list}


def _types(schema: Any) -> tuple[str, ...]:
    if not isinstance(schema, Mapping):
        return ()
    kinds = schema.get("type")
    if kinds is None:
        parts = [part for key in ("anyOf", "oneOf") for part in schema.get(key, ())]
        return tuple(kind for part in parts for kind in _types(part))
    return (kinds,) if isinstance(kinds, str) else tuple(kinds)


def _fitting(value: Any, kinds: Sequence[str], schema: Mapping[str, Any]) -> Iterable[Any]:
    """Yield what a value is as one of some types."""
    if not kinds:
        yield value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    for kind in kinds:
        if kind == "string" and (isinstance(value, str) or is_number):
            yield value if isinstance(value, str) else str(value)
        elif kind == "integer" and is_number and (isinstance(value, int) or value.is_integer()):
            yield int(value)
        elif (kind == "number" and is_number) or isinstance(value, _OF_TYPE.get(kind, ())):
            yield value
        elif kind == "array":
            inner = resolved({}, schema.get("items", {})) if "$ref" not in schema else {}
            inner = inner if isinstance(inner, Mapping) else {}
            if not (enum := inner.get("enum")) or value in enum:
                yield from ([item] for item in _fitting(value, _types(inner) or ("string",), inner))


def options(state: State, tool: Tool, leaf: Leaf, learnt: Learnt) -> dict[str, list[str]]:
    """Return the values that an argument may have, as JSON, with their features."""
    name = "/".join(leaf.path) if leaf.part is Part.LIST else leaf.name
    own, used = f"{tool.name}.{leaf.name}", state.offered.used.get((tool.name, name), ())
    if leaf.part is Part.PRESENCE:
        made = {"{}": _of_constant("{}", own, state.words, state.last)}
    else:
        made = _mentioned(state, own, leaf, learnt, used)
    if leaf.part is Part.LIST:
        made["[]"] = ["*made", f"{own}|made", f"{own}|made,{state.last}"]
    if leaf.part is Part.ITEM:  # whether it is one is another question than which is the likeliest
        return {key: [f"[]{name}" for name in features] for key, features in made.items()}
    if not leaf.is_required:
        made[OMIT] = ["*omit", f"{own}|omit", f"{own}|omit,{state.last}",
                       f"{own}|omit,{bool(used)}"]  # fmt: skip
        made[OMIT] += [f"{own}|omit,{word}" for word in state.words if word[0] == "u"]
    return made


def _mentioned(
    state: State, own: str, leaf: Leaf, learnt: Learnt, used: Sequence[str]
) -> dict[str, list[str]]:
    """Return the values that the schema has, that are frequent, and that the conversation names."""
    schema = leaf.schema if isinstance(leaf.schema, Mapping) else {}
    kinds = _types(schema)
    enum = schema.get("enum")
    fixed = [as_json(value) for value in enum] if isinstance(enum, list) else []
    fixed += ["true", "false"] if "boolean" in kinds else []
    fixed += [as_json(schema["default"])] if "default" in schema else []
    shared = f".{leaf.name}" if learnt.is_shared else ""
    of_name = frozenset(words_of_name(leaf.name))
    user_words = state.words
    made: dict[str, list[str]] = {}
    for key in dict.fromkeys([*fixed, *learnt.constants]):
        if enum and key not in fixed:
            continue
        made[key] = _of_constant(key, own, user_words, state.last)
    for candidate in state.offered.values.values():
        if leaf.part is Part.VALUE:
            values = _fitting(candidate.value, kinds, schema)
        elif leaf.part is Part.LIST:
            values = [candidate.value] if isinstance(candidate.value, list) else []
        elif isinstance(candidate.value, list | dict):
            continue
        else:
            values = _fitting(candidate.value, kinds, schema)
        for value in values:
            key = as_json(value)
            if enum and key not in fixed:
                continue
            features = _of_mention(candidate, own, shared, of_name)
            if leaf.part is not Part.ITEM:  # of several, those marks would prefer the first
                features = [name for name in features if ":c=" not in name]
            if key in used:
                features += [f"{own}|used", "*used"]
            if used and key == used[-1]:
                features += [f"{own}|last", "*last"]
            made.setdefault(key, []).extend(features)
    return made


def _of_constant(key: str, own: str, user_words: frozenset[str], last: str) -> list[str]:
    value = json.loads(key)
    words = {*tokens(value)} if isinstance(value, str) else {key.lower()}
    n = sum(f"U:{word}" in user_words for word in words)
    overlap = "*said" if words and n == len(words) else "*part" if n else "*unsaid"
    features = ["*constant", overlap, f"{own}|={key}", f"{own}|={key},{last}"]
    return features + [f"{own}|={key},{word}" for word in user_words]


def _of_mention(candidate: Candidate, own: str, shared: str, of_name: frozenset[str]) -> list[str]:
    features = ["*mention"]
    for name in candidate.features:
        features.append(f"{own}|{name}")
        if shared:
            features.append(f"{shared}|{name}")
        head, _, tail = name.partition("=")
        if head in ("k", "arg"):
            both = of_name & {*words_of_name(tail.rpartition(".")[2])}
            features.append(f"*{head}={len(both) == len(of_name)},{bool(both)}")
        elif head.endswith((":p", ":n")) or head == "w":
            features.append(f"*{head}={tail in of_name}")
        elif head in ("ref", "nth"):
            features.append(f"*{name}")
        elif head in ("date", "time"):
            features.append(f"*{head}={tail},{head in of_name}")
        elif ":" in head or head == "last" or name[-1].isdigit():
            features.append(f"*{name}" if not head.endswith((":pp", ":pn")) else "*")
    return features


def _valid(
    tool: Tool, leaf: Leaf, learnt: Learnt, keys: Sequence[str], ranked: Iterable[int]
) -> Iterator[int]:
    """Yield the places of values that the schema and the training rows have for an argument."""
    for k in map(int, ranked):
        if keys[k] == OMIT or (
            learnt.has_form(keys[k]) and tool.takes(leaf.schema, json.loads(keys[k]))
        ):
            yield k


def _overlap(first: str, second: str) -> bool:
    """Return whether the words of one value stand in the other, as those of one mention do."""
    a, b = (f" {key.strip(chr(34)).lower()} " for key in (first, second))
    return a in b or b in a


# --- the student ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Caller(Predictor):
    """A student that calls tools."""

    format = "caller"
    takes_tools = True
    about = (
        "a student without a language model that calls tools: it chooses them, takes values out of "
        "the conversation, and texts of similar turns of its rows"
    )
    pipeline = "text-generation"
    holds_words = True

    actions: tuple[str, ...]
    """Of training rows."""
    most_of_one: int
    """Calls of one tool in a training row."""
    year: str
    """Of dates that are said without one."""
    arguments: dict[str, dict[str, Learnt]]
    """Tool and argument to what is known of it."""
    choose_action: ChoiceModel
    choose_value: ChoiceModel
    texts: Neighbours
    scales: tuple[tuple[float, float], tuple[float, float]] = ((1.0, 0.0), (1.0, 0.0))
    """Slope and shift of the log odds of calls and of texts."""
    choice: ToolChoice = "auto"
    """Whether it may call, has to, or must not."""
    n_made: int = 0
    """Turns that it has learnt of conversations that were made by injection."""

    @override
    def request_text(self, chat: Sequence[Mapping[str, Any]], tools: Sequence[Any]) -> str:
        if not tools:
            text = text_of(chat)
            if not tools_in(text):
                raise ValueError("tools: this student calls tools. Send those that it may call.")
            return text
        return question_of_request(chat, tools)

    @override
    def choosing(self, choice: ToolChoice) -> Caller:
        return replace(self, choice=choice)

    @override
    def _predict(self, texts: Sequence[str]) -> list[Prediction]:
        predictions = []
        for text in texts:
            answer, p, is_call = self.answer(state_of(text, self.year))
            predictions.append(Prediction(answer, calibrated(p, self.scales[not is_call])))
        return predictions

    def answer(self, state: State) -> tuple[str, float, bool]:
        """Return an answer, how likely it is before calibration, and whether it calls."""
        actions = actions_of(state, self.actions, self.most_of_one)
        if self.choice == "none":
            actions = {name: features for name, features in actions.items() if name == TEXT}
        elif self.choice == "required":
            actions = {name: some for name, some in actions.items() if name not in (TEXT, NONE)}
        if not actions:
            return "" if self.choice == "none" else "[]", 0.0, self.choice != "none"
        chances = self.choose_action.probabilities([*actions.values()])
        names = [*actions]
        for best in np.argsort(-chances, kind="stable"):
            action, p = names[best], float(chances[best])
            if action == NONE:
                return "[]", p, True
            if action == TEXT:
                text, share = self.texts.text(TEXT, state.features, state.offered, state.stated)
                return text, p * share, False
            is_tried = p >= _LEAST_SECOND or self.choice == "required"
            calls, share = self._calls(state, action) if is_tried else ([], 0.0)
            if calls:
                return written(calls), p * share, True
        return "[]", 0.0, True

    def _calls(self, state: State, action: str) -> tuple[list[Call], float]:
        """Return the calls of an action, and how likely their arguments are right.

        There are none where the conversation offers no values that the schema of a tool takes.
        """
        calls, p = list[Call](), 1.0
        by_name = {tool.name: tool for tool in state.tools}
        order = action.split("+")
        for name, n in Counter(order).items():
            made, share = self._calls_of(state, by_name[name], n)
            if any(by_name[name].problem(call.arguments) for call in made):
                return [], 0.0
            calls += [call for k, call in enumerate(made) if call not in made[:k]]
            p *= share
        return sorted(calls, key=lambda call: order.index(call.name)), p

    def _calls_of(self, state: State, tool: Tool, n: int) -> tuple[list[Call], float]:
        """Return some calls of a tool, and how likely they are right."""
        arguments: list[dict[str, Any]] = [{} for _ in range(n)]
        p = 1.0
        omitted = set[str]()
        is_made = False
        for leaf in tool.leaves:
            if leaf.within in omitted or (leaf.part is Part.ITEM and not is_made):
                omitted.add(leaf.name)
                continue
            values, share = self._chosen(state, tool, leaf, n)
            p *= share
            if leaf.part is Part.LIST:
                is_made = values[0] == "[]"
            if values[0] is None:
                omitted.add(leaf.name)
            for given, value in zip(arguments, values, strict=True):
                if value is not None:
                    given[leaf.name] = json.loads(value)
        made = (nested(tool.leaves, given) for given in arguments)
        return [Call(tool.name, tool.ordered(given)) for given in made], p

    def _chosen(self, state: State, tool: Tool, leaf: Leaf, n: int
                ) -> tuple[list[str | None], float]:  # fmt: skip
        """Return what is chosen at a leaf, as JSON, for each of `n` calls."""
        if leaf.part is Part.VALUE:
            return self._values(state, tool, leaf, n)
        if leaf.part is Part.PRESENCE and leaf.is_required:
            return ["{}"] * n, 1.0
        if leaf.part is Part.ITEM:
            items, share = self._items(state, tool, leaf)
            return [items] * n, share
        [value], share = self._values(state, tool, leaf, 1)
        return [value] * n, share

    def _items(self, state: State, tool: Tool, leaf: Leaf) -> tuple[str, float]:
        """Return a list as JSON: all values that are rather items of it than not."""
        learnt = self.arguments.get(tool.name, {}).get(leaf.name, Learnt())
        if learnt.is_text:
            text, share = self.texts.text(
                f"{tool.name}.{leaf.name}", state.features, state.offered, state.stated
            )
            return as_json([text]), share
        choices = options(state, tool, leaf, learnt)
        keys, chances = [*choices], self.choose_value.chances([*choices.values()], NO_ITEM)
        best, p = list[int](), 1.0
        for k in _valid(tool, leaf, learnt, keys, np.argsort(-chances, kind="stable")):
            if chances[k] < _LEAST_SECOND:
                break
            if any(_overlap(keys[k], keys[b]) for b in best):
                continue
            is_item = chances[k] >= _ITEM or (not best and chances[k] >= _ONLY_ITEM)
            p *= float(chances[k] if is_item else 1 - chances[k])
            best += [k] if is_item else []
        candidates = state.offered.values
        best.sort(key=lambda k: candidates[keys[k]].last if keys[k] in candidates else 0)
        return f"[{', '.join(keys[k] for k in best)}]", p

    def _values(self, state: State, tool: Tool, leaf: Leaf, n: int
                ) -> tuple[list[str | None], float]:  # fmt: skip
        """Return an argument of each of `n` calls as JSON, None where it is omitted."""
        learnt = self.arguments.get(tool.name, {}).get(leaf.name, Learnt())
        if learnt.is_text:
            text, share = self.texts.text(
                f"{tool.name}.{leaf.name}", state.features, state.offered, state.stated
            )
            is_valid = tool.takes(leaf.schema, text)
            return [as_json(text) if is_valid else None] * n, share
        choices = options(state, tool, leaf, learnt)
        if not choices:
            return [None] * n, 0.01
        keys = [*choices]
        chances = self.choose_value.probabilities([*choices.values()])
        in_order = np.argsort(-chances, kind="stable")
        ranked = [*islice(_valid(tool, leaf, learnt, keys, in_order), n)]
        if not ranked:
            return [None] * n, 0.01
        best = [k for k in ranked if chances[k] >= _LEAST_SECOND and keys[k] != OMIT]
        if n > 1 and len(best) == n:
            candidates = state.offered.values
            best.sort(key=lambda k: candidates[keys[k]].order if keys[k] in candidates else 0)
            return [keys[k] for k in best], float(chances[best].sum())
        key = keys[ranked[0]]
        return [key if key != OMIT else None] * n, float(chances[ranked[0]])

    @property
    @override
    def n_params(self) -> int:
        return len(self.choose_action.weights) + len(self.choose_value.weights) + self.texts.size

    @override
    def save(self, folder: Path) -> None:
        from safetensors.numpy import save_file

        texts, arrays = self.texts.state()
        models = {"actions": self.choose_action, "values": self.choose_value}
        for name, model in models.items():
            arrays[name] = np.array([*model.weights.values()], np.float32)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(arrays, folder / WEIGHTS)
        described = {
            "format": self.format,
            "actions": self.actions,
            "most_of_one": self.most_of_one,
            "year": self.year,
            "scales": self.scales,
            "n_made": self.n_made,
            "arguments": {
                tool: {name: [known.constants, known.is_text, known.is_shared, sorted(known.forms)]
                       for name, known in names.items()}
                for tool, names in self.arguments.items()
            },
            "features": {name: [*model.weights] for name, model in models.items()},
            "texts": texts,
        }  # fmt: skip
        (folder / FILE).write_text(json.dumps(described, ensure_ascii=False), encoding="utf-8")

    @classmethod
    @override
    def load(cls, folder: Path) -> Self:
        from safetensors.numpy import load_file

        described = json.loads((folder / FILE).read_text(encoding="utf-8"))
        arrays = load_file(folder / WEIGHTS)
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise ValueError("one of its weights is no number")
        models = {
            name: ChoiceModel(dict(zip(names, map(float, arrays[name]), strict=True)))
            for name, names in described["features"].items()
        }
        (a, b), (c, d) = described["scales"]
        return cls(
            tuple(map(str, described["actions"])),
            int(described["most_of_one"]),
            str(described["year"]),
            {
                tool: {name: Learnt(tuple(known[0]), bool(known[1]), bool(known[2]),
                                    frozenset(known[3]))
                       for name, known in names.items()}
                for tool, names in described["arguments"].items()
            },
            models["actions"],
            models["values"],
            Neighbours.of_state(described["texts"], arrays),
            ((float(a), float(b)), (float(c), float(d))),
            n_made=int(described["n_made"]),
        )  # fmt: skip
