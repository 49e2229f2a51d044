"""The corpus as packed token rows, in a resumable order; some in the student's own words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stratos.core.errors import StratosError
from stratos.distill.distributed import gathered, summed, whole_model
from stratos.distill.packed import END_TOKENS, Documents, Row
from stratos.distill.trainer import BEGINNING_TOKENS
from stratos.models.decode.kv_cache import n_shared
from stratos.tasks.base import Message

POOL = 4096
"""Documents among which batches of similar length are made."""
CHUNK = 2048
"""Texts tokenized at once: what a tokenizer returns is many times larger than the tokens."""


@dataclass(frozen=True)
class Batch:
    """One packed row of N tokens.

    texts, prompt_lengths: tokens of each document, and how many of them are its prompt's.
    tokens_1N, positions_1N: token ids and positions, as each document has them.
    rows_M, targets_M: places whose next token is learned (completions only), and that token.
    document_ids_D: which documents of `Encoded` these are, in the row's order.
    n_tokens: what a sum over the row is divided by: the mean number of learned tokens of the rows
        that make one gradient step together (accumulated ones, and those of other processes), so
        that the mean of their losses is the mean over all their tokens.
    written: whether the student wrote the completions itself.
    row: which row of its loader it is, or was made a part of.
    """

    texts: Sequence[np.ndarray]
    prompt_lengths: np.ndarray
    tokens_1N: Tensor
    positions_1N: Tensor
    rows_M: Tensor
    targets_M: Tensor
    documents: Documents
    document_ids_D: np.ndarray
    n_tokens: float
    written: bool = False
    row: int = 0

    @property
    def n_trained(self) -> int:
        """Return how many tokens its documents have: 0 for a part of a row without any."""
        return sum(map(len, self.texts)) if len(self.document_ids_D) else 0

    def to(self, device: Any) -> Batch:
        """Move every tensor (Lightning calls this)."""
        return replace(
            self,
            tokens_1N=self.tokens_1N.to(device),
            positions_1N=self.positions_1N.to(device),
            rows_M=self.rows_M.to(device),
            targets_M=self.targets_M.to(device),
            documents=self.documents.to(device),
        )


def pack(
    texts: Sequence[np.ndarray],
    prompt_lengths: np.ndarray,
    document_ids_D: np.ndarray,
    n_tokens: float | None = None,
    written: bool = False,
    shares: bool = False,
    conversations: Sequence[int] | None = None,
) -> Batch:
    """Put documents of tokens behind each other; what follows their prompts is learned.

    `n_tokens` and `written` as in `Batch`, None takes the learned tokens of this row; `shares` and
    `conversations` as in `Row.of`.
    """
    row = Row.of(texts, prompt_lengths.tolist(), shares, conversations)
    pairs = zip(texts, prompt_lengths, strict=True)
    targets = np.concatenate([text[n:] for text, n in pairs]).astype(np.int64)
    return Batch(
        texts=texts,
        prompt_lengths=prompt_lengths,
        tokens_1N=row.tokens_N[None],
        positions_1N=row.positions_N[None],
        rows_M=row.rows_M,
        targets_M=torch.from_numpy(targets),
        documents=row.documents,
        document_ids_D=document_ids_D,
        n_tokens=float(len(row.rows_M) if n_tokens is None else n_tokens),
        written=written,
    )


@dataclass(frozen=True)
class Encoded:
    """Tokens of all documents behind each other: prompt, completion, end."""

    tokens: np.ndarray
    starts: np.ndarray
    """Start of each document, and the end of the last: one more than documents."""
    prompt_lengths: np.ndarray
    items: np.ndarray | None = None
    """Which of the items that were given each document is; None where all are documents."""
    shares: bool = False
    """Whether what the prompts of a row begin with is computed once for all of them."""
    conversations: np.ndarray | None = None
    """Which one each document is a turn of: one step has them all. None where each is alone."""

    @property
    def lengths(self) -> np.ndarray:
        """Length of each document in tokens."""
        return np.diff(self.starts)

    def __len__(self) -> int:
        return len(self.prompt_lengths)

    def text(self, document: int) -> np.ndarray:
        """Return the tokens of a document."""
        return self.tokens[self.starts[document] : self.starts[document + 1]]

    def prompt(self, document: int) -> np.ndarray:
        """Return the tokens of its prompt."""
        return self.text(document)[: self.prompt_lengths[document]]

    @property
    def n_turns(self) -> int:
        """Return how many documents are turns of a conversation with others."""
        if self.conversations is None:
            return 0
        _, n_of_each = np.unique(self.conversations, return_counts=True)
        return int(n_of_each[n_of_each > 1].sum())

    def conversations_of(self, documents: np.ndarray) -> list[int] | None:
        """Return the conversation of each of some documents."""
        return None if self.conversations is None else self.conversations[documents].tolist()


def encode(
    tokenizer: Any, chats: Sequence[list[Message]], completions: Sequence[str], max_tokens: int
) -> tuple[Encoded, int]:
    """Tokenize prompts with the chat template, and completions with the end behind them.

    Returns the documents and how many were left out because they are longer than `max_tokens`.

    Raises:
        StratosError: nothing is left.
    """
    if not chats:
        raise StratosError(
            "The corpus has no items. Make one: stages=[synthesize,distill] in this run's folder."
        )
    tokens: list[np.ndarray] = []
    lengths: list[int] = []
    prompt_lengths: list[int] = []
    items: list[int] = []
    for start in range(0, len(chats), CHUNK):
        prompts = tokenizer.apply_chat_template(  # of several at once it takes less time
            chats[start : start + CHUNK], tokenize=False, add_generation_prompt=True
        )
        ended = [text + tokenizer.eos_token for text in completions[start : start + CHUNK]]
        prompt_ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
        written = tokenizer(ended, add_special_tokens=False)["input_ids"]
        for item, (prompt, completion) in enumerate(zip(prompt_ids, written, strict=True), start):
            if len(prompt) + len(completion) > max_tokens:
                continue
            items.append(item)
            tokens.append(np.array(prompt + completion, np.int32))
            lengths.append(len(tokens[-1]))
            prompt_lengths.append(len(prompt))
    if not tokens:
        raise StratosError(
            f"No training item fits the student's context of {max_tokens} tokens. "
            "Choose a student with a longer one: student.context_length=…"
        )
    encoded = Encoded(
        tokens=np.concatenate(tokens),
        starts=np.concatenate([[0], np.cumsum(lengths)]),
        prompt_lengths=np.array(prompt_lengths),
        items=np.array(items),
    )
    return encoded, len(chats) - len(items)


def conversations_in(data: Encoded, families: Sequence[str]) -> np.ndarray | None:
    """Return which conversation each document is a turn of; None where each is alone.

    The prompt of one turn ends where that of another goes on, but for the few tokens with which the
    template asks for an answer.

    Args:
        data: the documents.
        families: of the items that they are of; turns of one conversation are of one family.
    """
    conversations, of_families = np.arange(len(data)), defaultdict[str, list[int]](list)
    for document in range(len(data)):
        item = document if data.items is None else int(data.items[document])
        of_families[families[item]].append(document)
    for documents in of_families.values():
        if len(documents) == 1:
            continue
        tokens = {document: data.text(document).tolist() for document in documents}
        for first, second in pairwise(sorted(tokens, key=tokens.__getitem__)):
            n = n_shared(tokens[first], tokens[second])
            n_prompt = int(data.prompt_lengths[[first, second]].min())
            if n > BEGINNING_TOKENS and n_prompt - n <= END_TOKENS:
                conversations[second] = conversations[first]
    return conversations if len(np.unique(conversations)) < len(data) else None


def units(data: Encoded, batch_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Return documents so that those that go together stand together, and where each unit starts.

    A conversation of more tokens than a step has is several units, of the turns that follow each
    other. The ends are the last of the starts.
    """
    if data.conversations is None:
        return np.arange(len(data)), np.arange(len(data) + 1)
    documents = np.lexsort((data.lengths, data.conversations))
    starts, n_tokens = [0], 0
    before = data.conversations[documents[0]]
    for index, document in enumerate(documents):
        length, conversation = int(data.lengths[document]), data.conversations[document]
        if index and (conversation != before or n_tokens + length > batch_tokens):
            starts.append(index)
            n_tokens = 0
        before, n_tokens = conversation, n_tokens + length
    return documents, np.array([*starts, len(documents)])


