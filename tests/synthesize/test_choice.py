"""Which strategies may be taken: both sides of every threshold, and what is declared instead."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stratos.config import ComplexityConfig
from stratos.core.intervals import n_above, wilson
from stratos.records import ModelCard, TeacherProbe
from stratos.synthesize.alignment import Alignment, AlignmentLogits, AlignmentOnPolicy
from stratos.synthesize.choice import Reason, StudentFacts, Verdict, least_coverage, pick, straddles
from stratos.synthesize.injection import Injection
from stratos.synthesize.pseudo_labels import PseudoLabels
from stratos.synthesize.strategy import Strategy
from stratos.synthesize.supervised import Supervised

CARD = ModelCard("wise", 1_000_000, 2, 64, 2, 2, 128, 49152, 2048)
ALL = (
    Alignment(),
    AlignmentLogits(min_coverage=0.5),
    AlignmentOnPolicy(min_coverage=0.6),
    Injection(),
)
FRESH, GROWN = StudentFacts("fresh", False, 1024), StudentFacts("grown", True, 49152)


def teacher(
    right: int, has_weights: bool = True, entropy_nats: float | None = None, prompt: str = "default"
) -> TeacherProbe:
    """Return what a probe found that asked 100 items."""
    return TeacherProbe(
        teacher="wise", card=CARD, prompt=prompt, n_items=100, exact=wilson(right, 100),
        choice=wilson(0, 0), exact_by_slice={}, parsable=1.0, echoes=0.0, input_tokens=1,
        output_tokens=1, seconds=1.0, cpu_seconds=1.0, usd=0.0, n_cached=0,
        has_weights=has_weights, entropy_nats=entropy_nats,
    )  # fmt: skip


def verdicts(
    right, student_facts=GROWN, strategies=ALL, can_reverse=True, declared=None, rows=None, **probed
):
    """Return strategy to verdict; `rows` is what is known of a file's rows."""
    return pick(
        strategies, teacher(right, **probed), student_facts, declared or ComplexityConfig(),
        task="sums", can_reverse=can_reverse, **(rows or {}),
    )  # fmt: skip


def names_taken(*args, **changes):
    return [name for name, verdict in verdicts(*args, **changes).items() if verdict.is_taken]


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        (0, []),
        (29, []),
        (30, ["alignment"]),
        (49, ["alignment"]),
        (50, ["alignment_logits"]),
        (100, ["alignment_logits"]),
    ],
)
def test_both_sides_of_each_coverage(right, expected):
    assert names_taken(right, can_reverse=False) == expected
    assert names_taken(right, strategies=ALL[:3]) == expected, "no injection is considered"


@pytest.mark.parametrize(
    ("right", "signals"),
    [(0, []), (70, []), (78, []), (79, ["alignment_logits"]), (100, ["alignment_logits"])],
)
def test_both_sides_of_the_coverage_that_counts_beside_injection(right, signals):
    """The low end of the interval of 79 of 100 is 70.0%."""
    assert names_taken(right) == [*signals, "injection"]
    assert names_taken(right, strategies=(ALL[0], ALL[3])) == [
        *("alignment" for _ in signals),
        "injection",
    ]


def test_both_sides_of_the_coverage_of_on_policy():
    without_logits = (ALL[0], ALL[2])
    assert names_taken(59, strategies=without_logits) == ["alignment"]
    assert names_taken(60, strategies=without_logits) == ["alignment_on_policy"]


def test_thresholds_are_those_of_the_config():
    strict = (Alignment(min_coverage=0.8), Injection())
    assert names_taken(79, strategies=strict) == ["injection"]
    assert names_taken(80, strategies=strict) == ["alignment", "injection"]
    assert least_coverage(strict[0], can_inject=True) == 0.8
    assert least_coverage(Alignment(), can_inject=True) == 0.7
    assert least_coverage(Alignment(), can_inject=False) == 0.3
    assert least_coverage(strict[1], can_inject=True) is None
    lax = (Alignment(min_coverage_beside_injection=0.0), Injection())
    assert names_taken(29, strategies=lax) == ["injection"]
    assert names_taken(30, strategies=lax) == ["alignment", "injection"]


