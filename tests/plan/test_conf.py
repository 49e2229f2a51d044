"""The YAML files of cloud, limits and objective against their schemas."""

from dataclasses import fields

import msgspec
import pytest
from hydra.types import RunMode
from omegaconf import OmegaConf

from stratos.catalog import load_catalog
from stratos.cli.compose import hydra_for
from stratos.config import CloudConfig, LimitsConfig, ObjectiveConfig
from stratos.core.extensions import conf_dir

SCHEMAS = {"cloud": CloudConfig, "limits": LimitsConfig, "objective": ObjectiveConfig}
FILES = [(group, file) for group in SCHEMAS for file in sorted((conf_dir() / group).glob("*.yaml"))]


@pytest.mark.parametrize(("group", "file"), FILES, ids=lambda value: getattr(value, "stem", value))
def test_a_choice_says_every_field_in_its_type(group, file):
    with hydra_for(None) as hydra:
        composed = hydra.compose_config("config", [f"{group}={file.stem}"], RunMode.RUN, False)
        plain = OmegaConf.to_container(composed[group], resolve=True)
    assert set(plain) == {field.name for field in fields(SCHEMAS[group])}
    if group == "cloud":
        assert plain.pop("quotas") is None, "null leaves the default: none"
    config = msgspec.convert(plain, SCHEMAS[group])
    if group != "limits":
        assert config.name == file.stem
    if group == "cloud" and "://" not in str(config.catalog):
        assert load_catalog(config).offers


@pytest.mark.parametrize(("group", "file"), FILES, ids=lambda value: getattr(value, "stem", value))
def test_a_choice_opens_with_what_it_is_and_its_command(group, file):
    comment = [line for line in file.read_text().splitlines() if line.startswith("#")]
    assert len(comment) >= 2
    assert f"{group}={file.stem}" in comment[-1]
    assert "python -m stratos +task=mahjong" in comment[-1]


def test_every_choice_of_the_design_is_there():
    names = {group: {f.stem for g, f in FILES if g == group} for group in SCHEMAS}
    assert {"aws", "azure", "gcp", "lambda", "local", "multi", "runpod"} <= names["cloud"]
    objectives = {"balanced", "cheapest", "fastest", "lowest_latency", "most_accurate"}
    assert objectives <= names["objective"]
    assert {"none", "laptop", "tight"} <= names["limits"]
