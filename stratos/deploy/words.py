"""The reasons of serving: which format is served, and how it answers."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from stratos.core.formats import counted
from stratos.core.reasons import Reason
from stratos.records import Export

# Why a format is not served.


class FormatNotMade(Reason):
    """The engine cannot have the format."""

    format: str
    engine: str

    says = "{format} for {engine} cannot be made."


class FormatLosesTooMuch(Reason):
    """The format loses more accuracy than is allowed."""

    format: str
    engine: str

    says = "{format} for {engine} loses more than deploy.max_loss_points."


class FormatBreaksLimit(Reason):
    """The student has too little accuracy in the format, and enough without it."""

    export: Export
    limit: float

    def __str__(self) -> str:
        export = self.export
        return (
            f"As {export.format} the student has {export.exact.mean:.1%} of {export.n_items:,} "
            f"test items (95% interval {export.exact.low:.1%} to {export.exact.high:.1%}), in full "
            f"precision {export.evaluated.mean:.1%}, which breaks limits.accuracy={self.limit:g}."
        )


class OtherFormat(Reason):
    """Another format is served than the one that was to be."""

    why: Reason
    format: str
    """That is served; "" for the bundle's own weights."""

    def __str__(self) -> str:
        served = f"{self.format} is" if self.format else (
            "the bundle's own weights, by transformers, are"
        )  # fmt: skip
        return (
            f"{self.why} {served} served in its place: latency and requests per second are those "
            "of the load test, not of the plan."
        )


# How a server answers.


class AnswersDiffer(Reason):
    """Answers of the server are not those of the evaluation."""

    n_differing: int
    n_requests: int

    def __str__(self) -> str:
        differ = "differs from that" if self.n_differing == 1 else "differ from those"
        answers = counted(self.n_requests, "answer")
        return f"{self.n_differing} of {answers} of the server {differ} of the evaluation."


class LatencyMissed(Reason):
    """An answer takes longer on this machine than the limit allows."""

    latency_p95_ms: float
    limit_ms: float

    says = (
        "The server on this machine took {latency_p95_ms:.0f} ms for one answer (p95), "
        "above limits.latency_ms={limit_ms:g}. The planned server may be faster; a "
        "smaller student is."
    )


@dataclass(frozen=True)
class KnownAnswers:
    """How a hosted student answers the questions whose answers are known."""

    bundle: str
    n_known: int
    n_differing: int
    """Not as they should be."""
    n_as_evaluated: int
    format: str = ""
    """Export that is served; "" for the bundle's own weights."""

    def __str__(self) -> str:
        if not self.n_known:
            return "Its bundle holds no known answers to compare with."
        questions = counted(self.n_known, "known question")
        if self.n_differing:
            then = f"{self.format} when it was exported" if self.format else "the evaluation"
            return (
                f"Warning: of {questions}, {counted(self.n_differing, 'answer')} "
                f"{'is' if self.n_differing == 1 else 'are'} not that of {then}: stratos verify "
                f"{shlex.quote(self.bundle)} tells whether the bundle is whole."
            )
        if not self.format:
            return f"It answers {questions} as in the evaluation."
        n, are = self.n_as_evaluated, "is that" if self.n_as_evaluated == 1 else "are those"
        return (
            f"It answers {questions} as {self.format} did when it was exported; {n} of "
            f"{counted(self.n_known, 'answer')} {are} of the evaluation."
        )
