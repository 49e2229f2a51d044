"""What the model card says of a student that is no language model."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stratos.core.counted import counted, listed
from stratos.deploy.bundle_server import serve_command
from stratos.deploy.engines.predictor import server_of
from stratos.evaluate.answer_files import KeptAnswer
from stratos.models.kinds.base import FILE

_READS = {
    "tfidf": "TF-IDF of words, pairs of words and runs of two to five letters",
    "static": "the mean of the token vectors of a fixed table",
    "encoder": "the mean of the last hidden states of a pretrained encoder",
    "tuned": "mean hidden states of a pretrained encoder, as it was and with upper layers tuned",
}
"""Blocks of features, as `student.json` names them."""


@dataclass(frozen=True)
class PredictorCard:
    """A student as its card describes it."""

    task: str
    """As hubs name it."""
    description: str
    """Kind of the student, what it reads, and what it answers."""
    training: str
    calibration: str
    install: str
    """Command that installs what it needs beside the wheel of Stratos."""
    serve_command: str

    @classmethod
    def of(cls, folder: Path, answers: Sequence[KeptAnswer]) -> PredictorCard | None:
        """Return the description of a student; None where it is a language model.

        Args:
            folder: of the student.
            answers: the student's, to test items.
        """
        engine = server_of(folder)
        if engine is None:
            return None
        facts = json.loads((folder / FILE).read_text(encoding="utf-8"))
        kind, training = "token-classification", ""
        description = "a tagger that writes values of the text, or of a list, into JSON"
        if facts["format"] == "classifier":
            kind = "text-classification"
            reads = listed([_READS.get(one["name"], one["name"]) for one in facts["blocks"]])
            labels = counted(len(facts["labels"]), "label", spec=",")
            description = f"a classifier that reads {reads}, and answers with one of {labels}"
            training = (
                "a logistic regression on each of these features; how they are mixed, and with "
                "it the probabilities, is fitted on rows that they had not seen"
            )
        packages = " ".join(f'"{package}"' for package in engine.packages)
        return cls(
            kind,
            description,
            training,
            _calibration(answers),
            f"pip install {packages}",
            serve_command(".", run=engine.setting()),
        )


def _calibration(answers: Sequence[KeptAnswer]) -> str:
    """Compare the probabilities of answers with how many of them are right."""
    import numpy as np

    from stratos.models.kinds.cross_validation import calibration_error

    confidence = np.array([math.exp(min(0.0, one.logprob)) for one in answers])
    right = np.array([one.score.exact >= 1.0 for one in answers])
    error = calibration_error(confidence, right)
    return (
        f"its probability is {confidence.mean():.1%} on average over "
        f"{counted(len(answers), 'test item', spec=',')}, of which {right.mean():.1%} are right; "
        f"expected calibration error {100 * error:.1f} points (at most 15 bins; of few items it is "
        "above 0 by chance alone)"
    )
