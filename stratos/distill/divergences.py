"""The divergences of a distillation objective (KL, JSD, skew KL, ULD), and its settings.

The config check, the training and the table in docs/distillation.md all read this table. To add a
divergence, add an entry here, its kernel in `kernels.py`, and the formula of its test. The settings
of the teacher's signal and of on-policy training follow. Nothing here imports torch before a
training does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from stratos.core.errors import ConfigError, did_you_mean
from stratos.core.reasons import Reason
from stratos.distill.words import (
    NotServed,
    ParameterOutOfRange,
    ServedTemperature,
    UnknownParameter,
)

if TYPE_CHECKING:
    from torch import Tensor

    from stratos.distill.objectives import Objective


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


@dataclass(frozen=True)
class SignalConfig:
    """What a strategy wants of a teacher's distribution, and what the training makes of it."""

    objective: str = "forward_kl"
    """Divergence; one that reads any vocabulary and `only_shared` allow another tokenizer."""
    beta: float = 0.5
    """For jsd: the teacher's share of the mixture."""
    alpha: float = 0.1
    """For the skew divergences: how much of one distribution is mixed into the other."""
    parameters: Mapping[str, float] = field(default_factory=dict)
    """Parameters of a divergence other than beta and alpha: name to value."""
    temperature: float = 1.0
    """Temperature of the objective, also used for sparse signals."""
    cross_entropy: float | None = None
    """Share of the cross-entropy on the text; the rest is the divergence. None takes 0, and 0.5 for
    universal_logit: sorted probabilities do not identify the token."""
    only_shared: bool = False
    """Compare a teacher with another tokenizer on the tokens that both vocabularies share."""
    hidden_match: float = 0.0
    """Weight of hidden-state matching (`HiddenMatch`); 0 turns it off."""
    cache: Literal["none", "topk", "sampled"] = "none"
    """Cache the teacher's top-k or sampled tokens, so that it is asked once."""
    top_k: int = 64
    """Tokens kept, or sampled, for each position."""
    cache_gib: float = 20.0
    """Maximum size of a cache, in GiB."""
    cache_dtype: Literal["float16", "float32"] = "float16"
    """Type of its log-probabilities."""
    cache_path: str | None = None
    """Folder or URL of an existing cache; no teacher is asked then."""
    cache_url: str | None = None
    """Folder or URL for new caches; None takes the shared cache folder."""

    def to_minimize(self) -> Objective:
        """Return what the training minimizes."""
        from stratos.distill.objectives import Objective

        share = self.cross_entropy
        if share is None:
            share = DIVERGENCES[self.objective].cross_entropy
        own = tuple(sorted(self.parameters.items()))
        return Objective(self.objective, self.beta, self.alpha, self.temperature, share, own)

    @property
    def reads_any_tokens(self) -> bool:
        """Whether distributions over different vocabularies are compared."""
        return DIVERGENCES[self.objective].reads_any_vocabulary or self.only_shared

    def beyond_servers(self) -> Reason | None:
        """Return why no served teacher can give it, or None."""
        if self.reads_any_tokens:
            return NotServed.WHOLE_DISTRIBUTION
        if self.hidden_match:
            return NotServed.HIDDEN_STATES
        return None if self.temperature == 1 else ServedTemperature(self.temperature)

    def check(self) -> None:
        """Refuse choices that exclude each other.

        Raises:
            ConfigError: they do.
        """
        if self.cache not in ("none", "topk", "sampled") or self.top_k < 1:
            raise ConfigError(
                f"strategy.cache={self.cache} strategy.top_k={self.top_k}: type strategy.cache="
                "topk, sampled or none, and strategy.top_k of at least 1."
            )
        is_cached = self.cache != "none" or self.cache_path is not None
        if is_cached and self.reads_any_tokens:
            raise ConfigError(
                f"strategy.cache={self.cache} keeps a part of the distribution in the student's "
                "tokens, and another tokenizer needs the whole of it: strategy.cache=none"
            )
        if is_cached and self.hidden_match:
            raise ConfigError(
                f"strategy.cache={self.cache} keeps the teacher's probabilities, not its hidden "
                "states: strategy.cache=none, or strategy.hidden_match=0"
            )
        if self.cache == "sampled" and not DIVERGENCES[self.objective].reads_drawn_tokens:
            raise ConfigError(
                f"Sampled tokens estimate the forward KL, not {self.objective}: "
                "strategy.objective=forward_kl, or strategy.cache=topk"
            )


@dataclass(frozen=True)
class OnPolicyConfig:
    """How a student learns from texts that it writes itself while it is trained."""

    share: float
    """Share of the gradient steps on the student's own texts: 0 is off-policy, 1 is fully
    on-policy."""
    buffer_steps: int = 4
    """Steps whose texts are sampled in one batch."""
    temperature: float = 1.0
    """Temperature of the student's sampling."""
    max_new_tokens: int | None = None
    """Maximum tokens of a text; None takes that of the longest training item."""