def test_what_a_strategy_needs_beside_coverage():
    assert names_taken(90, has_weights=False) == ["alignment", "injection"]
    assert names_taken(90, FRESH) == ["alignment", "injection"]
    assert names_taken(90, replace(GROWN, vocab_size=32000)) == ["alignment", "injection"]
    any_tokens = (Alignment(), AlignmentLogits(objective="universal_logit"))
    assert names_taken(90, FRESH, strategies=any_tokens) == ["alignment_logits"]
    on_policy = (*any_tokens, AlignmentOnPolicy(objective="universal_logit"))
    assert names_taken(90, FRESH, strategies=on_policy) == ["alignment_logits"]
    assert names_taken(90, GROWN, strategies=on_policy) == ["alignment_logits"]
    alone = (Alignment(), on_policy[-1])
    assert names_taken(90, FRESH, strategies=alone) == ["alignment"]
    assert names_taken(90, GROWN, strategies=alone) == ["alignment_on_policy"]
    assert names_taken(90, can_reverse=False) == ["alignment_logits"]
    assert names_taken(10, can_reverse=False) == []


def test_a_student_of_the_task_s_own_symbols_reads_what_another_one_says():
    of_symbols = replace(FRESH, vocab_size=CARD.vocab_size, reads_symbols=True)
    assert names_taken(90, of_symbols) == ["alignment_logits", "injection"]
    assert names_taken(90, replace(of_symbols, vocab_size=1024)) == ["alignment", "injection"]


def test_a_student_without_symbols_takes_the_tokenizer_of_a_teacher_that_fits():
    roomy = replace(FRESH, vocab_size=CARD.vocab_size, takes_tokenizer=True)
    assert names_taken(90, roomy) == ["alignment_logits", "injection"]
    assert names_taken(90, replace(roomy, vocab_size=1024)) == ["alignment", "injection"]


def test_a_certain_teacher_is_learnt_from_by_its_text(snapshot):
    assert names_taken(90, entropy_nats=0.051) == ["alignment_logits", "injection"]
    assert names_taken(90, entropy_nats=0.05) == ["alignment_logits", "injection"]
    assert names_taken(90, entropy_nats=0.049) == ["alignment", "injection"]
    certain = verdicts(90, entropy_nats=0.0123)["alignment_logits"]
    assert certain.why_not is Reason.CERTAIN
    assert (certain.reason, certain.evidence) == snapshot
    willing = (Alignment(), AlignmentLogits(min_entropy_nats=0.01))
    assert names_taken(90, strategies=willing, entropy_nats=0.0123) == ["alignment_logits"]
    assert names_taken(90, strategies=(AlignmentLogits(),), entropy_nats=0.0) == [
        "alignment_logits"
    ]


def test_a_strategy_that_was_asked_for_alone_is_not_second_guessed():
    assert names_taken(90, FRESH, strategies=(AlignmentLogits(),)) == ["alignment_logits"]
    assert names_taken(90, has_weights=False, strategies=(AlignmentLogits(),)) == [
        "alignment_logits"
    ]


def test_reasons(snapshot):
    low = verdicts(10, can_reverse=False)
    assert low["alignment"].why_not is Reason.COVERAGE
    assert low["alignment"].concerns == "teacher"
    none = verdicts(0, can_reverse=False)["alignment"]
    assert none.why_not is Reason.NONE_RIGHT
    assert verdicts(0)["alignment"] == none, "beside injection, too"
    assert low["injection"].why_not is Reason.TASK
    high = verdicts(90)
    assert high["alignment"].why_not is Reason.ANOTHER_LEARNS_MORE
    assert high["alignment_on_policy"].reason == high["alignment"].reason
    half = verdicts(78)["alignment"]
    assert half.why_not is Reason.COVERAGE_BESIDE_RIGHT
    assert high["alignment"].concerns == "pair"
    weightless = verdicts(90, has_weights=False)["alignment_logits"]
    assert weightless.why_not is Reason.SIGNAL
    chosen = (low["alignment"], none, low["injection"], high["alignment"], half, weightless)
    assert [(verdict.reason, verdict.evidence) for verdict in chosen] == snapshot


@pytest.mark.parametrize(
    ("right", "open_"), [(21, False), (22, True), (30, True), (38, True), (41, False)]
)
def test_an_interval_on_both_sides_of_a_threshold_is_said(right, open_):
    assert straddles(wilson(right, 100), 0.3) is open_
    evidence = verdicts(right, can_reverse=False)["alignment"].evidence
    assert ("The interval lies on both sides of 30%" in evidence) is open_
    assert f"{right}.0% of 100 validation items" in evidence


@pytest.mark.parametrize("right", [0, 100])
@pytest.mark.parametrize(
    ("level", "strategies", "expected"),
    [
        ("low", ("alignment",), ["alignment_logits"]),
        ("medium", ("alignment", "injection"), ["alignment_logits", "injection"]),
        ("high", ("injection",), ["injection"]),
    ],
)
def test_a_declared_complexity_stands_in_for_coverage(right, level, strategies, expected):
    declared = ComplexityConfig(level=level, strategies=strategies)
    assert names_taken(right, declared=declared) == expected
    refused = [
        verdict for verdict in verdicts(right, declared=declared).values() if not verdict.is_taken
    ]
    assert all(
        "complexity=" in verdict.reason or "learns more" in verdict.reason for verdict in refused
    )


