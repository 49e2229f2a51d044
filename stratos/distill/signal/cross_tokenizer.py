"""Two tokenizers: whether they are the same; align positions and tokens where they are not.

Two tokenizers cut one text differently, but wherever both begin a token at the same character,
both models have read exactly the same text. At these places the next-token distributions of the two
are compared as they are: none is multiplied with probabilities of other places, which would leave
it a distribution no more. How they are compared is the objective's: sorted probabilities
(`universal_logit`), or any divergence over the tokens that both vocabularies have (`Shared`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stratos.core.errors import StratosError
from stratos.core.reasons import Reason
from stratos.distill.data import Batch
from stratos.distill.objectives import Shared, Signal
from stratos.distill.signal.local import LocalSource, Reader, Split, TeacherRow, split
from stratos.distill.words import AlignedPlaces, OtherEnd, OtherSplit, OtherToken

# Tokenizer fingerprints: distributions are shared only between equal tokenizers.
#
# A model's embedding may be padded to any width; that is no part of what ids mean and not looked
# at.

_SAMPLED_TOKENS = 256
"""Tokens of the vocabulary that are put together to texts, to see how these are cut again."""
_TEXTS = (
    "The quick brown fox jumps over the lazy dog, 1234567890 times.",
    "  leading, trailing and   repeated spaces  \t\n\n  tabs\r\n",
    "don't WON'T Straße Ångström e\u0301 é ﬁ Ⅳ ½",
    "def f(x: int) -> list[str]:\n    return [f'{x:>8.3f}'] * 2  # 3.14e-10",
    "数学は楽しい。 Привет, мир! مرحبا 🙂👩‍🔬",
)


class TokenizerMismatch(StratosError):
    """Two tokenizers give one id different meanings."""


@dataclass(frozen=True)
class Fingerprint:
    """The name of what a tokenizer's ids mean."""

    name: str
    """Where the tokenizer comes from."""
    digest: str
    n_ids: int
    """Ids that have a meaning; rows of an embedding beyond them are padding."""

    def __str__(self) -> str:
        return f"{self.name or 'unnamed'} ({self.n_ids:,} ids, {self.digest[:12]})"


def fingerprint(tokenizer: Any) -> Fingerprint:
    """Return the fingerprint of a tokenizer: tokens by id, how texts are cut, what ends a text."""
    tokens = tokens_by_id(tokenizer)
    facts = [sorted(tokens.items()), _cuts(tokenizer, tokens), _ends(tokenizer)]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return Fingerprint(str(tokenizer.name_or_path), digest, max(tokens) + 1)


def check_same(student: Any, teacher: Any) -> None:
    """Check that what both tokenizers have in common means the same to both.

    Ids that only one of them has (tokens added behind the vocabulary of a family) do not matter.

    Raises:
        TokenizerMismatch: they differ.
    """
    reason = difference(student, teacher)
    if reason is not None:
        raise TokenizerMismatch(
            "Student and teacher have different tokenizers.\n"
            f"  student  {fingerprint(student)}\n"
            f"  teacher  {fingerprint(teacher)}\n"
            f"{reason}\n"
            "For another tokenizer: strategy.only_shared=true (or "
            "strategy.objective=universal_logit); or learn from the teacher's verified text: "
            "strategy=alignment"
        )


def difference(student: Any, teacher: Any) -> Reason | None:
    """Return what two tokenizers differ in, or None."""
    ours, theirs = tokens_by_id(student), tokens_by_id(teacher)
    shared = sorted(ours.keys() & theirs.keys())
    for id_ in shared:
        if ours[id_] != theirs[id_]:
            return OtherToken(id_, ours[id_], theirs[id_])
    common = {id_: ours[id_] for id_ in shared}
    for text, cut in _cuts(student, common).items():
        if cut != _cut(teacher, text):
            return OtherSplit(text)
    if (end := _ends(student)) not in theirs:
        return OtherEnd(end)
    return None


def tokens_by_id(tokenizer: Any) -> dict[int, str]:
    """Return every id with its token as the vocabulary spells it, added tokens included."""
    return {id_: token for token, id_ in tokenizer.get_vocab().items()}


