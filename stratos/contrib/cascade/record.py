"""When a student asks its teacher, and what that promises."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from stratos.core.formats import percent
from stratos.records import Interval, RoomRecord, Section, ServingSetting


@dataclass(frozen=True)
class CascadeAt:
    """The traffic of the first month answered by the student, by the teacher, or by both."""

    requests_per_day: float
    student_usd: float
    """Dollars of the month: the student's servers, idle or not."""
    teacher_usd: float
    cascade_usd: float
    """The student's servers and the teacher's tokens."""


@dataclass(frozen=True)
class Escalation:
    """How the endpoint of a cascade judges and asks, as it was measured."""

    measure: Literal["probability", "agreement"]
    """What tells how sure the student is."""
    n_samples: int
    """Answers that are drawn for each request; 0 where its probability is told."""
    run: ServingSetting
    """How the student was served: another format is otherwise sure of its answers."""
    teacher: str
    prompt: str
    """With which the teacher is asked."""
    student_tokens: int
    """Longest answer."""
    teacher_tokens: int
    is_bare: bool
    """Whether the student writes the answer alone: then the teacher's answer is given so, too."""
    bundle_sha256: str
    """Of the manifest of the bundle that was measured: the threshold is of no other student."""

    @property
    def n_answers(self) -> int:
        """Answers of the student that one request takes."""
        return 1 + self.n_samples


@dataclass(frozen=True)
class Cascade(RoomRecord):
    """A student that asks its teacher where it is unsure, and what that comes to."""

    section: ClassVar[Section | None] = Section("cascade", "Cascade", "cascade/report.html")

    text: str
    """The verdict in words."""
    is_promised: bool
    """False where nothing can be promised, for the reason in `text`."""
    accuracy: float
    """That is promised."""
    confidence: float
    """With which."""
    n_choosing: int
    """Items that chose the threshold."""
    student: float
    """Shares right of the items that both answered."""
    teacher: float
    probability: float | None = None
    """The teacher is asked below this probability of the student's answer; None where nothing is
    promised. 0 asks it only where the answer is refuted."""
    is_always: bool = False
    """Whether the teacher is asked whatever the student answers."""
    escalated: Interval | None = None
    """Share of requests that go to the teacher, on items that did not choose."""
    measured: Interval | None = None
    """Accuracy of the cascade on these items."""
    usd_per_1000: float | None = None
    """Student's server and teacher together; None where a price is not known."""
    student_usd_per_1000: float | None = None
    teacher_usd_per_1000: float | None = None
    n_needed: int | None = None
    """Items both would have to answer; None where no number is enough."""
    chosen_on: Literal["validation", "test"] = "test"
    """Whose items chose: validation items, or one half of the test items."""
    student_ms: float | None = None
    """Mean milliseconds of an answer."""
    teacher_ms: float | None = None
    cascade_ms: float | None = None
    month: CascadeAt | None = None
    """Of the first month; None where the requests or a price are not known."""
    endpoint: Escalation | None = None
    """None where it was worked out of the evaluation alone, and nothing was served."""
    pairs_path: str = ""
    """JSON lines: for each item how sure the student was, and who was right."""
    seconds: float = 0.0
    look: int = 1
    """How many sets of answers the run has tried to promise something by, with this one."""
    n_answers: int = 1
    """Answers of the student that one request takes."""
    n_too_long: int = 0
    """Items that neither choose nor measure, since they are longer than the teacher's context."""
    left_out: float = 0.0
    """Share of requests in slices too rare to be drawn: they count as wrong."""
    n_measuring: int = 0
    """Items that measured the cascade: they did not choose."""
    most_promised: float | None = None
    """Where this accuracy is refused: the highest one that these items are enough for."""

    def outcome(self) -> str:
        """Return the promise, and how many requests go to the teacher."""
        promise = f"{percent(self.accuracy)} with {percent(self.confidence, 0)} confidence"
        if not self.is_promised:
            return f"{promise} is not promised"
        parts = [f"{promise} is promised"]
        if self.escalated is not None:
            parts.append(f"{percent(self.escalated.mean)} of requests go to the teacher")
        if self.measured is not None:
            parts.append(f"{percent(self.measured.mean)} right on test items")
        return ", ".join(parts)

    def summary(self, run_dir: Path) -> str:
        """Return its text, with the command that serves it."""
        serve = f" Type: {self.serve_command(run_dir)}" if self.is_promised else ""
        return f"Cascade {self.text}{serve}"

    def numbers(self) -> Mapping[str, float | str]:
        """Return share escalated, accuracy and dollars, where something is promised."""
        if self.escalated is None or self.measured is None:
            return {}
        numbers = {"cascade_escalated": self.escalated.mean, "cascade_exact": self.measured.mean}
        if self.usd_per_1000 is not None:
            numbers["cascade_usd_per_1000"] = self.usd_per_1000
        return numbers

    def serve_command(self, run_dir: Path) -> str:
        """Return the command that serves the student of a run with its teacher behind it."""
        return shlex.join(["stratos", "serve", str(run_dir), "--cascade"])
