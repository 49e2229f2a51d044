"""Every objective against plain autograd, in value and gradient, in float32."""

import time
from itertools import pairwise
from typing import Any

import numpy as np
import objectives_functional as objectives
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objectives_textbook import KL, compare, plain, reference
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from stratos.core.errors import ConfigError
from stratos.distill.divergences import DIVERGENCES
from stratos.distill.head import head_loss, liger_fits, liger_is_better, liger_loss
from stratos.distill.module import HiddenMatch, hidden_match, layer_pairs
from stratos.distill.objectives import Dense, Hidden, LMHead, Objective, Sampled, Shared, TopK
from stratos.distill.signal.cross_tokenizer import common_starts, shared_tokens


@given(
    st.sampled_from(tuple(DIVERGENCES)),
    st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
    st.sampled_from([0.5, 1.0, 2.0, 5.0]),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([1, 3, 64]),
    st.tuples(st.integers(2, 60), st.integers(2, 60)),
    st.integers(0, 10**6),
)
@settings(max_examples=200)
def test_equals_plain_autograd(name, share, temperature, mixture, kept, block, widths, seed):
    torch.manual_seed(seed)
    alpha = min(share, 0.9)
    objective = Objective(name, share, alpha, temperature, mixture)
    student = (3 * torch.randn(7, widths[0])).requires_grad_()
    teacher = 3 * torch.randn(7, widths[1])
    targets = torch.randint(min(widths), (7,))
    mask = torch.rand(7) < kept
    ours = objectives.logits_loss(student, Dense(teacher), objective, 5, mask, targets, block)
    expected = plain(objective, student, teacher, targets, mask, 5)
    compare(ours, expected, student, scale=temperature**2)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_functions_take_batches_and_count_their_places(name):
    torch.manual_seed(1)
    student = (3 * torch.randn(2, 3, 11)).requires_grad_()
    teacher, mask = 3 * torch.randn(2, 3, 13), torch.tensor([[1, 0, 1], [1, 1, 0]]).bool()
    ours = objectives.divergence(name, student, teacher, mask=mask, temperature=2.0)
    objective, zeros = Objective(name, temperature=2.0), torch.zeros(6, dtype=torch.long)
    flat = (student.reshape(6, 11), teacher.reshape(6, 13))
    compare(ours, plain(objective, *flat, zeros, mask.reshape(6), 4), student)


def test_cross_entropy_equals_torch():
    student = torch.randn(2, 4, 9, requires_grad=True)
    targets = torch.randint(9, (2, 4))
    theirs = F.cross_entropy(student.flatten(0, 1), targets.flatten())
    compare(objectives.cross_entropy(student, targets), theirs, student)


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_place_at_all_is_zero_with_a_zero_gradient(name, dtype):
    student = torch.randn(3, 8, dtype=dtype, requires_grad=True)
    mask = torch.zeros(3, dtype=torch.bool)
    loss = objectives.divergence(name, student, torch.randn(3, 8), mask=mask, n_tokens=0)
    loss.backward()
    assert loss.item() == 0 and student.grad is not None and not student.grad.any()


@pytest.mark.parametrize("name", KL)
def test_zero_where_both_agree_and_never_below(name):
    torch.manual_seed(2)
    teacher = 20 * torch.randn(50, 400)
    student = (teacher + 5).requires_grad_()  # a shift changes no distribution
    loss = objectives.divergence(name, student, teacher)
    assert abs(loss.item()) < 1e-5
    assert objectives.divergence(name, 30 * torch.randn(50, 400), teacher).item() > 0.1


@pytest.mark.parametrize("name", DIVERGENCES)
def test_tokens_that_a_model_forbids_do_no_harm(name):
    torch.manual_seed(3)
    student, teacher = torch.randn(4, 12), torch.randn(4, 12)
    student[:, 10:] = teacher[:, 10:] = -torch.inf
    student.requires_grad_()
    loss = objectives.divergence(name, student, teacher)
    (gradient,) = torch.autograd.grad(loss, student)
    short = student.detach()[:, :10].requires_grad_()
    expected = objectives.divergence(name, short, teacher[:, :10])
    compare(expected, expected, short)
    torch.testing.assert_close(loss, expected)
    assert not gradient[:, 10:].any()
    torch.testing.assert_close(gradient[:, :10], torch.autograd.grad(expected, short)[0])


