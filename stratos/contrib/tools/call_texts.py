"""Texts of similar training turns, with the values of this conversation in place of theirs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import sparse

from stratos.contrib.tools.call_values import Candidate, Offered
from stratos.contrib.tools.grounding import facts_in, foreign_facts
from stratos.tasks.answers import word_f1

_N_NEAREST, _SHARPNESS = 15, 12.0
_RIGHT_F1 = 0.5
_FOREIGN = 0.2
"""Weight of a text for each of its facts that the conversation does not state, and for each place
and list that its values do not fit."""
_LONGEST_VALUE = 60
_OF_TOOL = "arg=", "r="
"""How origins begin that are arguments of calls, and parts of results."""
Template = list[Any]
"""Of a text: its parts, and of each value [origin, whether the model has named it before], with the
number of the value that it is once more, if it is one."""
Texts = Sequence[tuple[Sequence[str], Template]]
"""Features of turns, and their texts."""
_LEAST_NAMED = 3
"""Texts that name a number or a name which is part of the wording, and not of a conversation."""


def is_sentence(value: Any) -> bool:
    """Return whether a value is a text that somebody wrote for a reader."""
    return isinstance(value, str) and len(value.split()) >= 3


def template_of(text: str, values: Offered) -> Template:
    """Return a text in which values that the conversation offers are slots."""
    places = list[tuple[int, int, Candidate]]()
    for candidate in values.values.values():
        word = candidate.value
        if isinstance(word, bool | list | dict) or not candidate.origins:
            continue
        word = str(word)
        if not word or len(word) > _LONGEST_VALUE or word not in text:
            continue
        # A digit stands in many places: it is that of a result only where one alone has it.
        if len(word) == 1 and sum(map(_is_of_tool, candidate.origins)) != 1:
            continue
        is_named = any(c.isdigit() for c in word) or (
            any(c.isupper() for c in word) and _is_tools(candidate)
        )
        if not is_named:
            continue
        places += [
            (match.start(), match.end(), candidate)
            for match in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", text)
        ]
    parts: Template = []
    end = 0
    slots = list[Candidate]()
    for start, stop, candidate in _apart(places):
        # An argument of a call tells which of several in a result it is. A result has one value
        # where a user's message has many of one form.
        origin = next(
            (o for start in _OF_TOOL for o in candidate.origins if o.startswith(start)),
            candidate.origins[-1],
        )
        again = [slots.index(candidate)] if candidate in slots else []
        slots.append(candidate)
        parts += [text[end:start], [origin, _is_named(candidate), *again]]
        end = stop
    return [*parts, text[end:]]


def _apart(places: Iterable[tuple[int, int, Candidate]]) -> list[tuple[int, int, Candidate]]:
    """Return places that do not overlap, in order: values of calls and results before others.

    Words of a message around a value, such as "on 4 May at 15:00", are of its conversation alone.
    """
    apart = list[tuple[int, int, Candidate]]()
    for slot in sorted(places, key=lambda slot: (not _is_tools(slot[2]), slot[0], -slot[1])):
        if all(slot[1] <= start or stop <= slot[0] for start, stop, _ in apart):
            apart.append(slot)
    return sorted(apart, key=lambda slot: slot[0])


def _is_tools(candidate: Candidate) -> bool:
    return any(map(_is_of_tool, candidate.origins))


def _is_of_tool(origin: str) -> bool:
    return origin.startswith(_OF_TOOL)


def _is_named(candidate: Candidate) -> bool:
    return any(origin.startswith(("assistant", "arg=")) for origin in candidate.origins)


def filled(template: Template, values: Offered) -> tuple[str, int] | None:
    """Return a template with the values of another conversation; None where one is missing.

    With it, for how many places there is no value of their own, as where a text lists three and
    there are two, and how many lists leave values out.
    """
    parts, used, listed = list[str](), list[Candidate](), Counter[str]()
    n_unfit = 0
    for part in template:
        if isinstance(part, str):
            parts.append(part)
            continue
        origin, was_named, *again = part
        if again:
            used.append(used[again[0]])
        else:
            some = _of_origin(origin, values)
            rest = [candidate for candidate in some if candidate not in used]
            n_unfit += not rest
            alike = [candidate for candidate in rest or some if _is_named(candidate) == was_named]
            alike = alike or rest or some
            if not alike:
                return None
            used.append(alike[-1] if was_named else alike[0])
            listed[origin] += not was_named
        parts.append(str(used[-1].value))
    for origin, n in listed.items():
        fresh = (c for c in _of_origin(origin, values) if c not in used and not _is_named(c))
        n_unfit += n > 1 and any(True for _ in fresh)
    return "".join(parts), n_unfit


def _of_origin(origin: str, values: Offered) -> list[Candidate]:
    """Return the single values that stand where another conversation's did."""
    return [
        candidate for candidate in values.values.values()
        if origin in candidate.origins and not isinstance(candidate.value, bool | list | dict)
    ]  # fmt: skip


