"""The head without logits against a head with logits, in every setting that people train in."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objectives_functional import logits_loss
from objectives_textbook import compare, plain
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stratos.distill import head as module
from stratos.distill.divergences import DIVERGENCES
from stratos.distill.head import chunk_rows, head_loss
from stratos.distill.objectives import Dense, Hidden, LMHead, Objective, Sampled, Shared, TopK


def logits_of(hidden: Tensor, head: LMHead) -> Tensor:
    logits = hidden.flatten(0, -2) @ head.weight_VH.T
    logits = (logits if head.bias_V is None else logits + head.bias_V) * head.scale
    return logits if head.softcap is None else head.softcap * (logits / head.softcap).tanh()


@given(
    st.sampled_from(tuple(DIVERGENCES)),
    st.sampled_from([0.0, 0.4, 1.0]),
    st.sampled_from([1.0, 2.0]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([1, 3, 100]),
    st.tuples(st.integers(5, 40), st.integers(5, 40)),
    st.booleans(),
    st.integers(0, 10**6),
)
@settings(max_examples=120)
def test_equals_plain_autograd(name, mixture, temperature, kept, chunk, widths, extras, seed):
    torch.manual_seed(seed)
    hidden = torch.randn(2, 5, 6, requires_grad=True)
    weight = torch.randn(widths[0], 6, requires_grad=True)
    bias = torch.randn(widths[0], requires_grad=True) if extras else None
    head = LMHead(weight, bias, *((0.7, 4.0) if extras else ()))
    teacher_hidden, teacher = torch.randn(2, 5, 4), LMHead(torch.randn(widths[1], 4), softcap=9.0)
    targets, mask = torch.randint(min(widths), (10,)), torch.rand(10) < kept
    rows = mask.nonzero()[:, 0]
    objective = Objective(name, 0.3, 0.2, temperature, mixture)
    signal = Hidden(teacher_hidden, teacher, rows)
    loss = head_loss(hidden, head, signal, objective, 7, rows, targets[rows], chunk)
    logits, teacher_logits = logits_of(hidden, head), logits_of(teacher_hidden, teacher)
    expected = plain(objective, logits, teacher_logits, targets, mask, 7)
    leaves = [leaf for leaf in (hidden, weight, bias) if leaf is not None]
    compare(loss.total, expected, *leaves, scale=temperature**2)
    parts = objective.weigh(loss.divergence, loss.cross_entropy)
    torch.testing.assert_close(parts, expected.detach(), atol=1e-6 * temperature**2, rtol=1e-6)


SIGNALS = ["dense", "top_k", "sampled", "shared"]


@pytest.mark.parametrize("kind", SIGNALS)
@pytest.mark.parametrize("chunk", [2, None])
def test_given_signals_equal_the_function_of_logits(kind, chunk):
    torch.manual_seed(0)
    hidden = torch.randn(9, 6, requires_grad=True)
    weight = torch.randn(12, 6, requires_grad=True)
    logits, targets, rows = torch.randn(5, 12), torch.randint(12, (5,)), torch.arange(1, 9, 2)[:4]
    rows = torch.tensor([0, 3, 4, 7, 8])
    kept = logits.clone()
    signal: Any = {
        "dense": Dense(logits),
        "top_k": TopK.of(logits, 3, targets),
        "sampled": Sampled.of(logits, 4),
        "shared": Shared(Dense(logits), torch.arange(3), torch.arange(3) + 2),
    }[kind]
    objective = Objective(cross_entropy=0.25)
    loss = head_loss(hidden, LMHead(weight), signal, objective, 5, rows, targets, chunk)
    expected = logits_loss((hidden @ weight.T)[rows], signal, objective, 5, targets=targets)
    compare(loss.total, expected, hidden, weight)
    assert torch.equal(logits, kept), "the caller's logits were written over"


def test_cross_entropy_alone_needs_no_teacher():
    hidden = torch.randn(7, 6, requires_grad=True)
    weight = torch.randn(11, 6, requires_grad=True)
    targets = torch.randint(11, (7,))
    objective = Objective(cross_entropy=1.0)
    loss = head_loss(hidden, LMHead(weight), None, objective, 7, targets_M=targets, chunk=3)
    expected = nn.functional.cross_entropy(hidden @ weight.T, targets)
    compare(loss.total, expected, hidden, weight)


def test_a_frozen_head_costs_no_weight_gradient(monkeypatch):
    from stratos.distill import head as module

    def forbidden(*_: Any) -> None:
        raise AssertionError("a weight gradient was made for a frozen head")

    monkeypatch.setattr(module, "WeightGradient", forbidden)
    hidden, weight = torch.randn(4, 6, requires_grad=True), torch.randn(11, 6)
    signal = Dense(torch.randn(4, 11))
    loss = head_loss(hidden, LMHead(weight), signal, Objective(), 4)
    compare(loss.total, logits_loss(hidden @ weight.T, signal, Objective(), 4), hidden)
    with torch.no_grad():
        assert not head_loss(hidden, LMHead(weight), signal, Objective(), 4).total.requires_grad


def test_no_place_at_all_is_zero_with_zero_gradients():
    hidden = torch.randn(4, 6, requires_grad=True)
    weight = torch.randn(11, 6, requires_grad=True)
    rows = torch.zeros(0, dtype=torch.long)
    signal = Hidden(torch.randn(4, 3), LMHead(torch.randn(11, 3)), rows)
    loss = head_loss(hidden, LMHead(weight), signal, Objective("jsd"), 0, rows)
    loss.total.backward()
    assert loss.total.item() == 0
    assert hidden.grad is not None and not hidden.grad.any()
    assert weight.grad is not None and not weight.grad.any()


class Tied(nn.Module):
    """A body of one layer with tied embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.layer = nn.Embedding(13, 6), nn.Linear(6, 6)

    def body(self, tokens: Tensor) -> Tensor:
        return torch.tanh(self.layer(self.embedding(tokens)))