def test_the_mixtures_limits():
    """Divided by its vanishing share the divergence goes to the KL that the limit is defined as."""
    torch.manual_seed(4)
    student, teacher = torch.randn(5, 20).double(), torch.randn(5, 20).double()

    def value(**settings: Any) -> float:
        return reference(Objective("jsd", **settings), student, teacher).sum().item()

    small = 1e-5
    forward = objectives.divergence("jsd", student, teacher, 1, beta=0.0).item()
    reverse = objectives.divergence("jsd", student, teacher, 1, beta=1.0).item()
    assert value(beta=small) / small == pytest.approx(forward, rel=1e-3)
    assert value(beta=1 - small) / small == pytest.approx(reverse, rel=1e-3)
    assert forward == pytest.approx(
        objectives.divergence("forward_kl", student, teacher, 1).item(), rel=1e-6
    )
    assert reverse == pytest.approx(
        objectives.divergence("reverse_kl", student, teacher, 1).item(), rel=1e-6
    )


@pytest.mark.parametrize("name", KL)
def test_temperature_keeps_the_size_of_the_gradient(name):
    """T^2 makes the gradient at a high temperature go to a limit, not to 0."""
    torch.manual_seed(5)
    student, teacher = torch.randn(6, 30, requires_grad=True), torch.randn(6, 30)
    norms = []
    for hot in (50.0, 200.0):
        loss = objectives.divergence(name, student, teacher, temperature=hot)
        norms.append(torch.autograd.grad(loss, student)[0].norm().item())
    assert norms[0] == pytest.approx(norms[1], rel=0.05) and norms[1] > 1e-3


def test_micro_batches_add_up_to_the_batch():
    torch.manual_seed(6)
    student, teacher = torch.randn(9, 15, requires_grad=True), torch.randn(9, 15)
    whole = objectives.divergence("jsd", student, teacher, 9)
    parts = [
        objectives.divergence("jsd", student[a:b], teacher[a:b], 9) for a, b in ((0, 2), (2, 9))
    ]
    compare(parts[0] + parts[1], whole, student)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"divergence": "foward_kl"}, "Did you mean forward_kl"),
        ({"beta": 1.5}, "beta=1.5 is not between 0 and 1"),
        ({"temperature": 0.0}, "temperature=0.0 is not above 0"),
    ],
)
def test_values_out_of_range_are_refused(settings_, message):
    with pytest.raises(ConfigError, match=message):
        Objective(**settings_)


def test_signals_that_do_not_go_with_an_objective_are_refused():
    student = torch.zeros(1, 3)
    drawn = Sampled(torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1))
    top = TopK(torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1))
    for signal, name, words in (
        (drawn, "jsd", "Sampled tokens estimate the forward KL, not jsd"),
        (top, "universal_logit", "compares whole distributions"),
        (None, "forward_kl", "needs a teacher's signal"),
    ):
        with pytest.raises(ConfigError, match=words):
            objectives.logits_loss(student, signal, Objective(name))


# Unlike tokenizers, and hidden states with a learned projection.


def spans(cuts: list[int], end: int) -> list[tuple[int, int]]:
    edges = [0, *sorted(set(cuts)), end]
    return list(pairwise(edges))


@given(st.lists(st.integers(1, 19)), st.lists(st.integers(1, 19)))
@settings(max_examples=200)
def test_common_starts_are_all_places_with_one_text_before(a, b):
    student, teacher = spans(a, 20), spans(b, 20)
    ours, theirs = common_starts(student, teacher)
    assert [student[i][0] for i in ours] == [teacher[j][0] for j in theirs]
    assert {student[i][0] for i in ours} == {0, *(set(a) & set(b))}


def test_special_tokens_and_parts_of_characters_are_left_out():
    ours, theirs = common_starts([(0, 0), (0, 2), (2, 3), (2, 3), (3, 5)], [(0, 2), (2, 5), (5, 5)])
    assert ours.tolist() == [1, 2] and theirs.tolist() == [0, 1]
    empty = common_starts([], [(0, 1)])
    assert all(len(side) == 0 and side.dtype == np.int64 for side in empty)


def test_shared_tokens_go_by_text_not_by_spelling():
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
def test_hidden_match_equals_the_textbook(cosine):
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


def test_a_projection_learns_the_teachers_states():
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


def test_a_teacher_may_have_rows_of_its_own():
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


def test_layers_are_spread_and_the_last_meets_the_last():
    assert layer_pairs(4, 12) == [(1, 3), (2, 6), (3, 9), (4, 12)]
    assert layer_pairs(3, 3) == [(1, 1), (2, 2), (3, 3)]
    assert layer_pairs(5, 32)[-1] == (5, 32)


