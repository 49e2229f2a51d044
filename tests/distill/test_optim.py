"""The optimizers beside torch's own: fewer calls a step, the same mathematics."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from stratos.distill.module import MuonAdamW, StackedMuon  # noqa: E402


def weights() -> list["torch.nn.Parameter"]:
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(8, 4)), torch.nn.Parameter(torch.randn(8))]


def step(optimizer: "torch.optim.Optimizer", params: list["torch.nn.Parameter"], n: int) -> None:
    for k in range(n):
        for place, param in enumerate(params):
            param.grad = torch.full_like(param, 0.1 * (k + place + 1))
        optimizer.step()


def of(params: list["torch.nn.Parameter"], with_muon: bool = False) -> MuonAdamW:
    return MuonAdamW(params[:1], params[1:], 0.01, 0.01, 0.1, with_muon)


def test_one_kernel_makes_the_same_steps_as_adamw():
    ours, plain = weights(), weights()
    optimizer = of(ours)
    assert all(group["fused"] for group in optimizer.param_groups)
    groups = [{"params": plain[1:], "weight_decay": 0.0}, {"params": plain[:1]}]
    reference = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.95), weight_decay=0.1)
    step(optimizer, ours, 5)
    step(reference, plain, 5)
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other)


def test_beside_muon_the_bits_stay_as_they_were():
    assert not any(group.get("fused") for group in of(weights(), with_muon=True).param_groups)


def test_what_goes_on_from_a_checkpoint_has_the_same_bits():
    whole, half = weights(), weights()
    optimizer, first = of(whole), of(half)
    step(optimizer, whole, 3)
    step(first, half, 3)
    second = of(half)
    second.load_state_dict(first.state_dict())
    step(optimizer, whole, 2)
    step(second, half, 2)
    assert all(torch.equal(one, other) for one, other in zip(whole, half, strict=True))


def matrices() -> list["torch.nn.Parameter"]:
    torch.manual_seed(0)
    shapes = [(16, 16), (32, 16), (16, 16), (16, 32), (32, 16), (600, 520)]
    return [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]


def test_matrices_of_one_shape_are_trained_as_torch_trains_each():
    """Wide, tall and large ones, and one that has no gradient."""
    ours, theirs = matrices(), matrices()
    settings: dict[str, Any] = {"lr": 0.02, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
    for optimizer, params in (
        (StackedMuon(ours, **settings), ours),
        (torch.optim.Muon(theirs, **settings), theirs),
    ):
        torch.manual_seed(1)
        for _ in range(5):
            for param in params[1:]:
                param.grad = torch.randn(param.shape)
            optimizer.step()
        states = [optimizer.state_dict()["state"].get(i, {}).keys() for i in range(len(params))]
        assert states == [set(), *5 * [{"momentum_buffer"}]]
    assert torch.equal(ours[0], matrices()[0])
    for one, other, before in zip(ours[1:], theirs[1:], matrices()[1:], strict=True):
        moved = (other - before).norm()
        assert (one - other).norm() < 0.01 * moved, "the iteration is in bfloat16"
