"""Values become the types of their fields, with one message per mistake."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from msgspec import Meta

from stratos.cli.compose import hydra_for
from stratos.config import CloudConfig, StudentConfig, TrainerConfig
from stratos.core.values import (
    NAMES,
    find,
    hint,
    named,
    our_name,
    override,
    read_dataclass,
    read_value,
)
from stratos.synthesize.alignment import AlignmentOnPolicy

Amount = Annotated[float, Meta(ge=0)]


@dataclass(frozen=True)
class Inner:
    x: int


@dataclass(frozen=True)
class Outer:
    name: str
    inner: tuple[Inner, ...] = ()
    share: Annotated[float, Meta(ge=0, le=1)] = 0.5


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (1, float, 1.0),
        (2e7, int, 20_000_000),
        ("a", tuple[str, ...], ("a",)),
        (["a", "b"], tuple[str, ...], ("a", "b")),
        ([], tuple[str, ...], ()),
        (None, Amount | None, None),
        ({"a": 1}, dict[str, float], {"a": 1.0}),
        ("b", Literal["a", "b"], "b"),
    ],
)
def test_what_fits(value, kind, expected):
    problems: list[str] = []
    found = read_value(value, kind, "k", problems)
    assert (found, type(found), problems) == (expected, type(expected), [])


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        ("x", float, "k=x: expected a number."),
        (True, int, "k=true: expected a whole number."),
        (1.5, int | None, "k=1.5: expected a whole number or null."),
        (-1, Amount, "k=-1: expected a number of at least 0."),
        (math.nan, Amount, "k=nan: expected a number of at least 0, and a finite one."),
        (math.inf, float, "k=inf: expected a number, and a finite one."),
        (1e308, int, "k=1e+308: expected a whole number, and 1e+12 at most."),
        (
            10**18,
            Amount,
            "k=1000000000000000000: expected a number of at least 0, and 1e+12 at most.",
        ),
        (2, Annotated[float, Meta(ge=0, le=1)], "k=2: expected a number from 0 to 1."),
        (1.0, Annotated[float, Meta(ge=0, lt=1)], "k=1.0: expected a number from 0 to below 1."),
        (0, Annotated[float, Meta(gt=0, lt=1)], "k=0: expected a number above 0 and below 1."),
        (2, Annotated[float, Meta(gt=0, le=1)], "k=2: expected a number above 0 and up to 1."),
        (1, Annotated[int, Meta(lt=1)], "k=1: expected a whole number below 1."),
        (2, Annotated[int, Meta(le=1)], "k=2: expected a whole number up to 1."),
        ("a", Annotated[str, Meta(pattern="b", description="some b")], "k=a: expected some b."),
        (5, str, "k=5: expected text."),
        ("yes", bool, "k=yes: expected true or false."),
        ("c", Literal["a", "b"], "k=c: expected one of a, b."),
        (["a", 1], tuple[str, ...], "k[1]=1: expected text."),
        (None, tuple[str, ...], "k=null: expected a list."),
        ([1], dict[str, float], "k=[1]: expected a mapping."),
    ],
)
def test_what_does_not_fit(value, kind, message):
    problems: list[str] = []
    read_value(value, kind, "k", problems)
    assert problems == [message]


def test_every_misfit_of_a_dataclass_is_reported():
    problems: list[str] = []
    node = {"inner": [{"x": 1}, {"x": "a", "y": 2}], "shard": 0.1, "share": 7}
    assert read_dataclass(node, Outer, "o", problems) is None
    assert problems == [
        "o.inner[1].x=a: expected a whole number.",
        "o.inner[1].y: there is no such key. Known: x.",
        "o.shard: there is no such key. Did you mean share?",
        "o.share=7: expected a number from 0 to 1.",
        "o.name is required: give it with o.name=…",
    ]


def test_nested_dataclasses_are_made():
    problems: list[str] = []
    made = read_dataclass({"name": "n", "inner": [{"x": 1}]}, Outer, "o", problems)
    assert (made, problems) == (Outer("n", (Inner(1),)), [])


CLASSES = {
    "trainer": TrainerConfig,
    "strategy": AlignmentOnPolicy,
    "student": StudentConfig,
    "cloud": CloudConfig,
}
TABLE = [(group, *entry) for group, names in NAMES.items() for entry in names.items()]


@pytest.mark.parametrize(("group", "theirs", "ours"), TABLE)
def test_every_name_leads_to_a_key_of_ours(group, theirs, ours):
    fields = {field.name for field in dataclasses.fields(CLASSES[group])}
    assert theirs not in fields, "it is a key of ours itself"
    if " " not in ours:
        assert ours in fields
        assert our_name(group, theirs) == ours
        assert hint(group, theirs, "1", fields) == f" Here it is {ours}: type {group}.{ours}=1"
    else:
        assert our_name(group, theirs) == theirs
        assert hint(group, theirs, "1", fields) == f" {ours}"


def test_every_key_that_a_sentence_names_is_there():
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


def test_a_name_that_no_tool_has_is_no_hint():
    assert hint("trainer", "lr_moun", "1", ["lr_muon"]) == ""
    assert hint("cloud", "lr", "1", ["providers"]) == ""
    assert hint("strategy", "lambda", "1", ["candidates"]) == ""
    assert our_name("cloud", "lr") == "lr"


ONES = (StudentConfig("small"), StudentConfig("large"))


def test_what_has_the_name_is_found():
    assert find(ONES, "large") is ONES[1] and named(iter(ONES), "small") is ONES[0]


def test_what_is_not_there_is_none_or_an_error():
    assert find(ONES, "middle") is None
    with pytest.raises(KeyError, match="middle"):
        named(ONES, "middle")


@pytest.mark.parametrize("value", ["Prüftext", "日本", "a b", 'say "it"', "plain_1.csv"])
def test_any_text_is_an_override_that_hydra_reads(value):
    (read,) = OverridesParser.create().parse_overrides([override("task.question", value)])
    assert read.value() == value