# Sparse signals: top-k with a tail bucket, sampled tokens, shared tokens of two vocabularies.


def buckets(logprobs: Tensor, ids: list[int]) -> Tensor:
    """Return the log-probabilities of these tokens and of all others together; (len + 1,)."""
    others = torch.ones_like(logprobs, dtype=torch.bool)
    others[ids] = False
    return torch.cat([logprobs[ids], logprobs[others].logsumexp(0, keepdim=True)])


@given(
    st.sampled_from(KL),
    st.integers(1, 8),
    st.booleans(),
    st.sampled_from([0.5, 1.0, 3.0]),
    st.sampled_from([1, 2, 64]),
    st.integers(0, 10**6),
)
@settings(max_examples=100)
def test_top_k_equals_buckets_in_plain_autograd(name, k, forced, hot, block, seed):
    torch.manual_seed(seed)
    objective = Objective(name, beta=0.3, temperature=hot)
    student = (2 * torch.randn(5, 20)).requires_grad_()
    teacher, targets = 2 * torch.randn(5, 20), torch.randint(20, (5,))
    signal = TopK.of(teacher, k, targets if forced else None, hot)
    mask = torch.rand(5) < 0.7
    ours = objectives.logits_loss(student, signal, objective, 3, mask, block=block)
    total = torch.zeros(())
    for row in range(5):
        ids = [id_ for id_ in signal.ids_MK[row].tolist() if id_ >= 0]
        assert not forced or targets[row] in ids
        assert len(ids) == len(set(ids))
        if mask[row]:
            log_q = buckets((student[row] / hot).log_softmax(0), ids)
            log_p = buckets((teacher[row] / hot).log_softmax(0), ids)
            one = Objective(name, beta=0.3)  # buckets are at the temperature already
            total = total + reference(one, log_q[None], log_p[None])[0] * hot**2 / 3
    if mask.any():
        compare(ours, total, student, scale=hot**2)


@pytest.mark.parametrize("name", KL)
def test_top_k_of_all_tokens_is_the_dense_divergence(name):
    torch.manual_seed(0)
    student = torch.randn(6, 14, requires_grad=True)
    teacher, objective = torch.randn(6, 14), Objective(name)
    compare(
        objectives.top_k(student, TopK.of(teacher, 14), objective=objective),
        objectives.logits_loss(student, Dense(teacher), objective),
        student,
    )


def test_top_k_is_not_renormalised():
    """A student that gives a token its true 0.5 is at the minimum; renormalised it would want 1."""
    teacher = torch.tensor([[0.5, 0.25, 0.25]]).log()
    student = teacher.clone().requires_grad_()
    loss = objectives.top_k(student, TopK.of(teacher, 1))
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == pytest.approx(0, abs=1e-6) and gradient.abs().max() < 1e-6


def test_empty_and_foreign_slots_hold_nothing():
    torch.manual_seed(1)
    student, teacher = torch.randn(2, 6, requires_grad=True), torch.randn(2, 6)
    full = TopK.of(teacher, 2)
    padded = TopK(
        torch.cat([torch.full((2, 1), -1), full.ids_MK, torch.full((2, 1), 9)], 1),
        torch.cat([torch.zeros(2, 1), full.logprobs_MK, torch.zeros(2, 1)], 1),
    )
    compare(objectives.top_k(student, padded), objectives.top_k(student, full), student)
    told = TopK(full.ids_MK, full.logprobs_MK)  # the tail is what is left to 1
    compare(objectives.top_k(student, told), objectives.top_k(student, full), student)
    nothing = TopK(torch.full((2, 1), -1), torch.zeros(2, 1))
    loss = objectives.top_k(student, nothing)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == pytest.approx(0, abs=1e-6) and gradient.abs().max() < 1e-6


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_sampled_tokens_are_an_unbiased_estimate(power):
    generator = torch.Generator().manual_seed(2)
    student = torch.randn(1, 12, generator=generator).requires_grad_()
    teacher = torch.randn(1, 12, generator=generator)
    exact = objectives.divergence("forward_kl", student, teacher)
    (expected,) = torch.autograd.grad(exact, student)
    n = 40_000
    many = student.expand(n, 12)
    signal = Sampled.of(teacher.expand(n, 12), 3, power=power, generator=generator)
    loss = objectives.sampled(many, signal)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == pytest.approx(exact.item(), abs=0.02)
    torch.testing.assert_close(gradient, expected, atol=0.01, rtol=0)
    top = objectives.top_k(student, TopK.of(teacher, 3))
    assert (torch.autograd.grad(top, student)[0] - expected).abs().max() > 0.01


