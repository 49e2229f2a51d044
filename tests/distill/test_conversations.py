"""Turns of a conversation, read once: the loss and gradients of each turn by itself."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from test_beginnings import FAMILIES, N_IDS, gradients_of, make_model
from torch import Tensor
from torch.nn import functional as F

from stratos.config import TrainerConfig
from stratos.distill.data import Encoded, PackedLoader, conversations_in
from stratos.distill.module import StudentModule
from stratos.distill.packed import Row

SYSTEM, END = 90, 4
"""Tokens that all conversations begin with, and those with which a template asks for an answer."""
N_TURNS = (5, 3, 4)
"""Of conversations; two rows beside them are of none."""


def made(repeats_answers: bool, seed: int = 3) -> tuple[Encoded, list[str]]:
    """Return documents, shuffled, with the family of each.

    Args:
        repeats_answers: whether a later prompt has an answer as it was given, with what asks for
            it, or in other tokens.
        seed: of the tokens.
    """
    draw = np.random.default_rng(seed)

    def some(low: int, high: int) -> np.ndarray:
        return draw.integers(0, N_IDS, draw.integers(low, high))

    system, end = some(SYSTEM, SYSTEM + 1), some(END, END + 1)
    documents: list[tuple[np.ndarray, np.ndarray, str]] = []
    for family, n_turns in enumerate(N_TURNS):
        history = np.append(system, some(20, 60))
        for _ in range(n_turns):
            prompt, answer = np.append(history, end), some(3, 12)
            documents.append((prompt, answer, f"{family}"))
            parts = (prompt, answer) if repeats_answers else (history, some(9, 20))
            history = np.append(np.append(*parts), some(8, 40))
    documents += [(np.append(system, some(20, 40)), some(3, 9), f"single {k}") for k in range(2)]
    order = draw.permutation(len(documents))
    texts = [np.append(*documents[k][:2]) for k in order]
    data = Encoded(
        np.concatenate(texts).astype(np.int32),
        np.cumsum([0, *map(len, texts)]),
        np.array([len(documents[k][0]) for k in order]),
        shares=True,
    )
    families = [documents[k][2] for k in order]
    return replace(data, conversations=conversations_in(data, families)), families


FORMS = {"answers as they were given": made(True), "answers in other words": made(False)}


def passed(model: Any, data: Encoded) -> tuple[float, dict[str, Tensor], int]:
    module = StudentModule(model, TrainerConfig(), 1)
    module.learner.pack(True)
    batch = PackedLoader(data, 100_000, 1, 0).batch(np.arange(len(data)))
    loss = module.loss(batch)
    loss.backward()
    gradients = gradients_of(model)
    model.zero_grad()
    module.learner.pack(False)
    return loss.item(), gradients, batch.tokens_1N.numel()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_those_of_single_turns(family: str, form: str) -> None:
    data, _ = FORMS[form]
    model = make_model(family).train()
    total, count = torch.tensor(0.0), 0
    for document, n_prompt in enumerate(data.prompt_lengths):
        tokens = torch.from_numpy(data.text(document).astype(np.int64))
        logits = model(tokens[None]).logits[0]
        total = total + F.cross_entropy(
            logits[n_prompt - 1 : -1], tokens[n_prompt:], reduction="sum"
        )
        count += len(tokens) - n_prompt
    (total / count).backward()
    expected = gradients_of(model)
    model.zero_grad()
    loss, gradients, n_read = passed(model, data)
    assert loss == pytest.approx((total / count).item(), rel=1e-6)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        off = (gradient - expected[name]).norm() / expected[name].norm()
        assert off < 1e-5, name
    _, _, n_alike = passed(model, replace(data, conversations=None))
    assert n_read < 0.65 * n_alike < 0.65 * data.lengths.sum()


@pytest.mark.parametrize("form", FORMS)
def test_a_conversation_is_read_to_its_last_turn(form: str) -> None:
    """Beside it stands of a turn nothing, or the end of its prompt with the answer."""
    data, _ = FORMS[form]
    assert data.conversations is not None and data.n_turns == sum(N_TURNS)
    for conversation in np.unique(data.conversations):
        turns = np.flatnonzero(data.conversations == conversation)
        texts, lengths = [data.text(int(k)) for k in turns], data.prompt_lengths[turns].tolist()
        row = Row.of(texts, lengths, True, [0] * len(turns))
        n_answers = sum(map(len, texts)) - sum(lengths)
        assert len(row.rows_M) == n_answers

        most = 0 if form == "answers as they were given" else n_answers + (END + 1) * len(turns)
        longest = max(map(len, texts))
        assert longest <= len(row.tokens_N) <= longest + most


def test_turns_are_told_by_the_family_and_the_end_of_the_prompt() -> None:
    data, families = FORMS["answers in other words"]
    assert conversations_in(data, [str(k) for k in range(len(data))]) is None
    conversations = conversations_in(data, families)
    assert conversations is not None
    for family in {*families}:
        assert len({conversations[k] for k, of in enumerate(families) if of == family}) == 1
    # Of conversations of one family, those stay apart that begin alike and go on otherwise.
    joined = conversations_in(data, ["all"] * len(data))
    assert joined is not None and np.unique(joined).size == np.unique(conversations).size


def test_one_prompt_with_two_answers_is_predicted_from_two_places() -> None:
    prompt = np.arange(100) % N_IDS
    longer = np.concatenate([prompt, [7, 8, 9], np.arange(30)])
    texts = [np.append(prompt, [7, 8]), np.append(prompt, [7, 8, 9]), np.append(longer, [5])]
    row = Row.of(texts, [100, 100, len(longer)], True, [0, 0, 0])
    assert len(np.unique(row.rows_M)) == len(row.rows_M) == 2 + 3 + 1


@pytest.mark.parametrize("batch_tokens", [300, 900, 100_000])
def test_turns_are_in_one_step_as_far_as_it_has_room(batch_tokens: int) -> None:
    data, _ = FORMS["answers in other words"]
    assert data.conversations is not None
    total = int(data.lengths.sum())
    loader = PackedLoader(data, batch_tokens, total, 0)
    steps = [loader.row(k).document_ids_D for k in range(len(loader))]
    assert sorted(np.concatenate(steps).tolist()) == list(range(len(data)))
    single = PackedLoader(replace(data, conversations=None), batch_tokens, total, 0)
    assert abs(len(loader) - len(single)) <= 3, "steps are of as many tokens"
    for conversation in np.unique(data.conversations):
        turns = np.flatnonzero(data.conversations == conversation)
        n_steps = sum(bool({*turns} & {*documents}) for documents in steps)
        n_tokens = int(data.lengths[turns].sum())
        assert n_steps <= 1 + 2 * (n_tokens // batch_tokens)
    for documents in steps:
        own = [int(data.conversations[k]) for k in documents]
        n_changes = sum(a != b for a, b in pairwise(own))
        assert n_changes == len({*own}) - 1, "turns of one conversation stand side by side"


def test_parts_of_a_step_add_up_to_it() -> None:
    data, _ = FORMS["answers as they were given"]
    module = StudentModule(make_model("llama"), TrainerConfig(), 1)
    module.learner.pack(True)
    loader = PackedLoader(data, 100_000, 1, 0)
    losses = []
    for shares in ([None], [(0.0, 0.5), (0.5, 1.0)]):
        total = 0.0
        for share in shares:
            loader.divide(share)
            total += module.loss(loader.row(0)).item()
        losses.append(total)
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
