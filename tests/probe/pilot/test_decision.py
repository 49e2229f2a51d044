"""When a pilot is made by itself: where an unknown accuracy decides, and it takes little."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stratos import records
from stratos.catalog import load_catalog
from stratos.cli.compose import VERSION_BASE
from stratos.config import StudentConfig
from stratos.core.context import Context
from stratos.core.extensions import conf_dir
from stratos.estimate.fleet import Calibration
from stratos.ledger import Ledger
from stratos.pipeline import _wants_pilot
from stratos.plan.options.candidates import build_problem
from stratos.plan.solve.frontier import survivors
from stratos.probe.pilot import decision
from stratos.probe.pilot.decision import (
    LEAST_PART,
    TELLING_PART,
    Pace,
    afforded,
    cut_short_by_time,
    in_order,
    lengths_of,
    open_question,
)
from stratos.probe.pilot.stage import TIME_OVER
from stratos.records import Corpus, PilotPoint, PilotRun, Probe, Student

HERE = Calibration("here, 2 cores", 4e10, 1e10, 5e-6, "2026-11-26")
NEW = ("student.candidates.stratos_300k.runs=[]", "student.candidates.stratos_1m.runs=[]",
       "student.candidates.stratos_3m.runs=[]")  # fmt: skip
SHORT = ("trainer.max_tokens=40000",)


def config(run: Path, *argv: str) -> Any:
    from hydra import compose, initialize_config_dir

    from stratos.cli.build import build

    fixed = ("+task=mahjong", "cloud=aws", "logger=none", f"paths.run_dir={run}",
             f"paths.cache_dir={run / 'cache'}")  # fmt: skip
    with initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE):
        made = build(compose("config", [*fixed, *argv]))
    # Those that start from weights depend on what is on this machine.
    return replace(made, students=tuple(one for one in made.students if one.path is None))


def probe_of(run: Path) -> Probe:
    found = records.load(run / "probe.json", None, Probe)
    assert found is not None
    return found


def question(run: Path, *argv: str) -> str:
    now = config(run, *argv)
    problem = build_problem(now, probe_of(run), load_catalog(now.cloud))
    return open_question(problem, survivors(problem))


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        ((), False),
        (("plan.pilot=true",), True),
        (("plan.pilot=false", *NEW), False),
        (NEW, True),
        ((*NEW, "stages=[probe,plan]"), False),
        ((*NEW, "objective=cheapest"), False),
        ((*NEW, "objective=cheapest", "limits.accuracy=0.5"), True),
        (NEW[:2], False),
        ((*NEW[:2], "limits.accuracy=0.5"), True),
    ],
    ids=["known", "asked", "refused", "unknown", "dry run", "cheapest", "limit", "some", "limited"],
)
def test_before_any_offer_is_read_it_is_told_whether_one_may_be_needed(probed, argv, wanted):
    assert _wants_pilot(config(probed, *argv), probe_of(probed)) is wanted


def test_one_that_was_made_is_read_again_whatever_is_known_by_now(probed):
    assert _wants_pilot(config(probed), None) is False
    (probed / "pilot.json").write_text("{}")
    assert _wants_pilot(config(probed), None) is True
    assert _wants_pilot(config(probed, "plan.pilot=false"), None) is False


def test_what_is_known_leaves_nothing_open(probed):
    assert question(probed) == ""
    assert question(probed, "limits.accuracy=0.9") == ""
    assert question(probed, *NEW[:2]) == "", "what is known is preferred"
    assert question(probed, *NEW, "objective=lowest_latency") == ""


def test_an_unknown_order_and_a_limit_that_nothing_known_meets_are_open(probed, snapshot):
    limited = question(probed, *NEW[:2], "limits.accuracy=0.95")
    assert [question(probed, *NEW), limited] == snapshot
    assert question(probed, *NEW[:1], "limits.accuracy=0.9") == "", "another one surely meets it"


def fits(run: Path, *argv: str) -> tuple[Any, str]:
    now = config(run, *NEW, *argv)
    problem = build_problem(now, probe_of(run), load_catalog(now.cloud))
    pairs = survivors(problem).candidates
    return afforded(now, probe_of(run), problem, pairs, "it is open", HERE)


def test_a_short_training_is_tried_whole(probed):
    found, _ = fits(probed, *SHORT, "callbacks.n_validation_items=16")
    assert found is not None and found.n_trainings == 3
    assert set(found.parts.values()) == {1.0}
    assert found.usd == 0 and found.seconds < 180
    assert found.text.startswith("pilot: it is open. 3 short trainings ")
    assert found.text.endswith("; plan.pilot=false leaves them out.")


@pytest.mark.slow
def test_a_long_one_is_scaled_down_until_it_fits_or_left_out_with_what_it_would_take(probed):
    whole, _ = fits(probed, "plan.pilot_minutes=10000")
    less, _ = fits(probed, "plan.pilot_minutes=40")
    assert whole is not None and less is not None
    assert max(less.parts.values()) <= min(whole.parts.values()) == 1.0
    assert min(less.parts.values()) < 1.0
    assert less.seconds <= 40 * 60 < whole.seconds
    none, why = fits(probed, "plan.pilot_minutes=0.5")
    assert none is None
    assert "(0.5 min and $0.50: plan.pilot_minutes, " in why
    assert why.endswith("plan.pilot=true makes it.")


def test_limits_bound_it_by_their_share(probed):
    short = (*SHORT, "callbacks.n_validation_items=16")
    limits = ("limits.deadline_hours=1", "limits.budget_usd=7")
    assert fits(probed, *short, *limits)[0] is not None
    none, why = fits(probed, *short, *limits, "plan.pilot_share=0.002")
    assert none is None and "(0.12 min and $0.01: " in why


@pytest.mark.slow
def test_a_deadline_is_left_for_the_plan(probed):
    """A pilot that fitted its share left too few hours for any plan."""
    now = config(probed, *NEW, *SHORT, "limits.deadline_hours=20")
    problem = build_problem(now, probe_of(probed), load_catalog(now.cloud))
    left = survivors(problem)
    assert 0 < left.least_hours < 20

    def found(deadline: float, spent: float = 0.0) -> Any:
        limits = replace(now.limits, deadline_hours=deadline)
        return afforded(
            replace(now, limits=limits), probe_of(probed), replace(problem, spent_hours=spent),
            left.candidates, "it is open", HERE, left.least_hours,
        )[0]  # fmt: skip

    assert found(left.least_hours + 1.0) is not None
    assert found(left.least_hours + 1.0, spent=0.99) is None
    assert found(left.least_hours) is None


def test_a_paid_teacher_is_not_asked_for_more_than_the_share(probed):
    """The answers of the longest training are a part of what the plan would pay."""
    now = config(probed, *NEW, *SHORT, "callbacks.n_validation_items=16", "limits.budget_usd=10")
    problem = build_problem(now, probe_of(probed), load_catalog(now.cloud))
    pairs = survivors(problem).candidates
    work = pairs[0].work[0]

    def paying(usd: float) -> tuple[Any, str]:
        hosted = replace(problem.options[work][0], offer=None, usd=usd)
        dear = replace(problem, options={**problem.options, work: (hosted,)})
        return afforded(now, probe_of(probed), dear, pairs, "it is open", HERE)

    whole, less = paying(0.3)[0], paying(0.5)[0]
    assert whole is not None and less is not None
    assert (whole.usd, sorted(whole.parts.values())) == (pytest.approx(0.9), [1.0, 1.0, 1.0])
    assert (less.usd, sorted(less.parts.values())) == (pytest.approx(1.0), [0.5, 0.5, 1.0])
    none, why = paying(20.0)
    assert none is None and "and up to $1.25 for teachers" in why


@pytest.mark.slow
def test_the_most_expensive_is_shortened_first_and_left_out_where_it_does_not_fit(probed):
    """One slow student does not keep the others from being measured."""
    short = (*SHORT, "callbacks.n_validation_items=16")
    whole, _ = fits(probed, *short)
    assert whole is not None
    some, _ = fits(probed, *short, f"plan.pilot_minutes={0.85 * whole.seconds / 60}")
    assert some is not None and some.seconds <= some.limit_seconds
    assert not some.left_out and min(some.parts.values()) == TELLING_PART
    few, _ = fits(probed, *short, f"plan.pilot_minutes={0.6 * whole.seconds / 60}")
    assert few is not None and few.seconds <= few.limit_seconds
    assert list(few.left_out) == ["stratos_3m by injection"], "none is trained too briefly to tell"
    assert min(few.parts.values()) >= TELLING_PART
    assert "too long" in few.text and "plan.pilot=true" in next(iter(few.left_out.values()))


def test_the_others_make_way_for_what_starts_from_a_model(probed, monkeypatch):
    """Seen: 60 epochs of a small student, 0.7 of the pretrained one, which was far better."""

    def seconds(_: Any, probe: Any, machine: Any, pair: Any, tokens: int) -> float:
        whole = {"stratos_300k": 40.0, "stratos_1m": 60.0, "stratos_3m": 400.0}[pair.student]
        return whole * tokens / pair.train_tokens

    monkeypatch.setattr(decision, "_seconds", seconds)
    now = config(probed, *NEW, *SHORT)
    problem = build_problem(now, probe_of(probed), load_catalog(now.cloud))
    pairs = survivors(problem).candidates

    def taken(minutes: float, path: str | None) -> tuple[dict[str, float], list[str]]:
        students = tuple(
            replace(one, path=path) if one.name == "stratos_3m" else one for one in now.students
        )
        changed = replace(now, students=students, plan=replace(now.plan, pilot_minutes=minutes))
        found, _ = afforded(changed, probe_of(probed), problem, pairs, "it is open", HERE)
        assert found is not None
        parts = {name.split(" ")[2]: part for name, part in found.parts.items()}
        return parts, [name.split(" ")[0] for name in found.left_out]

    assert taken(2.2, "a/folder") == (
        {"stratos_300k": 0.25, "stratos_1m": 0.25, "stratos_3m": 0.25}, [])  # fmt: skip
    assert taken(2.0, "a/folder") == ({"stratos_300k": 0.25, "stratos_3m": 0.25}, ["stratos_1m"])
    assert taken(2.0, None) == ({"stratos_300k": 1.0, "stratos_1m": 1.0}, ["stratos_3m"])
    briefer, left_out = taken(1.5, "a/folder")
    assert briefer["stratos_3m"] < TELLING_PART and not left_out, "rather briefly than not at all"


def test_no_training_is_planned_that_is_too_short_to_be_made(probed):
    now = config(probed, *NEW)
    problem = build_problem(now, probe_of(probed), load_catalog(now.cloud))
    for pair in survivors(problem).candidates:
        for part in (1.0, 0.5, 0.25, LEAST_PART):
            found = lengths_of(now.task, now.plan, pair, part)
            assert found and min(found) >= int(LEAST_PART * min(pair.train_tokens, 4_000_000))


def test_what_starts_from_a_model_is_trained_right_behind_the_cheapest(probed):
    now = config(probed, *NEW)
    problem = build_problem(now, probe_of(probed), load_catalog(now.cloud))
    pairs = survivors(problem).candidates
    seconds = {"stratos_300k": 1.0, "stratos_1m": 2.0, "stratos_3m": 3.0}

    def order(students: Any) -> list[str]:
        changed = replace(now, students=students)
        ordered = in_order(
            changed.students, pairs[::-1], lambda pair, tokens: seconds[pair.student]
        )
        return [pair.student for pair in ordered]

    assert order(now.students) == list(seconds)
    from_model = tuple(
        replace(one, path="a/folder") if one.name == "stratos_3m" else one for one in now.students
    )
    assert order(from_model) == ["stratos_300k", "stratos_3m", "stratos_1m"]


def test_of_a_small_file_one_part_is_trained(probed, tmp_path):
    """A shorter training on as few rows would be no smaller copy of it."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'{{"question": "{n}+1", "answer": "{n + 1}"}}\n' for n in range(300)))
    now = config(probed, "task=jsonl", f"task.path={rows}", *NEW)
    pair: Any = SimpleNamespace(train_tokens=100_000, student="stratos_1m", strategy="supervised")
    assert lengths_of(now.task, now.plan, pair, 1.0) == (100_000,)
    assert lengths_of(now.task, now.plan, pair, 0.5) == (50_000,)
    assert lengths_of(now.task, now.plan, pair, 1 / 8) == (12_500,)