def gradients(model: nn.Module, *losses: Tensor) -> list[Tensor]:
    model.zero_grad()
    for loss in losses:
        loss.backward()
    return [parameter.grad.clone() for parameter in model.parameters()]  # type: ignore[union-attr]


def test_tied_embeddings_accumulation_and_checkpointing():
    torch.manual_seed(1)
    model, tokens = Tied(), torch.randint(13, (8,))
    signal, objective = torch.randn(8, 13), Objective("jsd", cross_entropy=0.5)
    targets = torch.randint(13, (8,))
    head = LMHead(model.embedding.weight)

    def ours(part: slice, body: Any = model.body) -> Tensor:
        states = body(tokens[part])
        return head_loss(
            states, head, Dense(signal[part]), objective, 8, targets_M=targets[part], chunk=3
        ).total

    logits = model.body(tokens) @ model.embedding.weight.T
    expected = gradients(model, plain(objective, logits, signal, targets, torch.ones(8).bool(), 8))
    both = slice(None)
    whole = gradients(model, ours(both))
    accumulated = gradients(model, ours(slice(0, 3)), ours(slice(3, 8)))

    def recomputed(part: Tensor) -> Any:
        return checkpoint(model.body, part, use_reentrant=False)

    checkpointed = gradients(model, ours(both, recomputed))
    # Lightning divides the loss of a micro-batch before it goes back.
    scaled = [gradient * 4 for gradient in gradients(model, ours(both) / 4)]
    inside = gradients(model, checkpoint(ours, both, use_reentrant=False))
    for found in (whole, accumulated, checkpointed, scaled, inside):
        for gradient, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(gradient, wanted, atol=1e-6, rtol=1e-5)


def test_a_second_backward_pass_is_refused():
    hidden = torch.randn(4, 6, requires_grad=True)
    loss = head_loss(hidden, LMHead(torch.randn(5, 6)), Dense(torch.randn(4, 5)), Objective(), 4)
    loss.total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="gone after one backward pass"):
        loss.total.backward()


@pytest.mark.parametrize("mode", ["bfloat16", "autocast"])
@pytest.mark.parametrize("chunk", [2, 1000])
def test_half_precision_is_as_good_as_autograds(mode, chunk):
    """The error against float64 is at most that of the same head with logits in half precision."""
    torch.manual_seed(2)
    dtype = torch.bfloat16 if mode == "bfloat16" else torch.float32
    n = 400
    shapes = (n, 8), (30, 8), (n, 8), (30, 8)
    exact = [torch.randn(*shape).bfloat16().double() for shape in shapes]
    objective = Objective("jsd")

    def error(kind: str) -> float:
        hidden, weight, other, teacher = (
            tensor.to(torch.float64 if kind == "exact" else dtype, copy=True) for tensor in exact
        )
        hidden.requires_grad_()
        weight.requires_grad_()
        with torch.autocast("cpu", enabled=mode == "autocast" and kind != "exact"):
            if kind == "ours":
                signal = Hidden(other, LMHead(teacher))
                loss = head_loss(hidden, LMHead(weight), signal, objective, n, chunk=chunk).total
            else:
                logits, given = hidden @ weight.T, other @ teacher.T
                mask, zeros = torch.ones(n).bool(), torch.zeros(n, dtype=torch.long)
                wide = torch.float64 if kind == "exact" else torch.float32
                loss = plain(objective, logits.to(wide), given.to(wide), zeros, mask, n)
        loss.backward()
        assert hidden.grad is not None and weight.grad is not None
        assert hidden.grad.dtype == hidden.dtype and weight.grad.dtype == weight.dtype
        found.append((hidden.grad.double(), weight.grad.double()))
        return sum(
            ((a - b).norm() / b.norm()).item() for a, b in zip(found[-1], found[0], strict=True)
        )

    found: list[tuple[Tensor, Tensor]] = []
    assert error("exact") == 0
    plain_error, our_error = error("plain"), error("ours")
    assert 0 < our_error < 1.3 * plain_error and plain_error < 0.05


