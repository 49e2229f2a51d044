"""Values against the types of dataclass fields, and what is said of each misfit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from msgspec import Meta

from stratos.core.typed import read_dataclass, read_value

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
def test_what_fits(value: object, kind: object, expected: object) -> None:
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
def test_what_does_not_fit(value: object, kind: object, message: str) -> None:
    problems: list[str] = []
    read_value(value, kind, "k", problems)
    assert problems == [message]


def test_every_misfit_of_a_dataclass_is_reported() -> None:
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


def test_nested_dataclasses_are_made() -> None:
    problems: list[str] = []
    made = read_dataclass({"name": "n", "inner": [{"x": 1}]}, Outer, "o", problems)
    assert (made, problems) == (Outer("n", (Inner(1),)), [])