@pytest.mark.parametrize("slow", [1.0, 1.6])
def test_a_long_training_behind_short_ones_has_a_larger_part(slow):
    clock = [0.0]
    now = pace(100.0, lambda pair, tokens: tokens / 400, lambda: clock[0])
    assert now.tokens(None, 4000, 250, [(None, 32_000)]) == 4000
    clock[0] = slow * 10
    now.trained(None, 4000)
    assert now.tokens(None, 32_000, 2000) == {1.0: 32_000, 1.6: 16_000}[slow]


# --- the stage ------------------------------------------------------------------------------------

TINY = (
    "strategy=injection", "strategy.n_items=400", "trainer.n_threads=1", "trainer.precision=fp32",
    "callbacks.n_validation_items=4", "evaluate.max_new_tokens=8",
)  # fmt: skip
STUDENTS = tuple(
    StudentConfig(name, hidden_size=width, n_layers=2, n_heads=2, intermediate_size=64,
                  train_tokens=20_000)
    for name, width in (("a", 32), ("b", 64))
)  # fmt: skip


def run_stage(run: Path, *argv: str) -> tuple[Any, list[str]]:
    from stratos.probe.pilot import pilot

    said: list[str] = []
    context = Context(run, run / "cache", Ledger(run / "ledger.jsonl"), note=said.append)
    now = replace(config(run, *TINY, *argv), students=STUDENTS)
    return pilot(now, probe_of(run), context), said


