"""The divergences of a distillation objective (KL, JSD, skew KL, ULD), one entry each.

The config check, the training and the table in docs/distillation.md all read this table. To add a
divergence, add an entry here, its kernel in `kernels.py`, and the formula of its test.
Nothing here imports torch before a training does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stratos.core.errors import ConfigError, did_you_mean
from stratos.core.reasons import Reason
from stratos.distill.words import ParameterOutOfRange, UnknownParameter

if TYPE_CHECKING:
    from torch import Tensor

Kernel = Callable[..., "Tensor"]
"""Takes student's and teacher's logits, `Scratch` and the parameters (`kernels.py`)."""


@dataclass(frozen=True)
class Parameter:
    """A number that a divergence depends on."""

    name: str
    default: float
    low: float
    high: float


@dataclass(frozen=True)
class Divergence:
    """How far the student's distribution q of the next token is from the teacher's p."""

    name: str
    """What `strategy.objective` names it."""
    formula: str
    """What it is, for the docs."""
    source: str
    """Where it comes from, for the docs."""
    kernel: Callable[[], Kernel]
    """Returns the function that computes it and its gradient in place."""
    parameters: tuple[Parameter, ...] = ()
    """What the kernel takes by name."""
    limits: Mapping[tuple[str, float], str] = field(default_factory=dict)
    """A parameter and its value, to the divergence that is the limit there."""
    reads_any_vocabulary: bool = False
    """True if it compares distributions over unlike vocabularies. It needs the whole of the
    teacher's then: a part of it, as a cache or a server tells, is not enough."""
    reads_drawn_tokens: bool = False
    """True if tokens that are drawn from the teacher estimate it."""
    temperature_power: int = 2
    """Power of the temperature that gives its gradient the weight that it has at temperature 1."""
    cross_entropy: float = 0.0
    """Share of the cross-entropy on the text, unless `strategy.cross_entropy` says another."""

    def values(self, given: Mapping[str, float]) -> dict[str, float]:
        """Return its parameters; those that are not given have their defaults."""
        return {
            parameter.name: given.get(parameter.name, parameter.default)
            for parameter in self.parameters
        }

    def at(self, values: Mapping[str, float]) -> Divergence:
        """Return the divergence that it is at these values: itself, or a limit."""
        limit = next((self.limits[name] for name in values.items() if name in self.limits), None)
        return self if limit is None else DIVERGENCES[limit]


def _kernels() -> Any:
    from stratos.distill import kernels

    return kernels


_BETA = Parameter("beta", default=0.5, low=0, high=1)
"""The teacher's share of the mixture."""
_ALPHA = Parameter("alpha", default=0.1, low=0, high=1)
"""How much of the first distribution is mixed into the second."""

DIVERGENCES: dict[str, Divergence] = {
    each.name: each
    for each in (
        Divergence(
            "forward_kl",
            "KL(p ‖ q): mode-covering",
            "arXiv 1503.02531",
            lambda: _kernels().forward_kl_,
            reads_drawn_tokens=True,
        ),
        Divergence(
            "reverse_kl",
            "KL(q ‖ p): mode-seeking",
            "arXiv 2306.08543",
            lambda: _kernels().reverse_kl_,
        ),
        Divergence(
            "jsd",
            "β KL(p ‖ m) + (1 − β) KL(q ‖ m), m = βp + (1 − β)q",
            "GKD, arXiv 2306.13649",
            lambda: _kernels().jsd_,
            parameters=(_BETA,),
            limits={("beta", 0): "forward_kl", ("beta", 1): "reverse_kl"},
        ),
        Divergence(
            "skew_kl",
            "KL(p ‖ αp + (1 − α)q)",
            "DistiLLM, arXiv 2402.03898",
            lambda: _kernels().skew_kl_,
            parameters=(_ALPHA,),
            limits={("alpha", 0): "forward_kl"},
        ),
        Divergence(
            "skew_reverse_kl",
            "KL(q ‖ (1 − α)p + αq)",
            "the same",
            lambda: _kernels().skew_reverse_kl_,
            parameters=(_ALPHA,),
            limits={("alpha", 0): "reverse_kl"},
        ),
        Divergence(
            "universal_logit",
            "L1 distance of sorted probabilities, for different vocabularies",
            "ULD, arXiv 2402.12030",
            lambda: _kernels().universal_logit_,
            reads_any_vocabulary=True,
            # It is not quadratic in p - q: its gradient shrinks by one 1 / T only.
            temperature_power=1,
            # Sorted probabilities do not say which token is meant: the text does.
            cross_entropy=0.5,
        ),
    )
}
"""Name to divergence."""


def divergence(name: str) -> Divergence:
    """Return the divergence of a name.

    Raises:
        ConfigError: there is none.
    """
    if name not in DIVERGENCES:
        raise ConfigError(
            f"Unknown divergence: {name}.{did_you_mean(name, DIVERGENCES)}\n"
            f"Pick one of {', '.join(DIVERGENCES)}."
        )
    return DIVERGENCES[name]


def wrong_parameters(name: str, given: Mapping[str, float]) -> Reason | None:
    """Return what is wrong with parameters that are given to a divergence; None if nothing is."""
    known = {parameter.name: parameter for parameter in divergence(name).parameters}
    for key, value in given.items():
        if key not in known:
            return UnknownParameter(name, key, tuple(known))
        parameter = known[key]
        if not parameter.low <= value <= parameter.high:
            return ParameterOutOfRange(key, value, parameter.low, parameter.high)
    return None