class PackedLoader:
    """Yields the rows of `n_steps` gradient steps of about `batch_tokens` tokens each.

    The order depends on seed and epoch alone: the rows of a step are the same documents however
    many processes share them, and in however many parts each accumulates its share. `state_dict`
    says how many rows were yielded, so that a resumed training goes on with the very next one
    (Lightning saves it with a checkpoint).
    """

    def __init__(
        self,
        data: Encoded,
        batch_tokens: int,
        max_tokens: int,
        seed: int,
        accumulate: int = 1,
        rank: int = 0,
        n_ranks: int = 1,
    ) -> None:
        """Plan the steps of enough epochs to reach `max_tokens`."""
        self._data, self._batch_tokens, self._seed = data, batch_tokens, seed
        self._accumulate, self._rank, self._n_ranks = accumulate, rank, n_ranks
        self._n_means = accumulate * n_ranks
        self._share: tuple[float, float] | None = None
        self._units, self._unit_starts = units(data, batch_tokens)
        self._plan: list[np.ndarray] = []
        tokens, epoch = 0, 0
        while tokens < max_tokens:
            for documents in self._epoch(epoch):
                self._plan.append(documents)
                tokens += int(data.lengths[documents].sum())
                if tokens >= max_tokens:
                    break
            epoch += 1
        self.n_steps = len(self._plan)
        self._next = 0

    def _epoch(self, epoch: int) -> Iterator[np.ndarray]:
        """Return the steps of one epoch: documents of similar length go together."""
        rng = np.random.default_rng([self._seed, epoch])
        lengths, starts = self._data.lengths[self._units], self._unit_starts
        order = rng.permutation(len(starts) - 1)
        sizes = np.add.reduceat(lengths, starts[:-1])
        longest = np.maximum.reduceat(lengths, starts[:-1])
        for start in range(0, len(order), POOL):
            pool = order[start : start + POOL]
            pool = pool[np.argsort(longest[pool], kind="stable")]
            cuts = np.cumsum(sizes[pool]) // self._batch_tokens
            batches = np.split(pool, np.flatnonzero(np.diff(cuts)) + 1)
            for index in rng.permutation(len(batches)):
                parts = (self._units[starts[k] : starts[k + 1]] for k in batches[index])
                yield np.concatenate([*parts])

    def __len__(self) -> int:
        """Return the number of rows that this process trains on."""
        return self.n_steps * self._accumulate

    def __iter__(self) -> Iterator[Batch]:
        """Yield from where the state says."""
        while self._next < len(self):
            row = self._next
            self._next += 1
            yield self.row(row)
        self._next = 0

    @property
    def batch_tokens(self) -> int:
        """Return how many tokens a step has at most, or about."""
        return self._batch_tokens

    def state_dict(self) -> dict[str, int]:
        """Return how many rows were yielded."""
        return {"next": self._next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on behind the rows that were yielded."""
        self._next = state["next"]

    def divide(self, share: tuple[float, float] | None) -> None:
        """Yield of each row the documents between two parts of its tokens, 0 to 1, from here on.

        The losses of all parts add up to that of the row. Only a process that has whole rows can
        divide them; None yields whole rows again.
        """
        self._share = share

    def row(self, index: int) -> Batch:
        """Return one row of this process."""
        data, mine = self._data, self.documents(index)
        documents = self._plan[index // self._accumulate]
        if len(mine) == 0:  # fewer documents than parts: a token from which nothing is learned
            nothing = [data.text(documents[0])[:1]], np.ones(1, int)
            return replace(pack(*nothing, mine, 1), row=index)
        learned = int((data.lengths - data.prompt_lengths)[documents].sum())
        return replace(self.batch(mine, learned / self._n_means), row=index)

    def corpus_row(self, index: int) -> Batch:
        """Return a row of the corpus, whatever stands in its place."""
        return PackedLoader.row(self, index)

    def part_of_row(self, index: int, n_tokens: int) -> Batch:
        """Return the first documents of a row of the corpus, of so many tokens or one of them."""
        documents = self.documents(index)
        ends = np.cumsum(self._data.lengths[documents])
        n = max(1, int(np.searchsorted(ends, n_tokens, side="right")))
        return self.batch(documents[:n]) if len(documents) else self.corpus_row(index)

    def documents(self, index: int) -> np.ndarray:
        """Return the documents of one row: its part of its step's, of about as many tokens."""
        step, part = divmod(index, self._accumulate)
        documents, n_parts = self._plan[step], self._accumulate * self._n_ranks
        part = part * self._n_ranks + self._rank
        ends = np.cumsum(self._data.lengths[documents])
        middles = ends - self._data.lengths[documents] / 2
        if self._share is not None:
            first, last = ((part + share) / n_parts for share in self._share)
            return documents[(first * ends[-1] <= middles) & (middles < last * ends[-1])]
        return documents[(middles * n_parts // ends[-1]).astype(int) == part]

    def batch(self, documents: np.ndarray, n_tokens: float | None = None) -> Batch:
        """Pack documents into one row."""
        return pack(
            [self._data.text(document) for document in documents],
            self._data.prompt_lengths[documents],
            documents,
            n_tokens,
            shares=self._data.shares,
            conversations=self._data.conversations_of(documents),
        )


Writer = Callable[[Sequence[np.ndarray]], list[list[int]]]
"""Takes the tokens of prompts, returns those that the student writes behind them."""

_STREAM = 0x5EED
"""Sets the coin that is thrown for each step apart from the seed's other uses."""


class OnPolicyLoader(PackedLoader):
    """Rows of a packed loader, a share of whose steps are the student's own texts.

    The texts of several steps ahead are written at once, because a larger batch is decoded at
    little more cost; so a text is at most `buffer_steps` gradient steps old when it is learned
    from. The texts that wait are part of the state, so a resumed training reads the same ones.
    """

    def __init__(
        self,
        *loader: Any,
        write: Writer,
        lmbda: float,
        buffer_steps: int,
        **named: Any,
    ) -> None:
        """Take what `PackedLoader` takes, and what makes the texts.

        Args:
            loader: as of `PackedLoader`.
            write: the student at its present weights.
            lmbda: share of the steps that are on its own texts.
            buffer_steps: on-policy steps whose texts are written at once.
            named: as of `PackedLoader`.
        """
        super().__init__(*loader, **named)
        self._write, self._buffer_steps = write, buffer_steps
        coins = np.random.default_rng([self._seed, _STREAM]).random(self.n_steps)
        self._own = coins < lmbda
        self._texts: dict[int, tuple[list[list[int]], float]] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return how many rows were yielded, and the texts that wait, of every process."""
        return {**super().state_dict(), "texts_by_rank": gathered(dict(self._texts))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on behind the rows that were yielded, with the texts that waited."""
        super().load_state_dict(state)
        self._texts = dict(state["texts_by_rank"][self._rank])

    def row(self, index: int) -> Batch:
        """Return a row of the corpus, or of the student's own texts."""
        step = index // self._accumulate
        if not self._own[step]:
            return super().row(index)
        if index not in self._texts:
            self._fill(step)
        texts, n_tokens = self._texts.pop(index)
        documents = self.documents(index)
        if not texts:
            return super().row(index)
        prompts = [self._data.prompt(document) for document in documents]
        whole = [np.append(p, text) for p, text in zip(prompts, texts, strict=True)]
        lengths = self._data.prompt_lengths[documents]
        shared = self._data.shares, self._data.conversations_of(documents)
        return pack(whole, lengths, documents, n_tokens, True, *shared)

    def _fill(self, step: int) -> None:
        """Write the texts of this step and of the on-policy steps that follow it."""
        steps = [step + int(ahead) for ahead in np.flatnonzero(self._own[step:])]
        steps = steps[: self._buffer_steps]
        parts = range(self._accumulate)
        documents = {
            own * self._accumulate + part: self.documents(own * self._accumulate + part)
            for own in steps
            for part in parts
        }
        prompts = [
            self._data.prompt(document) for group in documents.values() for document in group
        ]
        texts = iter(self._write(prompts))
        written = {row: [next(texts) for _ in group] for row, group in documents.items()}
        learned = [
            sum(len(text) for part in parts for text in written[own * self._accumulate + part])
            for own in steps
        ]
        n_parts = self._accumulate * self._n_ranks
        for own, total in zip(steps, summed(*learned), strict=True):
            for part in parts:
                row = own * self._accumulate + part
                self._texts[row] = written[row], total / n_parts


def writer(
    learner: Any,
    tokenizer: Any,
    max_new_tokens: int,
    temperature: float,
    batch_size: int,
    decoder: str,
) -> Writer:
    """Return the student as a writer: it samples at its present weights.

    What is drawn depends on the seed alone; batches and decoders differ by rounding.
    """
    from stratos.models.decode.batched import write
    from stratos.models.decode.decoder import Decoder, Decoding, Drawn

    def written(prompts: Sequence[np.ndarray]) -> list[list[int]]:
        model = whole_model(learner.model)
        with learner.unpacked():
            return write(
                model,
                tokenizer,
                [prompt.tolist() for prompt in prompts],
                max_new_tokens=max_new_tokens,
                batch_size=batch_size,
                pick=Drawn(len(prompts), max_new_tokens, temperature),
                choose_threads=False,
                decoding=Decoding(Decoder(decoder)),
            )

    return written
