"""What stages on rented servers send to this machine, and that a budget has room for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from world import World, context

from stratos.config import CloudConfig
from stratos.core.by_name import named
from stratos.estimate import card_of_student
from stratos.executors.here import Here
from stratos.executors.skypilot import SkyPilot
from stratos.ledger.reserves import planned_usd
from stratos.plan import plan
from stratos.plan.sent_back import SMALL_GB, sent_back_gb
from stratos.run.placing import planned_egress_usd, returns_of

AWS = CloudConfig(name="aws", providers=("aws",))


def test_weights_and_checkpoints_are_what_weighs(tmp_path: Path) -> None:
    config, probe = World(cloud=AWS).config(tmp_path), World(cloud=AWS).probe()
    record = plan(config, probe, context(tmp_path))
    n = card_of_student(named(config.students, record.student), config.task).n_params / 1e9
    assert sent_back_gb(config, None, "probe") == (SMALL_GB, 0.0)
    assert sent_back_gb(config, record, "evaluate") == (SMALL_GB, 0.0)
    assert sent_back_gb(config, record, "deploy") == (SMALL_GB + 4 * n, 0.0)
    # Trained and untouched weights, and a last checkpoint; then a checkpoint each time.
    assert sent_back_gb(config, record, "distill") == pytest.approx(
        (SMALL_GB + 8 * n + 16 * n, 16 * n)
    )
    corpus, _ = sent_back_gb(config, record, "synthesize")
    assert corpus == pytest.approx(SMALL_GB + 4e-9 * record.train_tokens)
    lora = replace(config, trainer=replace(config.trainer, adapter="lora"))
    assert sent_back_gb(lora, record, "distill")[1] < 16 * n


def test_it_is_held_of_the_budget_with_the_plan(tmp_path: Path) -> None:
    config, probe = World(cloud=AWS).config(tmp_path), World(cloud=AWS).probe()
    record = plan(config, probe, context(tmp_path))
    here = replace(config, executor=Here(stages=("distill", "evaluate")))
    assert planned_egress_usd(here, record) == 0
    there = replace(config, executor=SkyPilot(stages=("distill", "evaluate")))
    assert returns_of(there, "distill", record).usd_per_gb == 0.09
    held = planned_egress_usd(there, record)
    end, _ = sent_back_gb(config, record, "distill")
    assert held > 0.09 * (end + SMALL_GB)
    assert planned_usd(record, None, held)["egress"] == pytest.approx(record.egress_usd + held)
    free = replace(there, executor=SkyPilot(stages=("distill", "evaluate"), usd_per_gb=0.0))
    assert planned_egress_usd(free, record) == 0
