"""Memory while a million prompts stream through cache, ledger and pump.

    python benchmarks/teachers/memory.py [--n 1000000]

The teacher answers at once and in this process, so that nothing but the way of a question is
measured: window, claims and answers in SQLite, money, retries. One prompt in ten fails first.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

from stratos.core.context import Context
from stratos.core.errors import TeacherError
from stratos.ledger import Ledger
from stratos.records import ModelCard
from stratos.teachers import scheduler
from stratos.teachers.asking import stream_ask
from stratos.teachers.base import Answer, Meter, Question, Teacher
from stratos.teachers.scheduler import Backend, Outcome, Scheduler


class Instant(Teacher):
    """Answers at once; every tenth prompt fails at its first try."""

    name = "instant"

    def __init__(self) -> None:
        """Remember what failed once."""
        self._failed: set[str] = set()
        self.n_tries = 0

    def card(self) -> ModelCard:
        """Return prices of a dollar a million tokens."""
        return ModelCard(
            "instant", 1, 1, 1, 1, 1, 1, 1, 1,
            usd_per_million_input_tokens=1.0, usd_per_million_output_tokens=1.0,
        )  # fmt: skip

    def identity(self) -> str:
        """Return a name."""
        return "instant"

    def ask(self, chats, max_tokens, tick=None, keep=None) -> list[Answer]:
        """Not asked so."""
        raise NotImplementedError

    def stream(
        self, questions: Iterator[Question | None], meter: Meter | None
    ) -> Generator[tuple[int, Answer] | None, None, None]:
        """Answer as hosted teachers do."""
        yield from Scheduler([Backend(self, proved=True)], 64, 8, meter).run(questions)

    def send(self, question: Question, done: Callable[[Outcome], None]) -> Callable[[], None]:
        """Answer, or fail in passing."""
        self.n_tries += 1
        text = question.chat[0]["content"]
        if text.endswith("7.") and text not in self._failed:
            self._failed.add(text)
            done(Outcome(error=ConnectionError(), passing=True))
        else:
            self._failed.discard(text)
            done(Outcome(answer=Answer("42 " * 20, 120, 60, 0.001)))
        return lambda: None

    def explain(self, error: Exception, question: Question, n_tries: int) -> TeacherError:
        """Wrap."""
        return TeacherError(str(error))


def rss_mib() -> float:
    """Return the resident memory of this process."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Print memory as prompts go by."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=1_000_000)
    n = parser.parse_args().n
    scheduler._SHORTEST_WAIT_S = 0.001  # the pauses of retries are not what is measured
    questions = (
        Question([{"role": "user", "content": f"{'What is the sum? ' * 20}{i}."}], 64)
        for i in range(n)
    )
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.jsonl", 1e6)
        context = Context(Path(folder), Path(folder), ledger)
        teacher = Instant()
        started, cpu = time.perf_counter(), time.process_time()
        for count, _ in enumerate(stream_ask(teacher, questions, context), 1):
            if count % (n // 10) == 0 or count == n // 100:
                took = time.perf_counter() - started
                print(f"{count:>9,} prompts  {rss_mib():7.1f} MiB  {took:7.1f} s", flush=True)
        print(f"{teacher.n_tries:,} tries, ${ledger.spent_usd:.2f} of ${n * 180e-6:.2f} expected, "
              f"{(time.process_time() - cpu) / n * 1e6:.0f} us of CPU a prompt")  # fmt: skip


if __name__ == "__main__":
    main()
