"""What stages on rented servers send to this machine, and that a budget has room for it."""

from dataclasses import replace

import pytest
from stub_executors import Rented
from world import World, context

from stratos.config import CloudConfig
from stratos.core.values import named
from stratos.deploy.engines.llamacpp import LlamaCpp
from stratos.deploy.engines.vllm import Vllm
from stratos.estimate.cards import card_of_student
from stratos.executors.here import Here
from stratos.ledger.reserves import planned_usd
from stratos.plan import plan
from stratos.plan.schedule import SMALL_GB, sent_back_gb
from stratos.records import ServingSetting
from stratos.run.stage_job import planned_egress_usd, returns_of

AWS = CloudConfig(name="aws", providers=("aws",))


def test_weights_and_checkpoints_are_what_weighs(tmp_path):
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


@pytest.mark.parametrize(
    ("engine", "planned", "bytes_per_param"),
    [
        (LlamaCpp(), "", 4 + 4 + 1.0625),
        (LlamaCpp(formats=("f32", "f16", "q8_0", "q4_k_m")), "", 4 + 4 + 2 + 1.0625 + 0.61),
        (None, "f16", 4 + 2 + 4),
        (None, "q8_0", 4 + 1.0625 + 4),
        (None, "f32", 4 + 4),
        (Vllm(), "", 4),
    ],
)
def test_each_format_that_deploy_makes_weighs(tmp_path, engine, planned, bytes_per_param):
    config, probe = World(cloud=AWS).config(tmp_path), World(cloud=AWS).probe()
    record = plan(config, probe, context(tmp_path))
    if planned:
        run = ServingSetting("llamacpp", format=planned)
        roles = [replace(one, run=run) if one.role == "serve" else one for one in record.roles]
        record = replace(record, roles=tuple(roles))
    deploy = replace(config.deploy, engine=engine, engines={"llamacpp": LlamaCpp()})
    n = card_of_student(named(config.students, record.student), config.task).n_params / 1e9
    gb, _ = sent_back_gb(replace(config, deploy=deploy), record, "deploy")
    assert gb == pytest.approx(SMALL_GB + bytes_per_param * n)


def test_it_is_held_of_the_budget_with_the_plan(tmp_path):
    config, probe = World(cloud=AWS).config(tmp_path), World(cloud=AWS).probe()
    record = plan(config, probe, context(tmp_path))
    here = replace(config, executor=Here(stages=("distill", "evaluate")))
    assert planned_egress_usd(here, record) == 0
    there = replace(config, executor=Rented(stages=("distill", "evaluate")))
    assert returns_of(there, "distill", record).usd_per_gb == 0.09
    held = planned_egress_usd(there, record)
    end, _ = sent_back_gb(config, record, "distill")
    assert held > 0.09 * (end + SMALL_GB)
    assert planned_usd(record, None, held)["egress"] == pytest.approx(record.egress_usd + held)
    free = replace(there, executor=Rented(stages=("distill", "evaluate"), usd_per_gb=0.0))
    assert planned_egress_usd(free, record) == 0