def _cuts(tokenizer: Any, tokens: dict[int, str]) -> dict[str, list[int]]:
    """Return how texts are cut: normaliser, pre-tokenizer and merges seen from outside."""
    special = set(tokenizer.all_special_tokens)
    plain = [tokens[id_] for id_ in sorted(tokens) if tokens[id_] not in special]
    step = max(1, len(plain) // _SAMPLED_TOKENS)
    sampled = plain[::step]
    drawn = [
        tokenizer.convert_tokens_to_string([*sampled[start : start + 8]])
        for start in range(0, len(sampled), 8)
    ]
    return {text: _cut(tokenizer, text) for text in (*_TEXTS, *drawn)}


def _cut(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _ends(tokenizer: Any) -> int | None:
    end: int | None = tokenizer.eos_token_id
    return end


Spans = Sequence[tuple[int, int]]


def common_starts(student: Spans, teacher: Spans) -> tuple[np.ndarray, np.ndarray]:
    """Return the tokens of each side that begin where a token of the other begins.

    Both are spans (start, end) of characters of the same text, in order, as fast tokenizers give
    them (`return_offsets_mapping=True`). Empty spans (special tokens) are left out. Returned are
    two arrays of one length, indices of tokens; the place that predicts a token is the one before.
    """
    starts = []
    for spans in (student, teacher):
        array = np.asarray(spans, dtype=np.int64).reshape(-1, 2)
        full = np.flatnonzero(array[:, 1] > array[:, 0])
        # Several tokens of one character (byte fallback) begin together: only the first counts.
        _, first = np.unique(array[full, 0], return_index=True)
        starts.append((array[full[first], 0], full[first]))
    _, ours, theirs = np.intersect1d(
        starts[0][0], starts[1][0], assume_unique=True, return_indices=True
    )
    return starts[0][1][ours], starts[1][1][theirs]


def shared_tokens(student: Any, teacher: Any) -> tuple[Tensor, Tensor]:
    """Return the ids (K,) of the same text in the vocabularies of two tokenizers.

    Tokens are compared as the text that they decode to, not as they are spelled in a vocabulary:
    "Ġthe" of one tokenizer is "▁the" of another. Special tokens are left out, and so is what does
    not decode by itself (parts of characters).
    """
    ours, theirs = _texts(student), _texts(teacher)
    pairs = sorted((id_, theirs[text]) for text, id_ in ours.items() if text in theirs)
    ids = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
    return ids[:, 0].contiguous(), ids[:, 1].contiguous()


def _texts(tokenizer: Any) -> dict[str, int]:
    special = set(tokenizer.all_special_ids)
    texts: dict[str, int] = {}
    for token, id_ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
        if id_ in special:
            continue
        # A word before it keeps the space that some decoders take from the start of a text.
        text = tokenizer.convert_tokens_to_string(["a", token])[1:]
        if text and "�" not in text:
            texts.setdefault(text, id_)
    return texts


class CrossTokenizerSource(LocalSource):
    """Scores the text of a batch with a model of this process that has its own tokenizer."""

    is_forkable = False
    reason = AlignedPlaces()

    def __init__(
        self,
        reader: Reader,
        teacher: Any,
        student: Any,
        prompts: Sequence[np.ndarray] | None = None,
        only_shared: bool = False,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        """Take a model that was tried out.

        Args:
            reader: the model.
            teacher: its tokenizer.
            student: the student's tokenizer.
            prompts: the teacher's prompt of each document, in its tokens; None takes the text of
                the student's.
            only_shared: give the distribution over the tokens that both vocabularies have (for any
                divergence) instead of the whole one (for universal_logit).
            on_close: frees the weights.
        """
        super().__init__(reader, prompts, on_close)
        self._teacher, self._student = teacher, student
        self._shared = shared_with_end(student, teacher) if only_shared else None
        self._last: tuple[Batch, TeacherRow, Tensor] | None = None

    def places(self, batch: Batch) -> Tensor:
        """Return which of the M learned places of a batch the signal is of, in order."""
        return self._aligned(batch)[1]

    def signal(self, batch: Batch) -> Signal:
        """Return what the teacher says at `places`."""
        row, _ = self._aligned(batch)
        device = batch.tokens_1N.device
        given = self.reader(row, device)
        if self._shared is None:
            return given
        return Shared(given, *(ids.to(device) for ids in self._shared))

    def _aligned(self, batch: Batch) -> tuple[TeacherRow, Tensor]:
        """Return the teacher's row and the places among M; those of the last batch are kept."""
        if self._last is None or self._last[0] is not batch:
            row, places = self._align(split(batch), batch.document_ids_D)
            self._last = (batch, row, places.to(batch.tokens_1N.device))
        return self._last[1:]

    def _align(self, documents: Split, document_ids_D: np.ndarray) -> tuple[TeacherRow, Tensor]:
        student_end = self._student.eos_token_id
        ended = [len(c) > 0 and c[-1] == student_end for c in documents.completions]
        written = [
            c[:-1] if over else c for c, over in zip(documents.completions, ended, strict=True)
        ]
        texts = [decode(self._student, completion) for completion in written]
        theirs = [np.array(ids, np.int64) for ids in _encode(self._teacher, texts)]
        ours_ends = token_ends(self._student, texts, written)
        their_ends = token_ends(self._teacher, texts, theirs)
        if self._prompts is not None:
            prompts = [self._prompts[document] for document in document_ids_D]
        else:
            prompts_text = [decode(self._student, prompt) for prompt in documents.prompts]
            prompts = [np.array(ids, np.int64) for ids in _encode(self._teacher, prompts_text)]
        completions, shared, places = [], [], []
        place_starts = documents.place_starts
        n_before = 0
        for i, over in enumerate(ended):
            ours, theirs_ = common_starts(_spans(ours_ends[i]), _spans(their_ends[i]))
            completion = theirs[i]
            if over and self._teacher.eos_token_id is not None:
                ours = np.append(ours, len(written[i]))
                theirs_ = np.append(theirs_, len(completion))
                completion = np.append(completion, self._teacher.eos_token_id)
            if len(prompts[i]) == 0 and len(theirs_) and theirs_[0] == 0:
                ours, theirs_ = ours[1:], theirs_[1:]  # nothing comes before the first token
            completions.append(completion)
            shared.append(n_before + theirs_)
            places.append(place_starts[i] + ours)
            n_before += len(completion)
        chosen = torch.from_numpy(np.concatenate(shared))
        row = replace(TeacherRow.of(prompts, completions), chosen=chosen)
        return row, torch.from_numpy(np.concatenate(places))


_WINDOW, _OVERLAP = 32, 8
"""Tokens that are decoded one by one, and those before them that may decide how they read."""


def decode(tokenizer: Any, ids: np.ndarray) -> str:
    """Return the text of tokens, special ones included, spaces as they are."""
    text: str = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    return text


def token_ends(
    tokenizer: Any, texts: Sequence[str], tokens: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Return where in its text each token ends, in characters.

    Offsets of a fast tokenizer tell where it would cut the text in the same places; what a model
    has written itself may be cut otherwise, and is decoded token by token.
    """
    if tokenizer.is_fast and texts:
        cut = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True)
        offsets, ids = cut["offset_mapping"], cut["input_ids"]
    else:
        offsets, ids = [[]] * len(texts), [None] * len(texts)
    ends = []
    for text, own, spans, expected in zip(texts, tokens, offsets, ids, strict=True):
        if expected is not None and len(expected) == len(own) and np.array_equal(expected, own):
            ends.append(np.array([stop for _, stop in spans], np.int64))
        else:
            ends.append(_decoded_ends(tokenizer, text, own))
    return ends


def _decoded_ends(tokenizer: Any, text: str, tokens: np.ndarray) -> np.ndarray:
    lengths = _lengths_by_windows(tokenizer, tokens)
    if lengths[-1:] != [len(decode(tokenizer, tokens))]:  # what is far before decides, too
        lengths = [len(decode(tokenizer, tokens[: n + 1])) for n in range(len(tokens))]
    ends = np.minimum(np.array(lengths, np.int64), len(text))
    # A part of a character decodes to marks that the whole one takes back.
    return np.minimum.accumulate(ends[::-1])[::-1]


def _lengths_by_windows(tokenizer: Any, tokens: np.ndarray) -> list[int]:
    """Return how long the text of the first 1, 2, … tokens is, if only near ones decide that.

    Each token is decoded with those of its window before it, and a window begins with the last
    tokens of the one before: their text is whole, and what it is preceded by is the same.
    """
    lengths: list[int] = []
    start = n_before = 0
    while len(lengths) < len(tokens):
        overlap = len(lengths) - start
        n_overlap = len(decode(tokenizer, tokens[start : len(lengths)])) if overlap else 0
        stop = min(len(lengths) + _WINDOW, len(tokens))
        for n in range(len(lengths), stop):
            text = decode(tokenizer, tokens[start : n + 1])
            lengths.append(n_before + len(text) - n_overlap)
        # The next one begins a few tokens back, where the text does not end within a character.
        n_before, start = lengths[-1], max(0, stop - _OVERLAP)
    return lengths


def _spans(ends: np.ndarray) -> list[tuple[int, int]]:
    """Return spans that leave no gap: some tokenizers do not count a word's leading space."""
    starts = np.concatenate([[0], ends[:-1]])
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def _encode(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return ids


def shared_with_end(student: Any, teacher: Any) -> tuple[Tensor, Tensor]:
    """Return the shared ids, and the ends of a text, which mean the same however they are named."""
    ours, theirs = shared_tokens(student, teacher)
    ends = (student.eos_token_id, teacher.eos_token_id)
    if None not in ends:
        ours = torch.cat([ours, torch.tensor([ends[0]])])
        theirs = torch.cat([theirs, torch.tensor([ends[1]])])
    return ours, theirs
