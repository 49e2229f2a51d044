"""A server that cannot be had: its region first, others where allowed, again after hours."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from in_process import Done, stratos

from stratos import pipeline
from stratos.config import CloudConfig, Config, LimitsConfig
from stratos.core.errors import CapacityError, InfeasibleError
from stratos.records import Plan
from stratos.run.runner import opened
from stratos.run.stage_job import HOURS, NAME, forget_old, refuse, without_refused
from stratos.run.stages import STAGES
from tests.report import factory

FIRST, SECOND = "aws/us-east-1/g4.xlarge", "aws/us-east-1/g5.xlarge"


def config_of(folder: Path, **cloud: tuple[str, ...]) -> Config:
    return factory.make_config(folder, cloud=CloudConfig(name="aws", providers=("aws",), **cloud))


def run(
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    *ends: Exception | float,
    plan: Plan | None = None,
) -> list[Config]:
    """Run a pipeline whose plans end so, one after the other; return the config of each."""
    configs, left = list[Config](), [*ends]

    def run_stages(run):
        configs.append(run.state.config)
        run.state.records["plan"] = plan
        end = left.pop(0)
        if isinstance(end, Exception):
            raise end
        return end

    monkeypatch.setattr(pipeline, "run_stages", run_stages)
    with opened(without_refused(config), STAGES) as runner:
        pipeline._with_servers_that_can_be_had(runner, config)
    return configs


def lacks(server: str) -> CapacityError:
    return CapacityError(f"distill: no capacity for {server}.", server)


def test_another_type_of_the_same_region_is_tried_before_another_region(
    tmp_path, monkeypatch, capsys
):
    config = config_of(tmp_path / "run")
    west = "aws/us-west-2/g4.xlarge"
    configs = run(
        config, monkeypatch,
        lacks(FIRST), lacks(SECOND), InfeasibleError("no plan"), lacks(west), 1.0,
    )  # fmt: skip
    places = [(each.cloud.regions, each.cloud.residency) for each in configs]
    here = (("us-east-1",), ())
    # Without a word of the user's, data do not leave the country.
    assert places == [((), ()), here, here, ((), ("us",)), (("us-west-2",), ())]
    assert configs[2].cloud.quotas == {FIRST: 0, SECOND: 0}
    assert configs[3].cloud.quotas == {FIRST: 0, SECOND: 0}, "other roles may stay there"
    assert configs[4].cloud.quotas == {west: 0}, "those of other regions limit nothing"
    assert configs[3].plain["cloud"]["residency"] == ["us"], "plans of both are two"
    said = " ".join("".join(capsys.readouterr()).split())
    assert "No other server of aws/us-east-1 does." in said and "data of the run move" in said
    again = without_refused(config)
    assert again.cloud == configs[-1].cloud


def test_another_region_is_what_the_user_allows(tmp_path, monkeypatch):
    for n, cloud in enumerate(({"regions": ("us-*",)}, {"residency": ("us", "eu")})):
        config = config_of(tmp_path / str(n), **cloud)
        *_, last = run(config, monkeypatch, lacks(FIRST), InfeasibleError("no plan"), 1.0)
        assert (last.cloud.regions, last.cloud.residency) == (
            config.cloud.regions, config.cloud.residency
        )  # fmt: skip


def test_where_no_other_region_does_either_that_is_the_error(tmp_path, monkeypatch):
    with pytest.raises(InfeasibleError, match="nowhere"):
        run(
            config_of(tmp_path / "run"), monkeypatch,
            lacks(FIRST), InfeasibleError("not here"), InfeasibleError("nowhere"),
        )  # fmt: skip


@pytest.mark.parametrize(("deadline_hours", "waits"), [(3.0, True), (2.0, False), (None, False)])
def test_a_deadline_that_leaves_time_waits_for_a_server(
    tmp_path, monkeypatch, deadline_hours, waits
):
    monkeypatch.setattr(pipeline, "WAIT_S", 0.05)
    empty: dict = dict.fromkeys(Plan.__dataclass_fields__)
    # 0.1 h were taken before it.
    plan = Plan(**empty | {"hours": 1.0, "hours_range": (0.5, 2.0), "spent_hours": 0.1})
    config = replace(
        config_of(tmp_path / "run"), limits=LimitsConfig(deadline_hours=deadline_hours)
    )
    ends = lacks(FIRST), InfeasibleError("not here"), InfeasibleError("nowhere"), 1.0
    if not waits:
        with pytest.raises(InfeasibleError, match="nowhere"):
            run(config, monkeypatch, *ends, plan=plan)
        return
    configs = run(config, monkeypatch, *ends, plan=plan)
    assert configs[-1].cloud == config.cloud, "what could not be had is tried again"


def test_a_server_is_tried_again_after_hours_unless_a_student_is_made(tmp_path, monkeypatch):
    config = config_of(tmp_path)
    run(config, monkeypatch, lacks(FIRST), lacks(SECOND), 1.0)
    path = tmp_path / NAME
    refused = msgspec.json.decode(path.read_bytes())
    refused[FIRST]["at"] = time.time() - HOURS * 3600 - 1
    path.write_bytes(msgspec.json.encode(refused))
    (tmp_path / "distill").mkdir()
    forget_old(tmp_path)
    assert without_refused(config).cloud.quotas == {FIRST: 0, SECOND: 0}
    (tmp_path / "distill").rmdir()
    forget_old(tmp_path)
    assert without_refused(config).cloud.quotas == {SECOND: 0}


def test_what_another_cloud_did_not_have_limits_nothing(tmp_path):
    config = config_of(tmp_path)
    refuse(tmp_path, lacks(FIRST))
    assert without_refused(config).cloud.quotas == {FIRST: 0}
    for name, providers in (("local", ("local",)), ("gcp", ("gcp",))):
        other = replace(config, cloud=CloudConfig(name=name, providers=providers))
        assert without_refused(other).cloud == other.cloud
    every = replace(config, cloud=CloudConfig(name="multi"))
    assert without_refused(every).cloud.quotas == {FIRST: 0}


def planned(run: Path, *words: str) -> Done:
    return stratos(
        "+task=mahjong", "cloud=aws", "cloud.regions=[us-east-1]", "stages=[plan]", "logger=none",
        "limits.deadline_hours=100", f"hydra.run.dir={run}", *words, cwd=run.parent,
        env={"STRATOS_CACHE": str(run.parent / "cache")},
    )  # fmt: skip


@pytest.mark.slow
def test_limits_that_no_server_meets_are_no_lack_of_servers(probed):
    refuse(probed, lacks(SECOND))
    refused = (probed / NAME).read_bytes()
    done = planned(probed, "limits.budget_usd=0.001")
    assert done.returncode == 1
    assert done.stderr.startswith("No plan") and "No other server" not in done.stdout
    assert (probed / NAME).read_bytes() == refused


@pytest.mark.slow
def test_where_a_refused_server_would_do_that_is_said(probed):
    refuse(probed, lacks("aws/us-east-1/*"))
    done = planned(probed)
    assert done.returncode == 1
    assert done.stderr.startswith("None of the ")
    said = " ".join(done.stdout.split())
    assert "No other server of aws/us-east-1 does." in said
    assert f"To try them again, delete {probed / NAME}." in said
