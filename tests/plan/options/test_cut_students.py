"""`student.fit.vocabulary=auto`: a plan chooses between a pretrained student whole and cut."""

import re
from dataclasses import dataclass, replace

import pytest
from world import INJECTION, TASK, Tiles, World, runs

from stratos.catalog import load_catalog
from stratos.config import CloudConfig, FitConfig, LimitsConfig, StudentConfig
from stratos.core.errors import InfeasibleError
from stratos.estimate.cards import card_of_student, read_otherwise
from stratos.plan.accuracy.predict import of_cut
from stratos.plan.options.candidates import build_problem
from stratos.plan.solve.frontier import survivors
from stratos.plan.stage import solve
from stratos.records import Interval, Pilot, PilotPoint, PilotRun
from stratos.tasks.base import Item

AWS = CloudConfig(name="aws", providers=("aws",))
FACTS = {
    "n_params": 134_515_008,
    "n_layers": 30,
    "hidden_size": 576,
    "n_heads": 9,
    "n_kv_heads": 3,
    "intermediate_size": 1536,
    "vocab_size": 49152,
}
WHOLE, CUT = "smollm2_135m", "smollm2_135m_cut"
STUDENT = StudentConfig(
    WHOLE,
    path="HuggingFaceTB/SmolLM2-135M-Instruct",
    facts=FACTS,
    fit=FitConfig("auto"),
    runs=runs(0.9, 0.0, 0.0, "injection"),
)


@dataclass(frozen=True)
class Texts(Tiles):
    """Every fourth validation row has a word that no training row has."""

    def items(self, split, n, seed=0, slice=None):
        new = "otherwise" if split == "validation" else "card"
        asked = ["card", "bill", "fee", new]
        return [Item(str(i), "main", f"my {asked[i % 4]} is late", "late") for i in range(8)][:n]


def problem(limits=LimitsConfig(), pilot=None, **changes):  # noqa: B008
    student = replace(STUDENT, **changes)
    world = World(
        cloud=AWS, limits=limits, students=student.offered, strategies=(INJECTION,), task=Texts()
    )
    return build_problem(world.config(), world.probe(), load_catalog(AWS), pilot=pilot)


def by_student(found):
    return {candidate.student: candidate for candidate in found.candidates}


def test_both_are_offered_and_the_rest_is_the_same():
    whole, cut = STUDENT.offered
    assert (whole.name, whole.fit.share, cut.name, cut.fit.share) == (WHOLE, None, CUT, 0.0)
    assert cut.is_cut_of(whole) and not whole.is_cut_of(cut) and not cut.is_cut_of(cut)
    assert not replace(cut, path="another").is_cut_of(whole)
    for fit in (FitConfig(), FitConfig(True), FitConfig(0.5)):
        student = replace(STUDENT, fit=fit)
        assert student.offered == (student,)


def test_a_cut_student_is_predicted_as_the_whole_one_down_to_what_it_reads_otherwise():
    assert read_otherwise(Texts()) == 0.25
    pairs = by_student(problem())
    whole, cut = pairs[WHOLE].accuracy, pairs[CUT].accuracy
    assert whole.is_known and (cut.mean, cut.high) == (whole.mean, whole.high)
    assert cut.low == pytest.approx(whole.low - 0.25) and "25.0%" in cut.source
    unknown = Interval(0.0, 0.0, 1.0, is_known=False)
    assert of_cut(unknown, 0.25) == unknown and of_cut(whole, 0.0) == whole


def test_its_own_trainings_speak_before_those_of_the_whole_one():
    points = tuple(PilotPoint(n, a, 500, 10, 1.0, 1.0, 1.0) for n, a in ((4e6, 0.6), (8e6, 0.7)))
    pilot = Pilot(TASK, (PilotRun(CUT, "injection", "t", points, "", 0.0),), {}, 1.0, 1.0, 0.0)
    cut = by_student(problem(pilot=pilot))[CUT].accuracy
    assert cut.is_known and "pilot" in cut.source and "cut" not in cut.source


def test_a_pilot_trains_the_whole_one_alone_where_both_meet_the_limits():
    assert {pair.student for pair in survivors(problem(runs=())).candidates} == {WHOLE}
    small = survivors(problem(LimitsConfig(model_mb=500.0), runs=())).candidates
    assert {pair.student for pair in small} == {CUT}


def test_a_limit_on_megabytes_forces_the_cut(snapshot):
    whole, cut = (card_of_student(student, Texts()) for student in STUDENT.offered)
    sizes = [4 * card.n_params / 1e6 for card in (cut, whole)]
    assert sizes == [pytest.approx(428, abs=1), pytest.approx(538, abs=1)]
    accurate = replace(problem(LimitsConfig(accuracy=0.8)), limits=LimitsConfig(accuracy=0.8))
    assert solve(accurate).student == WHOLE, "the low end of the cut one is too low"
    forced = solve(problem(LimitsConfig(model_mb=500.0)))
    assert forced.student == CUT
    [brings] = [reason for reason in forced.reasons if reason.startswith("Cutting the vocabulary")]
    assert "538 MB → 428 MB" in brings and "No plan with the whole one meets" in brings
    assert re.sub(r"[\d.]+", "#", brings) == snapshot
    with pytest.raises(InfeasibleError) as error:
        solve(problem(LimitsConfig(model_mb=300.0)))
    typed = float(re.search(r"limits\.model_mb=([\d.]+)", str(error.value))[1])
    assert sizes[0] <= typed <= 1.01 * sizes[0]


def test_without_a_limit_the_plan_says_what_the_cut_brings():
    plan = solve(problem())
    [brings] = [reason for reason in plan.reasons if reason.startswith("Cutting the vocabulary")]
    assert "No plan" not in brings
    assert plan.student == CUT, "as accurate on average, and smaller"
