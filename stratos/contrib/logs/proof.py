"""What a log proves of the model that wrote it: nobody is asked."""

from __future__ import annotations

from stratos.contrib.logs.logged_model import LoggedModel, mean_and_deviation
from stratos.core.counted import counted
from stratos.core.intervals import wilson
from stratos.records import AnswerSpread, Interval, LoggedProof, ModelCard, TeacherProbe

_AS_LOGGED = "zero_shot"
"""The prompt of chats as they were logged."""
_NOTHING = Interval(0.5, 0.0, 1.0, "nothing in the log could show a wrong answer", is_known=False)


def proof_of(model: LoggedModel, teacher: str, card: ModelCard) -> TeacherProbe:
    """Return what the answers of the validation time prove of their model.

    Its accuracy is at most the share of them that nothing speaks against: no check tells a wrong
    answer that looks like a right one.

    Args:
        model: of the log.
        teacher: name of the teacher that gives its answers again.
        card: of the model.
    """
    input_tokens, of_input = mean_and_deviation(model.input_tokens)
    output_tokens, of_output = mean_and_deviation(model.output_tokens)
    n = model.n_rows
    source = f"{counted(n, 'logged answer', spec=',')}, by the checks of the log: an upper bound"
    doubts = {str(doubt): n_doubted for doubt, n_doubted in model.doubts.items()}
    return TeacherProbe(
        teacher=teacher,
        card=card,
        prompt=_AS_LOGGED,
        n_items=n,
        exact=wilson(model.n_held, n, source=source) if model.is_checked and n else _NOTHING,
        choice=wilson(0, 0),
        exact_by_slice={},
        parsable=1.0,
        echoes=0.0,
        input_tokens=round(input_tokens * n),
        output_tokens=round(output_tokens * n),
        seconds=0.0,
        cpu_seconds=0.0,
        usd=0.0,
        n_cached=n,
        spread=AnswerSpread(of_input, of_output, 0.0) if n > 1 else None,
        logged=LoggedProof(model.name, model.is_checked, doubts, model.are_counted),
    )


def in_words(probe: TeacherProbe) -> str:
    """Return as a sentence what the log proves."""
    proof = probe.logged
    assert proof is not None
    n = counted(probe.n_items, "answer", spec=",")
    guess = (
        ""
        if proof.are_counted
        else " The log does not say all tokens: four characters count as one."
    )
    if not proof.is_checked:
        return (
            f"{proof.model} is known by its log: nothing in it could show that one of its {n} of "
            f"the validation time is wrong.{guess}"
        )
    reasons = "; ".join(f"{k:,} × {reason}" for reason, k in proof.doubts.items())
    against = f" Doubtful: {reasons}." if reasons else ""
    return (
        f"{proof.model} is known by its log: nothing speaks against {probe.exact.mean:.1%} of its "
        f"{n} of the validation time, which is an upper bound of its accuracy.{against}{guess}"
    )