def test_sampled_equals_plain_autograd():
    torch.manual_seed(3)
    student, teacher = torch.randn(4, 10, requires_grad=True), torch.randn(4, 10)
    signal = Sampled.of(teacher, 5, temperature=2.0)
    mask = torch.tensor([True, False, True, True])
    assert signal.logprobs_MS is not None
    for logprobs in (signal.logprobs_MS, None):  # without them: another value, the same gradient
        log_q = (student / 2).log_softmax(1).gather(1, signal.ids_MS)
        gap = -log_q if logprobs is None else logprobs - log_q
        total = (signal.weights_MS * gap).sum(1) * 4
        given = Sampled(signal.ids_MS, signal.weights_MS, logprobs)
        ours = objectives.sampled(student, given, 3, mask, temperature=2.0)
        compare(ours, total[mask].sum() / 3, student)


@pytest.mark.parametrize("name", KL)
def test_shared_tokens_equal_buckets_in_plain_autograd(name):
    torch.manual_seed(4)
    student, teacher = torch.randn(5, 9, requires_grad=True), torch.randn(5, 14)
    ours_K, theirs_K = torch.tensor([1, 4, 8]), torch.tensor([13, 0, 6])
    objective = Objective(name, temperature=1.5)
    signal = Shared(Dense(teacher), ours_K, theirs_K)
    total = torch.zeros(())
    for row in range(5):
        log_q = buckets((student[row] / 1.5).log_softmax(0), ours_K.tolist())
        log_p = buckets((teacher[row] / 1.5).log_softmax(0), theirs_K.tolist())
        total = total + reference(Objective(name), log_q[None], log_p[None])[0] * 1.5**2 / 5
    compare(objectives.logits_loss(student, signal, objective), total, student)


# Liger's kernel: taken only where it fits, equals ours, and is faster.


def test_a_cpu_never_takes_it():
    head = LMHead(torch.zeros(5, 2))
    assert not liger_fits(torch.zeros(3, 2), head, Hidden(torch.zeros(3, 2), head), Objective())


@pytest.mark.parametrize(
    ("slow", "wrong", "taken"),
    [("ours", 0.0, True), ("theirs", 0.0, False), ("ours", 0.01, False)],
)
def test_the_trial_takes_what_is_equal_and_faster(slow, wrong, taken):
    torch.manual_seed(0)
    hidden, weight = torch.randn(4, 6), torch.randn(9, 6, requires_grad=True)
    signal, objective = Dense(torch.randn(4, 9)), Objective()

    def run(name: str, error: float) -> object:
        def one(states: Tensor, head: LMHead) -> Tensor:
            if name == slow:
                time.sleep(0.1)
            return head_loss(states, head, signal, objective, 4).total * (1 + error)

        return one

    found = liger_is_better(
        (slow, wrong), hidden, LMHead(weight), run("ours", 0.0), run("theirs", wrong)
    )  # type: ignore[arg-type]
    assert found == taken


@pytest.mark.skipif(not torch.cuda.is_available(), reason="Liger's fused kernel needs a GPU")
@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "jsd"])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_equals_ours_on_a_gpu(name, temperature):
    pytest.importorskip("liger_kernel")
    torch.manual_seed(1)
    objective = Objective(name, beta=0.3, temperature=temperature)
    states, teacher = torch.randn(40, 64).cuda(), torch.randn(40, 32).cuda()
    weight, theirs = torch.randn(500, 64).cuda() / 8, LMHead(torch.randn(500, 32).cuda() / 6)
    rows = torch.arange(0, 40, 3).cuda()
    found = []
    for kernel in ("stratos", "liger"):
        hidden, own = states.clone().requires_grad_(), weight.clone().requires_grad_()
        signal = Hidden(teacher, theirs, rows)
        if kernel == "liger":
            assert liger_fits(hidden, LMHead(own), signal, objective)
            loss = liger_loss(hidden, LMHead(own), signal, objective, 20, rows)
        else:
            loss = head_loss(hidden, LMHead(own), signal, objective, 20, rows, kernel=kernel).total
        loss.backward()
        found.append((loss.detach(), hidden.grad, own.grad))
    for ours, other in zip(*found, strict=True):
        torch.testing.assert_close(ours, other, atol=1e-5, rtol=1e-4)