# --- files whose rows have their answers ----------------------------------------------------------


def of_rows(*strategies, right=99, prompt="default", **rows):
    """Return the verdicts on a file of 180 rows."""
    return verdicts(right, strategies=strategies, prompt=prompt, rows={"n_rows": 180, **rows})


def names_of_rows(*strategies, **changes):
    return {name for name, verdict in of_rows(*strategies, **changes).items() if verdict.is_taken}


def test_answers_that_a_file_has_are_learnt_and_not_asked_for(snapshot):
    three = (Alignment(), Injection(), Supervised())
    by_name = of_rows(*three)
    assert names_of_rows(*three) == {"supervised"}
    alignment, injection = by_name["alignment"], by_name["injection"]
    assert (alignment.why_not, alignment.concerns) == (Reason.REPEATS, "teacher")
    assert injection.why_not is Reason.REPEATS
    assert [alignment.reason, injection.reason] == snapshot
    assert names_of_rows(*three, n_made=10) == {"supervised", "injection"}


def test_what_a_teacher_adds_may_be_asked_for():
    two = (Alignment(), Supervised())
    assert names_of_rows(*two, prompt="reasoning") == {"alignment", "supervised"}
    unsure = of_rows(*two, right=60, prompt="reasoning")["alignment"]
    assert not unsure.is_taken and unsure.why_not is not Reason.REPEATS
    assert "alignment_logits" in names_of_rows(AlignmentLogits(min_coverage=0.5), Supervised())
    assert "injection" in names_of_rows(Injection(rationale="teacher"), Supervised())


def test_a_strategy_that_is_named_alone_is_not_replaced(snapshot):
    assert names_of_rows(Alignment()) == {"alignment"}
    assert names_of_rows(Injection()) == {"injection"}
    without_rows = of_rows(Injection(), Supervised(), n_rows=None)
    assert without_rows["injection"].is_taken
    assert without_rows["supervised"].why_not is Reason.TASK
    assert without_rows["supervised"].reason == snapshot


LABELLED = (Alignment(), Injection(), Supervised(), PseudoLabels())


@pytest.mark.parametrize(
    ("right", "expected", "refused"),
    [(90, "pseudo_labels", "supervised"), (70, "supervised", "pseudo_labels")],
    ids=["90-pseudo_labels", "70-supervised"],
)
def test_rows_without_answers_are_labelled_by_a_teacher_that_surely_knows_them(
    right, expected, refused, snapshot
):
    assert names_of_rows(*LABELLED, right=right, n_unlabelled=50) == {expected}
    assert of_rows(*LABELLED, right=right, n_unlabelled=50)[refused].reason == snapshot


def test_what_would_have_labels_taken_is_said_with_its_keys(snapshot):
    def labels(right: int) -> Verdict:
        return of_rows(*LABELLED, right=right, n_unlabelled=50)["pseudo_labels"]

    assert [labels(right).evidence for right in (75, 70, 40)] == snapshot
    n = n_above(0.75, 0.7)
    assert n is not None and not labels(75).is_taken
    assert wilson(0.75 * n, n).low >= 0.7 > wilson(0.75 * (n - 1), n - 1).low


def test_labels_that_gold_rows_correct_are_planned_beside_the_rows_alone():
    corrects = StudentFacts("linear", False, 0, corrects_labels=True, has_gain=True)

    def taken(right: int, *strategies: Strategy, facts: StudentFacts = corrects) -> list[str]:
        rows = {"n_rows": 180, "n_unlabelled": 50}
        return names_taken(right, facts, strategies=strategies, rows=rows)

    unknown = replace(corrects, has_gain=False)
    assert taken(70, *LABELLED, facts=unknown) == ["pseudo_labels"], "nothing tells what they add"
    assert taken(70, *LABELLED) == ["supervised", "pseudo_labels"]
    assert taken(35, *LABELLED) == ["supervised"], "its low end is below 30%"
    assert taken(70, Supervised(), PseudoLabels(min_coverage=0.7)) == ["supervised"]


def test_without_rows_to_label_there_are_no_pseudo_labels(snapshot):
    by_name = of_rows(*LABELLED)
    assert by_name["supervised"].is_taken
    assert by_name["pseudo_labels"].why_not is Reason.TASK
    assert by_name["pseudo_labels"].reason == snapshot