def test_the_chunk_does_not_grow_with_the_batch():
    cpu = torch.device("cpu")
    for n_vocab in (300, 32_000, 152_000):
        sizes = {chunk_rows(n, n_vocab, cpu) for n in (10**4, 10**5, 10**6)}
        assert max(sizes) <= 1024 and max(sizes) * n_vocab <= max(2**23, 128 * n_vocab)
    assert chunk_rows(0, 50_000, cpu) == 1 and chunk_rows(300, 50_000, cpu) == 150


def test_memory_is_that_of_a_chunk():
    """The largest tensor of a pass over 600 places is a chunk's or the weight's gradient."""
    from torch.utils._python_dispatch import TorchDispatchMode

    largest = 0

    class TrainingMonitor(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                largest = max(largest, out.untyped_storage().nbytes() // 4)
            return out

    hidden = torch.randn(600, 4, requires_grad=True)
    weight = torch.randn(500, 4, requires_grad=True)
    signal = Hidden(torch.randn(600, 4), LMHead(torch.randn(500, 4)))
    with TrainingMonitor():
        head_loss(hidden, LMHead(weight), signal, Objective("jsd"), 600, chunk=20).total.backward()
    assert largest <= 20 * 500


@pytest.mark.parametrize("family", ["Llama", "Gemma2", "Cohere", "Granite"])
def test_the_heads_of_real_families(family):
    """Loss and every gradient equal those of the model's own logits: scale, soft cap, ties."""
    import transformers

    config = getattr(transformers, f"{family}Config")(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        tie_word_embeddings=True,
        pad_token_id=0,
    )
    for name, value in (("logit_scale", 0.3), ("logits_scaling", 1.7)):
        if hasattr(config, name):
            setattr(config, name, value)
    if hasattr(config, "final_logit_softcapping"):
        config.final_logit_softcapping = 0.5
    torch.manual_seed(3)
    model = getattr(transformers, f"{family}ForCausalLM")(config)
    tokens, teacher, objective = torch.randint(40, (2, 7)), torch.randn(14, 40), Objective("jsd")
    logits = model(input_ids=tokens).logits
    expected = gradients(model, logits_loss(logits, Dense(teacher), objective))
    states = model.get_decoder()(input_ids=tokens).last_hidden_state
    loss = head_loss(states, LMHead.of(model), Dense(teacher), objective, 14).total
    for gradient, wanted in zip(gradients(model, loss), expected, strict=True):
        torch.testing.assert_close(gradient, wanted, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(("width", "n_chunks"), [(2, 4), (8, 1)])
def test_half_precision_takes_no_chunks_where_they_take_more_memory(monkeypatch, width, n_chunks):
    """A sum in float32 over chunks of 2 rows takes more than 8 rows at once if the head is wide."""
    torch.manual_seed(0)
    monkeypatch.setattr(module, "CHUNK", 1)
    monkeypatch.setattr(module, "LEAST_ROWS", 2)
    seen: list[int] = []

    class Spy(module.WeightGradient):
        def __init__(self, *args: Any) -> None:
            seen.append(args[-1])
            super().__init__(*args)

    monkeypatch.setattr(module, "WeightGradient", Spy)
    for dtype, expected in ((torch.bfloat16, n_chunks), (torch.float32, 4)):
        weight = torch.randn(11, width, dtype=dtype, requires_grad=True)
        teacher = Hidden(torch.randn(8, width, dtype=dtype), LMHead(weight.detach().clone()))
        hidden = torch.randn(8, width, dtype=dtype, requires_grad=True)
        head_loss(
            hidden, LMHead(weight), teacher, Objective(), 8, kernel="stratos"
        ).total.backward()
        assert seen.pop() == expected
