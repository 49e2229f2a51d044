import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# The tiny task, its student and its records are those of the evaluation's tests.
sys.path.insert(0, str(Path(__file__).parents[1] / "evaluate"))
sys.path.insert(0, str(Path(__file__).parents[1] / "executors"))  # an S3 on this machine
sys.path.insert(0, str(Path(__file__).parent))

import pytest
from browser import chrome, page
from tiny_run import tiny_config, tiny_context, tiny_corpus, tiny_plan, tiny_probe, tiny_trained
from tiny_student import make_students

from stratos import records
from stratos.deploy.manifest import Known, write_known, write_manifest
from stratos.deploy.stage import make_bundle
from stratos.evaluate import evaluate
from stratos.evaluate.answers import read_answers

__all__ = ["chrome", "page"]


class Run:
    """A run of the tiny task up to `evaluate`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = tiny_config(folder)
        self.context = tiny_context(folder)
        self.plan = tiny_plan()
        self.student = tiny_trained(make_students(folder))
        self.corpus = tiny_corpus(folder, self.config.task)
        records.save(folder / "synthesize.json", "synthesize", "", self.corpus)
        self.scorecard = evaluate(
            self.config,
            tiny_probe(self.config.task, self.config.teachers[0]),
            self.plan,
            self.corpus,
            self.student,
            self.context,
        )


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run folder with a trained and measured student."""
    return Run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def bundle(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of that student, with three known answers and a manifest."""
    bundle = tmp_path_factory.mktemp("bundled") / "student"
    make_bundle(Path(run.student.path), bundle, card="card", max_new_tokens=64)
    answers = read_answers(run.folder)[:3]
    write_known(bundle, [Known(a.messages, a.text, a.gold, True, 64) for a in answers])
    write_manifest(bundle)
    return bundle.resolve()
