"""What the comparison of a format with the evaluation shows, and what follows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tiny_run import tiny_context

from stratos.core.intervals import wilson
from stratos.core.pairs import difference_interval, mcnemar_exact
from stratos.deploy.card import with_exports
from stratos.deploy.engines.llamacpp import LlamaCpp
from stratos.deploy.exports import chosen_format
from stratos.evaluate.verdict import FormatVerdict, doubt, format_verdict
from stratos.records import Export, Exports, Interval


def export(lost: int, won: int, n: int, right: int, equal: int, form: str = "q8_0") -> Export:
    low, high = difference_interval(lost, won, n)
    loss = Interval(100 * (lost - won) / n, 100 * low, 100 * high)
    return Export(
        form, 10**6, n, equal, wilson(right - lost + won, n), wilson(right, n), loss,
        mcnemar_exact(lost, won), 10.0, 20.0, 5.0, 8, 90.0, max_loss_points=1.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("counts", "found"),
    [
        ((0, 0, 400, 380, 400), FormatVerdict.SHOWN),
        ((1, 0, 400, 380, 396), FormatVerdict.OPEN),
        ((6, 1, 400, 380, 380), FormatVerdict.OPEN),  # above the limit, and the interval holds 0
        ((8, 0, 400, 380, 380), FormatVerdict.LOSES),
        ((8, 0, 1000, 900, 980), FormatVerdict.OPEN),  # less than the limit, and surely some
        ((0, 0, 8, 8, 8), FormatVerdict.TEXTS),
        ((4, 0, 8, 8, 4), FormatVerdict.LOSES),
        ((0, 0, 400, 0, 17), FormatVerdict.TEXTS),
        ((2, 0, 400, 3, 17), FormatVerdict.TEXTS),
    ],
)
def test_the_interval_decides(counts, found):
    assert format_verdict(export(*counts), 1.0) is found


def test_what_is_open_is_said(snapshot):
    assert doubt(export(0, 0, 400, 380, 400), 1.0, 400, 400) == ""
    numbers = ((400, 2000), (400, 416), (500, 500), (400, 400))
    assert [doubt(export(1, 0, 400, 380, 396), 1.0, *some) for some in numbers] == snapshot
    assert doubt(export(0, 0, 400, 0, 400), 1.0, 400, 400) == "", "there is nothing to lose"
    assert doubt(export(0, 0, 400, 0, 17), 1.0, 400, 400) == snapshot(name="by text")
    rows = (
        export(0, 0, 400, 380, 400, "f32"), export(1, 0, 400, 380, 396), export(8, 0, 400, 380, 3),
        export(0, 0, 8, 8, 8), export(0, 0, 400, 0, 17),
    )  # fmt: skip
    card = with_exports("## Limits", Exports("llamacpp", "x 1", "Whole.", rows))
    for told in ("loses no more than 1", "not shown: up to 1.4", "loses more than 1",
                 "all texts are the same", "cannot be compared by accuracy"):  # fmt: skip
        assert f"] | {told} | " in card


def test_where_accuracy_cannot_tell_the_texts_choose(tmp_path, snapshot):
    engine = LlamaCpp(formats=("q8_0", "f32"), format="q8_0")
    small = export(0, 0, 400, 0, 17)
    whole = replace(export(0, 0, 400, 0, 400, "f32"), n_bytes=4 * 10**6)
    warned: list[str] = []
    context = tiny_context(tmp_path, warn=warned.append)

    def chosen(
        *formats: Export, may_change: bool = True, most_mb: float | None = None
    ) -> str | None:
        held = Exports("llamacpp", "x 1", "", formats)
        return chosen_format(engine, held, context, most_mb=most_mb, may_change=may_change)

    assert chosen(small, whole, may_change=False) == "q8_0" and not warned
    assert chosen(replace(small, n_equal=400), whole) == "q8_0" and not warned
    assert chosen(export(1, 0, 400, 380, 300), whole) == "q8_0" and not warned
    few = replace(whole, n_items=75, n_equal=75)
    assert chosen(export(1, 0, 75, 57, 73), few) == "q8_0" and not warned, "next to all are equal"
    assert chosen(small, whole, most_mb=2.0) == "q8_0" and not warned, "the other is too large"
    fitting = replace(small, n_bytes=10**5)
    engine = LlamaCpp(formats=("q8_0", "f32"), format="f32")
    assert chosen(whole, fitting, most_mb=1.0, may_change=False) == "f32", "which was asked for"
    engine = LlamaCpp(formats=("q8_0", "f32"), format="q8_0")
    assert chosen(small, whole) == "f32"
    assert warned == snapshot