@dataclass(frozen=True)
class Neighbours:
    """Training turns with a text, by what they are the text of."""

    templates: dict[str, list[Template]] = field(default_factory=dict)
    columns: dict[str, int] = field(default_factory=dict)
    rows: dict[str, sparse.csr_matrix] = field(default_factory=dict)
    """Features of the turns of each, shape (turns, columns), rows of length 1."""

    @staticmethod
    def of(texts: Mapping[str, Texts]) -> Neighbours:
        """Take in the features and the texts of turns."""
        texts = {key: _reusable(some) for key, some in texts.items()}
        columns: dict[str, int] = {}
        ids = {
            key: [[columns.setdefault(name, len(columns)) for name in names] for names, _ in some]
            for key, some in texts.items()
        }
        templates = {key: [template for _, template in some] for key, some in texts.items()}
        return Neighbours(templates, columns, {key: _matrix(ids[key], len(columns)) for key in ids})

    @property
    def size(self) -> int:
        """Numbers that are kept."""
        return sum(int(rows.nnz) for rows in self.rows.values())

    def text(
        self, key: str, features: Sequence[str], values: Offered, stated: Set[str]
    ) -> tuple[str, float]:
        """Return the text that is probably right, and how likely it is.

        Of the texts of the nearest turns it is the one that shares most words with the others;
        those with facts that the conversation does not state count less.
        """
        rows = self.rows.get(key)
        if rows is None:
            return "", 0.0
        query = np.zeros(rows.shape[1], np.float32)
        query[[self.columns[name] for name in features if name in self.columns]] = 1
        scores = rows @ query / max(1.0, float(np.sqrt(query.sum())))
        weights: dict[str, float] = {}
        for index in np.argsort(-scores, kind="stable")[: 3 * _N_NEAREST]:
            made = filled(self.templates[key][index], values)
            if made is None:
                continue
            text, n_unfit = made
            if len(weights) < _N_NEAREST or text in weights:
                weight = float(np.exp(_SHARPNESS * (scores[index] - scores.max())))
                weight *= _FOREIGN ** (foreign_facts(text, stated) + n_unfit)
                weights[text] = weights.get(text, 0.0) + weight
        if not weights:
            best = self.templates[key][int(scores.argmax())]
            return "".join(part if isinstance(part, str) else "" for part in best).strip(), 0.05
        total = sum(weights.values())
        shares = {
            text: sum(w * _likeness(text, second) for second, w in weights.items()) / total
            for text in weights
        }
        text = max(shares, key=lambda text: shares[text])
        return text, min(1.0, shares[text])

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return it as JSON and arrays."""
        arrays: dict[str, np.ndarray] = {}
        for k, rows in enumerate(self.rows.values()):
            arrays |= {f"texts{k}.indices": rows.indices, f"texts{k}.indptr": rows.indptr}
        return {"templates": self.templates, "columns": [*self.columns]}, arrays

    @staticmethod
    def of_state(described: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Neighbours:
        """Return what `state` described."""
        columns = {name: k for k, name in enumerate(described["columns"])}
        rows = {}
        for k, (key, templates) in enumerate(described["templates"].items()):
            indices, ends = arrays[f"texts{k}.indices"], arrays[f"texts{k}.indptr"]
            ids = [indices[a:b].tolist() for a, b in pairwise(ends)]
            if len(ids) != len(templates) or any(not 0 <= i < len(columns) for i in indices):
                raise ValueError("its texts do not fit their features")
            rows[key] = _matrix(ids, len(columns))
        return Neighbours(described["templates"], columns, rows)


def _reusable(texts: Texts) -> Texts:
    """Return the texts without those that state what only their own conversation has."""
    facts = [
        facts_in("".join(part if isinstance(part, str) else "x" for part in template))
        for _, template in texts
    ]
    counts = Counter(word for words in facts for word in words)
    some = [
        text
        for text, words in zip(texts, facts, strict=True)
        if all(counts[word] >= _LEAST_NAMED for word in words)
    ]
    return some or texts


def _likeness(text: str, second: str) -> float:
    f1 = 1.0 if text == second else word_f1(text, second)
    return 0.9 * (f1 >= _RIGHT_F1) + 0.1 * f1


def _matrix(ids: Sequence[Sequence[int]], n_columns: int) -> sparse.csr_matrix:
    """Return rows of length 1, in which rare features count more."""
    ends = np.cumsum([0, *map(len, ids)])
    indices = np.array([i for row in ids for i in row], np.int32)
    rarity = np.log(1 + len(ids)) - np.log(1 + np.bincount(indices, minlength=n_columns)) + 0.1
    data = rarity[indices].astype(np.float32)
    rows = sparse.csr_matrix((data, indices, ends), (len(ids), n_columns))
    lengths = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    scaled: sparse.csr_matrix = sparse.diags(1 / np.maximum(lengths, 1e-9)) @ rows
    return sparse.csr_matrix(scaled)
