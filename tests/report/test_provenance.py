import shlex
from dataclasses import replace

import pytest
import yaml

from stratos.report import frontier, sweep_jobs
from tests.report import factory


def test_the_command_can_be_pasted(tmp_path):
    overrides = ["+task=mine", "cloud.regions=[us-east-1, eu-west-1]", "x='a b'"]
    factory.write_hydra(tmp_path, overrides)
    sources = [
        {"path": "hydra.conf", "provider": "hydra", "schema": "pkg"},
        {"path": "/home/me/my confs", "provider": "command-line", "schema": "file"},
    ]
    (tmp_path / ".hydra" / "hydra.yaml").write_text(
        yaml.safe_dump({"hydra": {"runtime": {"config_sources": sources}}})
    )
    assert shlex.split(frontier.command_again(tmp_path)) == [
        "python", "-m", "stratos", "--config-dir", "/home/me/my confs", *overrides
    ]  # fmt: skip


def test_what_was_not_kept_is_empty_and_what_is_corrupt_is_said(tmp_path):
    assert sweep_jobs.overrides_of(tmp_path) == ()
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text("a: b")
    with pytest.raises(ValueError, match="not a list of overrides"):
        sweep_jobs.overrides_of(tmp_path)
    (tmp_path / ".hydra" / "overrides.yaml").write_text("{[")
    with pytest.raises(ValueError, match="is not YAML"):
        sweep_jobs.overrides_of(tmp_path)


def test_versions_and_machine_are_named():
    assert {"python", "torch", "hydra-core"} <= set(sweep_jobs.versions())
    assert {"system", "processor", "cores"} <= set(sweep_jobs.machine())


def test_a_command_with_a_change_leaves_out_what_it_replaces(tmp_path):
    factory.write_hydra(
        tmp_path,
        ["+task=mine", "student=local", "student.path=/models/a", "trainer.max_tokens=5", "seed=3"],
    )
    command = frontier.command_again(
        tmp_path, {"student": "stratos_1m", "trainer.max_tokens": "10"}
    )
    assert shlex.split(command)[3:] == [
        "+task=mine", "seed=3", "student=stratos_1m", "trainer.max_tokens=10"
    ]  # fmt: skip


def test_a_plan_whose_model_has_no_name_has_no_command(tmp_path):
    factory.write_hydra(tmp_path, ["+task=mahjong"])
    plan = factory.make_plan()
    point = next(candidate for candidate in plan.frontier if candidate.student == plan.student)
    assert frontier.command_of_point(point, plan, tmp_path).endswith("+task=mahjong")
    named = replace(point, student="stratos_3m")
    command = frontier.command_of_point(named, plan, tmp_path)
    assert command.split()[-2:] == ["student=stratos_3m", "strategy=injection"]
    assert frontier.command_of_point(replace(point, student="of/a/path"), plan, tmp_path) == ""
