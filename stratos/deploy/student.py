"""A distilled student in this process: load it, ask it, host it.

Nothing of Hydra or Lightning is imported, and PyTorch only for a student that needs it: `linear`,
`static` and a tagger over these do not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TypeAlias

from stratos.core.errors import StratosError
from stratos.core.extras import required
from stratos.core.formats import writable
from stratos.deploy.manifest import bundle_in
from stratos.models.kinds.base import (
    Predictor,
    has_labels,
    is_predictor,
    load_predictor,
    text_of,
)
from stratos.tasks.base import Message

if TYPE_CHECKING:
    from stratos.deploy.bundle_server import Answering

Question: TypeAlias = str | Sequence[Message]
"""A text, or a chat as the OpenAI API has it: [{"role": "user", "content": …}, …]."""


class NoProbabilityError(StratosError):
    """The student writes its answers token by token, and no probability of them is calibrated."""


class Student:
    """A student of any kind, as its bundle holds it.

        student = load("outputs/tickets")
        student("My card was charged twice")        # "card_charged_twice"

    Its weights are read when it is first asked. It answers as the run's test measured it: greedily,
    without a server.
    """

    def __init__(self, folder: Path | str) -> None:
        """Name the folder of a bundle; `stratos.load` also takes that of a run."""
        self.folder = Path(folder)
        """The bundle: weights, card, manifest."""

    def __call__(self, question: Question) -> str:
        """Return the answer to a text or a chat: a label, a JSON object as text, or prose.

        Raises:
            StratosError: the student cannot be loaded.
        """
        return self.predict([question])[0]

    def predict(self, questions: Sequence[Question]) -> list[str]:
        """Return the answer to each text or chat, in order; many at once are faster.

        Raises:
            StratosError: the student cannot be loaded.
            TypeError: it is one text, and no list.
        """
        if isinstance(questions, str):
            raise TypeError("predict takes a list of texts: predict([text]), or student(text).")
        with required():
            if self._predictor is not None:
                return [answer.text for answer in self._predictor.predict([*map(_text, questions)])]
            return self._answering([*map(_chat, questions)])

    def probability(self, question: Question) -> dict[str, float]:
        """Return the likeliest answers with the probability that each is right, the best first.

        They are calibrated on rows that the student did not learn from, between 0 and 1. Of many
        labels the 20 likeliest are listed; a tagger has its one answer.

        Raises:
            NoProbabilityError: the student is a language model that writes its answers.
            StratosError: it cannot be loaded.
        """
        with required():
            if self._predictor is None:
                raise NoProbabilityError(
                    f"{self.folder} is a language model that writes its answers: none has a "
                    "calibrated probability. Students of labels and of fields have one: "
                    'distil(…, student="linear"), or "static", "encoder", "tagger".'
                )
            [answer] = self._predictor.predict([_text(question)])
        return {answer.text: answer.probability, **dict(answer.next_best)}

    def serve(self, port: int = 0) -> Served:
        """Host it on this machine with an OpenAI-compatible API; it has answered when this returns.

            with student.serve() as server:
                requests.post(f"{server.url}/chat/completions", json=…)

        The server ends with `stop`, at the end of the block, and with this process. One that stays:
        `stratos serve <folder>`.

        Args:
            port: where it listens on the loopback device; 0 takes a free one.

        Raises:
            StratosError: the port is taken, or the server ended or was silent.
        """
        return Served(self.folder, port)

    def __repr__(self) -> str:
        return f"Student({str(self.folder)!r})"

    @cached_property
    def _predictor(self) -> Predictor | None:
        """The student where it has probabilities; None for a language model that writes."""
        if is_predictor(self.folder) or has_labels(self.folder):
            return load_predictor(self.folder)
        return None

    @cached_property
    def _answering(self) -> Answering:
        from stratos.deploy.bundle_server import answering

        return answering(self.folder)


class Served:
    """A student that is hosted by this process, until `stop` or the end of a `with` block."""

    def __init__(self, bundle: Path, port: int = 0) -> None:
        """Start the server, with the engine that the run chose, and wait for its first answer.

        Raises:
            StratosError: the port is taken, or the server ended or was silent.
        """
        from stratos.deploy.bundle_server import serving_bundle
        from stratos.deploy.hosting import setting_here

        run, _ = setting_here(bundle)
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="stratos-serve-"))
            log = Path(folder) / "serve.log"
            server = stack.enter_context(serving_bundle(bundle, run, log, port=port))
            self._stack = stack.pop_all()
        self.port = server.port
        """Where it listens, on the loopback device."""
        self.url = f"{server.url}/v1"
        """What an OpenAI client takes as `base_url`; any key will do."""
        self.model = str(bundle)
        """What it takes as `model`."""

    def stop(self) -> None:
        """End the server; a second time nothing happens."""
        self._stack.close()

    def __enter__(self) -> Served:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"Served({self.url!r})"


def load(folder: str | PathLike[str]) -> Student:
    """Return the student of a bundle, or of the folder of a run that has made one.

    Args:
        folder: `outputs/<run>` or `outputs/<run>/bundle`.

    Raises:
        StratosError: it holds no student.
    """
    return Student(bundle_in(Path(folder)))


def _text(question: Question) -> str:
    return question if isinstance(question, str) else text_of(question)


def _chat(question: Question) -> list[Message]:
    if isinstance(question, str):
        return [{"role": "user", "content": writable(question)}]
    return [{**message, "content": writable(message["content"])} for message in question]
