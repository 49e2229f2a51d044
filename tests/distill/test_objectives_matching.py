"""Unlike tokenizers, and hidden states with a learned projection."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objectives_textbook import compare
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from stratos.distill.module import HiddenMatch, hidden_match, layer_pairs
from stratos.distill.signal.cross_tokenizer import common_starts, shared_tokens


def spans(cuts: list[int], end: int) -> list[tuple[int, int]]:
    edges = [0, *sorted(set(cuts)), end]
    return list(pairwise(edges))


@given(st.lists(st.integers(1, 19)), st.lists(st.integers(1, 19)))
@settings(max_examples=200)
def test_common_starts_are_all_places_with_one_text_before(a: list[int], b: list[int]) -> None:
    student, teacher = spans(a, 20), spans(b, 20)
    ours, theirs = common_starts(student, teacher)
    assert [student[i][0] for i in ours] == [teacher[j][0] for j in theirs]
    assert {student[i][0] for i in ours} == {0, *(set(a) & set(b))}


def test_special_tokens_and_parts_of_characters_are_left_out() -> None:
    ours, theirs = common_starts([(0, 0), (0, 2), (2, 3), (2, 3), (3, 5)], [(0, 2), (2, 5), (5, 5)])
    assert ours.tolist() == [1, 2] and theirs.tolist() == [0, 1]
    empty = common_starts([], [(0, 1)])
    assert all(len(side) == 0 and side.dtype == np.int64 for side in empty)


def test_shared_tokens_go_by_text_not_by_spelling() -> None:
    def tokenizer(words: list[str], decoder: object) -> PreTrainedTokenizerFast:
        core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, words[0]))
        core.pre_tokenizer = pre_tokenizers.Whitespace()
        core.decoder = decoder
        return PreTrainedTokenizerFast(tokenizer_object=core, unk_token=words[0])

    student = tokenizer(["<u>", "Ġthe", "cat", "Ġdog"], decoders.ByteLevel())
    teacher = tokenizer(["<unk>", "cat", "▁the", "▁", "x"], decoders.Metaspace())
    ours, theirs = shared_tokens(student, teacher)
    assert ours.tolist() == [1, 2] and theirs.tolist() == [2, 1]


@pytest.mark.parametrize("cosine", [False, True])
def test_hidden_match_equals_the_textbook(cosine: bool) -> None:
    torch.manual_seed(0)
    student = torch.randn(5, 8, requires_grad=True)
    teacher = (100 * torch.randn(5, 8)).requires_grad_()
    loss = hidden_match(student, teacher, 4, cosine)
    if cosine:
        norms = student.norm(dim=1) * teacher.norm(dim=1)
        expected = (1 - (student * teacher).sum(1) / norms).sum() / 4
    else:
        error = ((student - teacher) ** 2).mean(1) / (teacher**2).mean(1)
        expected = error.sum() / 4
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=1e-6)
    wanted = torch.autograd.grad(expected, student, retain_graph=True)[0]
    torch.testing.assert_close(torch.autograd.grad(loss, student, retain_graph=True)[0], wanted)
    assert torch.autograd.grad(loss, teacher, allow_unused=True)[0] is None
    nothing = hidden_match(student[:0], teacher[:0], 0, cosine)
    nothing.backward()
    assert nothing.item() == 0 and student.grad is not None and not student.grad.any()


def test_a_projection_learns_the_teachers_states() -> None:
    """Teacher states that are a linear map of the student's are matched to nothing left."""
    torch.manual_seed(1)
    states = [torch.randn(1, 40, 6) for _ in range(3)]
    maps = [torch.randn(6, 10) for _ in range(3)]
    teacher = [state @ map_ for state, map_ in zip(states, maps, strict=True)]
    match, rows = HiddenMatch(6, 10, [(1, 1), (2, 2)]), torch.arange(0, 40, 2)
    optimizer = torch.optim.LBFGS(match.parameters(), max_iter=25)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = match(states, teacher, rows, len(rows))
        loss.backward()
        return loss

    first = closure().item()
    optimizer.step(closure)
    assert first > 0.5 and match(states, teacher, rows, len(rows)).item() < 1e-3


def test_a_teacher_may_have_rows_of_its_own() -> None:
    """Projections and states both get the gradient of the plain mean over pairs of layers."""
    torch.manual_seed(2)
    student = [torch.randn(1, 9, 6, requires_grad=True) for _ in range(3)]
    teacher = [torch.randn(14, 10) for _ in range(5)]
    match, ours = HiddenMatch(6, 10, layer_pairs(2, 4)), torch.arange(0, 9, 2)
    theirs = torch.tensor([13, 0, 4, 4, 7])
    loss = match(student, teacher, ours, 7.5, teacher_rows_M=theirs)
    total = torch.zeros(())
    for projection, (i, j) in zip(match.projections, [(1, 2), (2, 4)], strict=True):
        said, wanted = student[i][0, ours] @ projection.weight.T, teacher[j][theirs]
        total = total + (((said - wanted) ** 2).mean(1) / (wanted**2).mean(1)).sum() / 7.5 / 2
    compare(loss, total, student[1], student[2], *match.parameters())


def test_layers_are_spread_and_the_last_meets_the_last() -> None:
    assert layer_pairs(4, 12) == [(1, 3), (2, 6), (3, 9), (4, 12)]
    assert layer_pairs(3, 3) == [(1, 1), (2, 2), (3, 3)]
    assert layer_pairs(5, 32)[-1] == (5, 32)
