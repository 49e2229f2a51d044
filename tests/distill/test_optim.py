"""AdamW of a student that starts from a model: one kernel a step, the same mathematics."""

import pytest

torch = pytest.importorskip("torch")

from stratos.distill.optim import MuonAdamW  # noqa: E402


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


def test_one_kernel_makes_the_same_steps_as_adamw() -> None:
    ours, plain = weights(), weights()
    optimizer = of(ours)
    assert all(group["fused"] for group in optimizer.param_groups)
    groups = [{"params": plain[1:], "weight_decay": 0.0}, {"params": plain[:1]}]
    reference = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.95), weight_decay=0.1)
    step(optimizer, ours, 5)
    step(reference, plain, 5)
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other)


def test_beside_muon_the_bits_stay_as_they_were() -> None:
    assert not any(group.get("fused") for group in of(weights(), with_muon=True).param_groups)


def test_what_goes_on_from_a_checkpoint_has_the_same_bits() -> None:
    whole, half = weights(), weights()
    optimizer, first = of(whole), of(half)
    step(optimizer, whole, 3)
    step(first, half, 3)
    second = of(half)
    second.load_state_dict(first.state_dict())
    step(optimizer, whole, 2)
    step(second, half, 2)
    assert all(torch.equal(one, other) for one, other in zip(whole, half, strict=True))
