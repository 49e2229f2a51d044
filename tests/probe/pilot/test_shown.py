"""What a user sees of a pilot: its line, its time among the costs, its part of the page."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from stratos.records import Pilot, PilotPoint, PilotRun
from stratos.report.costs import cost_rows
from stratos.report.run_page import write_run_page
from stratos.run.screen import lines_of

POINTS = tuple(
    PilotPoint(250_000 * 2**i, accuracy, 128, 2_000 * 2**i, 60.0, 60.0, 60.0)
    for i, accuracy in enumerate((0.01, 0.1, 0.4))
)
PILOT = Pilot(
    task="mahjong",
    runs=(PilotRun("llama-1m", "injection", "smollm2", POINTS, "pilot/x", usd=0.02),),
    left_out={"big by injection": "no plan with it <meets> the limits"},
    seconds=360.0,
    cpu_seconds=180.0,
    usd=0.02,
)


@pytest.fixture(scope="module")
def factory() -> ModuleType:
    """Records of a realistic run, as the tests of the report have them."""
    path = Path(__file__).parents[2] / "report" / "factory.py"
    spec = importlib.util.spec_from_file_location("pilot_report_factory", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_its_line_says_how_far_each_pair_came(snapshot):
    nobody = Pilot("mahjong", (), {"a by injection": "no plan meets the limits"}, 1.0, 0.0, 0.0)
    assert [line.text for pilot in (PILOT, nobody) for line in lines_of(pilot)] == snapshot


def test_its_hours_are_training_at_the_price_of_the_plan(factory):
    plan = factory.make_plan()
    row = next(row for row in cost_rows(plan, {"pilot": PILOT}) if row.role == "train")
    server = plan.role("train").offer
    assert row.stages == ("pilot",) and row.measured_hours == pytest.approx(0.1)
    price = server.usd_per_hour_spot if plan.role("train").spot else server.usd_per_hour
    assert row.measured_usd == pytest.approx(0.1 * price * plan.role("train").count)


def test_the_page_shows_its_curve_and_who_was_left_out(factory, tmp_path):
    made = factory.make_records(tmp_path)
    config, context = factory.make_config(tmp_path), factory.make_context(tmp_path)
    write_run_page(config, made, context)
    assert 'id="pilot"' not in (tmp_path / "report.html").read_text()
    write_run_page(config, {**made, "pilot": PILOT}, context)
    page = (tmp_path / "report.html").read_text()
    part = page[page.index('<section id="pilot">') :]
    part = part[: part.index("</section>")]
    for words in ("250k", "500k", "40.0%", "8,000", "$0.020", "no plan with it &lt;meets&gt;"):
        assert words in part, words
