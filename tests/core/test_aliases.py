"""The names of other tools: what they are sent to is a key of ours, or a choice of a group."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hydra.types import RunMode

from stratos.cli.compose import hydra_for
from stratos.config import CloudConfig, ObjectiveConfig, StudentConfig, TrainerConfig
from stratos.core.typed import NAMES, hint, our_name
from stratos.synthesize.white_box import AlignmentOnPolicy

CLASSES = {
    "trainer": TrainerConfig,
    "strategy": AlignmentOnPolicy,
    "student": StudentConfig,
    "objective": ObjectiveConfig,
    "cloud": CloudConfig,
}
TABLE = [(group, *entry) for group, names in NAMES.items() for entry in names.items()]


@pytest.mark.parametrize(("group", "theirs", "ours"), TABLE)
def test_every_name_leads_to_a_key_of_ours(group: str, theirs: str, ours: str) -> None:
    fields = {field.name for field in dataclasses.fields(CLASSES[group])}
    assert theirs not in fields, "it is a key of ours itself"
    if " " not in ours:
        assert ours in fields
        assert our_name(group, theirs) == ours
        assert hint(group, theirs, "1", fields) == f" Here it is {ours}: type {group}.{ours}=1"
    else:
        assert our_name(group, theirs) == theirs
        assert hint(group, theirs, "1", fields) == f" {ours}"


def test_every_key_that_a_sentence_names_is_there() -> None:
    sentences = {ours for _, _, ours in TABLE if " " in ours}
    named = {key for said in sentences for key in re.findall(r"\w+(?:\.\w+)+|\w+(?==)", said)}
    assert {"trainer.max_tokens", "callbacks.validate_every_steps", "logger"} <= named
    with hydra_for(None) as hydra:
        composed = hydra.compose_config("config", ["student=stratos_1m"], RunMode.RUN, True)
        for key in named:
            node = composed
            for part in key.split("."):
                assert part in node, key
                node = node[part]
        choices = {pair for said in sentences for pair in re.findall(r"\b(\w+)=(\w+)", said)}
        choices = {(group, name) for group, name in choices if "." not in group}
        assert ("trainer", "qlora") in choices
        for group, name in choices - {("precision", "bf16")}:
            assert name in hydra.config_loader.get_group_options(group), (group, name)


def test_a_name_that_no_tool_has_is_no_hint() -> None:
    assert hint("trainer", "lr_moun", "1", ["lr_muon"]) == ""
    assert hint("cloud", "lr", "1", ["providers"]) == ""
    assert hint("strategy", "lambda", "1", ["candidates"]) == ""
    assert our_name("cloud", "lr") == "lr"