@pytest.mark.slow
def test_it_is_announced_and_trains_what_is_unknown(probed):
    made, said = run_stage(probed)
    assert made is not None
    assert [(run.student, len(run.points)) for run in made.runs] == [("a", 1), ("b", 1)]
    assert made.runs[0].points[0].train_tokens >= 20_000
    assert said[0].startswith(f"pilot: {made.why}. 2 short trainings ")
    assert made.why.startswith("which of 2 pairs of student and strategy")


def test_where_it_would_take_too_long_nothing_is_trained_and_it_is_said(probed):
    made, said = run_stage(probed, "plan.pilot_minutes=0.01")
    assert made is None and not (probed / "pilot").exists()
    assert said[0].endswith("plan.pilot=true makes it.")


@pytest.mark.slow
def test_when_its_time_is_over_it_ends(probed, monkeypatch):
    monkeypatch.setattr(Pace, "seconds_left", property(lambda self: 0.0))
    made, _ = run_stage(probed)
    assert made is not None and made.runs == ()
    assert made.left_out == {f"{student} by injection": TIME_OVER for student in "ab"}


@pytest.mark.slow
def test_a_training_that_its_time_ends_is_measured(probed, monkeypatch):
    monkeypatch.setattr(Pace, "max_time", "00:00:00:01")
    made, _ = run_stage(probed, "trainer.max_tokens=2000000", "plan.pilot_minutes=100")
    assert made is not None and made.left_out == {}
    for run in made.runs:
        assert 0 < run.points[-1].train_tokens < 1_000_000
        assert run.points[-1].n_items > 0


