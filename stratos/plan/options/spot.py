r"""Expected hours and dollars on spot, with interruptions.

Interruptions of one server are a Poisson process of rate μ; a job on n servers is interrupted when
any of them is, so at rate nμ. Work is saved every τ hours; an interruption loses what was done
since, and s hours pass until a new server has started and read the checkpoint, which may be
interrupted in turn. The expected time of a job of W hours is then (Daly 2006, "A higher order
estimate of the optimum checkpoint interval", equation 20, with the writing of a checkpoint in W)

    E[T] = W/τ · e^{nμs} · (e^{nμτ} - 1) / (nμ)

and dollars are E[T] times the spot price: the restart is paid, waiting for capacity is not. The
expected number of interruptions is nμ·E[T].
"""

from __future__ import annotations

from math import exp, expm1

INTERRUPTIONS_PER_HOUR = 0.1
"""μ of one server: the lowest hourly rate of preemption that Bamboo replays from recorded GPU
clusters (Thorpe et al., NSDI 2023: 10%, 16% and 33%). Assumption: clouds publish no such rate."""

CHECKPOINT_HOURS = 0.25
"""τ: a quarter of an hour of training between checkpoints; answers of a teacher are kept one by
one, so that for them it is an upper bound."""

RESTART_HOURS = 10 / 60
"""s: order, boot, packages and checkpoint of the next server."""


def spot_factor(n_servers: int = 1) -> float:
    """Return expected hours on spot over hours on demand, for a job on `n_servers`."""
    rate = INTERRUPTIONS_PER_HOUR * n_servers
    saved = rate * CHECKPOINT_HOURS
    return exp(rate * RESTART_HOURS) * expm1(saved) / saved
