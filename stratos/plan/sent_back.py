"""What a stage that runs on a rented server sends back to the machine of the command, at most."""

from __future__ import annotations

from stratos.config import Config
from stratos.core.by_name import named
from stratos.estimate import card_of_student
from stratos.estimate.memory import adapter_params
from stratos.plan.egress import BYTES_PER_TOKEN
from stratos.records import Plan

SMALL_GB = 0.01
"""What every stage sends: progress, logs, tokenizers, answers, charts."""
_BYTES_PER_PARAM = 4.0
"""Of the weights of a student, trained and untouched, and in its bundle: fp32."""
_BYTES_PER_TRAINED = 16.0
"""Of a parameter that is trained, in a checkpoint: fp32 weights, two moments, a moving average."""


def sent_back_gb(config: Config, plan: Plan | None, stage: str) -> tuple[float, float]:
    """Return GB (10^9 bytes) at the end of a stage, and each time that it is saved before.

    Args:
        config: of the run.
        plan: of the run; there is none before the probe.
        stage: its name.
    """
    if plan is None or stage in ("probe", "evaluate"):
        return SMALL_GB, 0.0
    if stage == "synthesize":
        return SMALL_GB + BYTES_PER_TOKEN * plan.train_tokens / 1e9, 0.0
    card = card_of_student(named(config.students, plan.student), config.task)
    weights = _BYTES_PER_PARAM * card.n_params / 1e9
    if stage == "deploy":
        return SMALL_GB + weights + _exports_gb(config, plan, card.n_params), 0.0
    trained = card.n_params if config.trainer.adapter == "none" else adapter_params(card)
    copy = _BYTES_PER_TRAINED * trained / 1e9
    return SMALL_GB + 2 * weights + copy, copy


def _exports_gb(config: Config, plan: Plan, n_params: float) -> float:
    """Return GB of the files that are made of a bundle for its engine, in every format."""
    engine = config.deploy.engine
    if engine is None:
        run = plan.role("serve").run
        known = {one.kind: one for one in config.deploy.engines.values()}
        if run is None or run.engine not in known:
            return 0.0
        engine = known[run.engine].as_planned(run)
    per_param = sum(engine.weight_format(name).weight_bytes for name in engine.exports)
    return per_param * n_params / 1e9