CORPUS = Corpus("mahjong", "injection", "", 100, {}, {}, {}, 1.0, "c", 1.0, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("n_made", [2_500, 18_500])
def test_what_its_time_ended_counts_with_the_tokens_that_it_made(
    probed, tmp_path, monkeypatch, n_made
):
    """Seen: 75 of 75 right lay in the folder of a student that it "did not train"."""
    n_trained: list[int] = []

    def distill(config: Any, *_: Any) -> Student:
        n_trained.append(config.trainer.max_tokens)
        right = 1.0 if config.students[0].name == "a" else 0.0
        return Student(
            config.students[0].name,
            "",
            "",
            1,
            1,
            n_made,
            1,
            right,
            75,
            0,
            0,
            right,
            (),
            "",
            1.0,
            1.0,
        )

    monkeypatch.setattr("stratos.synthesize.synthesize", lambda *_: CORPUS)
    monkeypatch.setattr("stratos.distill.distill", distill)
    made, _ = run_stage(probed)
    assert made is not None and made.left_out == {}
    points = [point for run in made.runs for point in run.points]
    assert [(p.train_tokens, p.accuracy, p.n_items) for p in points] == [
        (n_made, 1.0, 75), (n_made, 0.0, 75),
    ]  # fmt: skip
    again, _ = run_stage(probed)
    assert again is not None and again.runs == made.runs and len(n_trained) == 2
    longer, _ = run_stage(probed, "plan.pilot_minutes=8")
    assert longer is not None and len(n_trained) == (4 if n_made < 18_000 else 2)


# --- a busy machine -------------------------------------------------------------------------------


def pace(seconds: float, estimate: Any, clock: Any) -> Any:
    return Pace(seconds, estimate, clock, slowness_now=lambda: 1.0)


def test_on_a_busy_machine_it_is_announced_with_what_it_takes_by_the_clock(probed):
    found, _ = fits(probed, *SHORT, "callbacks.n_validation_items=16")
    said = replace(found, seconds=60.0, slowness=2.5).text
    assert "in about 1.0 min (2.5 min beside the other work of this machine);" in said
    assert "beside" not in replace(found, slowness=1.2).text


def test_a_training_beside_other_work_has_as_much_of_its_own():
    now: Any = Pace(60.0, lambda pair, tokens: 1.0, lambda: 30.0, slowness_now=lambda: 2.5)
    assert now.max_time == "00:00:02:30", "60 s of its own"


@pytest.mark.parametrize(
    ("slow", "trained"), [(1.0, [8000, 8000, 8000]), (2.0, [8000, 2000, 2000]), (9.0, [8000])]
)
def test_on_a_busy_machine_the_later_trainings_are_shorter(slow, trained):
    """Three trainings of 8,000 tokens, 20 s each, have a minute between them."""
    clock = [0.0]
    now = pace(60.0, lambda pair, tokens: tokens / 400, lambda: clock[0])
    found = []
    for n_later in (2, 1, 0):
        tokens = now.tokens(None, 8000, 500, [(None, 8000)] * n_later)
        if tokens is None:
            continue
        found.append(tokens)
        clock[0] += slow * tokens / 400
        now.trained(None, tokens)
    assert found == trained
    assert clock[0] <= 60 or slow == 9.0, "the first one shows how busy the machine is"
    assert now.max_time == {1.0: "00:00:00:30", 2.0: "00:00:00:30", 9.0: "00:00:00:01"}[slow]


def test_where_its_part_is_too_short_an_earlier_training_goes_before_the_later_ones():
    now = pace(100.0, lambda pair, tokens: tokens / 100, lambda: 0.0)
    later = [(None, 5000), (None, 20_000)]
    assert now.tokens(None, 8000, 4000, later) == 4000, "40 of 100 s, and 24 are its part"
    assert now.tokens(None, 30_000, 11_000, later) is None, "110 s at least"
    assert now.tokens(None, 30_000, 11_000, later, may_wait=True) == 15_000, "150 s at most"
    assert now.tokens(None, 31_000, 15_400, later, may_wait=True) is None


def test_what_starts_from_a_model_is_shortened_later(probed, monkeypatch):
    """Whole trainings take 40, 40 and 60 s, of 126."""

    def seconds(_: Any, probe: Any, machine: Any, pair: Any, tokens: int) -> float:
        whole = 60.0 if pair.student == "stratos_3m" else 40.0
        return whole * tokens / pair.train_tokens

    monkeypatch.setattr(decision, "_seconds", seconds)

    def part_of_3m(path: str | None) -> float:
        now = config(probed, *NEW, *SHORT, "callbacks.n_validation_items=16")
        problem = build_problem(now, probe_of(probed), load_catalog(now.cloud))
        pairs = survivors(problem).candidates
        students = tuple(
            replace(one, path=path) if one.name == "stratos_3m" else one for one in now.students
        )
        probe = probe_of(probed)

        changed = replace(now, students=students, plan=replace(now.plan, pilot_minutes=2.1))
        found, _ = afforded(changed, probe, problem, pairs, "it is open", HERE)
        assert found is not None
        return next(part for name, part in found.parts.items() if "stratos_3m" in name)

    assert (part_of_3m(None), part_of_3m("a/folder")) == (0.5, 1.0)


def test_trainings_that_were_faster_than_expected_promise_nothing_for_the_next():
    clock = [0.0]
    now = pace(100.0, lambda pair, tokens: tokens / 100, lambda: clock[0])
    pair: Any = SimpleNamespace()
    now.trained(pair, 4000)
    clock[0] = 4.0  # ten times as fast
    assert now.slowness == 1.0
    assert now.tokens(pair, 10_000, 100) == 5000  # 100 s do not fit in 96 s, 50 s do
    clock[0] = 80.0
    assert now.slowness == 2.0


def test_a_pilot_says_whom_it_trained_too_briefly_and_whom_not_at_all(snapshot):
    """Seen: 63% of 313k tokens against 0% of 2.7k, and not a word that these do not compare."""

    def pair(student: str) -> Any:
        return SimpleNamespace(student=student, strategy="supervised", train_tokens=40_000)

    def run(student: str, tokens: int) -> PilotRun:
        point = PilotPoint(tokens, 0.5, 46, 188, 1.0, 1.0, 1.0)
        return PilotRun(student, "supervised", "smollm2", (point,), "", 0.0)

    small, large, other = (pair(name) for name in ("small", "large", "other"))
    whole, brief = run("small", 40_000), run("large", 2_665)
    assert cut_short_by_time([small], [whole]) == ""
    assert cut_short_by_time([small, large], [whole, run("large", 10_000)]) == ""
    brief_and_none = cut_short_by_time([small, large, other], [whole, brief])
    assert [brief_and_none, cut_short_by_time([small, large, other], [whole])] == snapshot
