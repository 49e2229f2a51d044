"""A teacher of a user's own kind is one class and one YAML: checked, asked, placed, refused."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.types import RunMode

from stratos.cli.build import build
from stratos.cli.compose import hydra_for
from stratos.cli.help import group_page
from stratos.config import Config
from stratos.core.context import Context
from stratos.core.errors import TeacherError
from stratos.core.trust import ALLOW_TARGETS
from stratos.distill.signal.source import TextSource, open_source
from stratos.distill.signal_config import SignalConfig
from stratos.distill.words import OnlyAnswers
from stratos.ledger import Ledger
from stratos.records import Offer, Plan, RoleChoice
from stratos.run.stage_job import keys_of, why_here
from stratos.teachers.base import Question, SignalKind
from tests.checked import problems
from tests.teachers.questions import cached_ask

CLASS = '''
import subprocess
from dataclasses import dataclass

from stratos.core.errors import TeacherError
from stratos.records import ModelCard
from stratos.teachers.base import Answer, Teacher


@dataclass(frozen=True)
class Program(Teacher):
    """A command of this machine that reads a question and writes its answer."""

    name: str
    command: tuple[str, ...]
    """Program and arguments; the question comes on its standard input."""

    def card(self):
        return ModelCard(self.name, 1, 1, 1, 1, 1, 1, 1, 4096, license="MIT")

    def identity(self):
        return " ".join(("program", *self.command))

    def ask(self, chats, max_tokens, tick=None, keep=None):
        answers = []
        for place, chat in enumerate(chats):
            done = subprocess.run(
                self.command, input=chat[-1]["content"], capture_output=True, text=True
            )
            if done.returncode:
                raise TeacherError(f"{self.name} failed: {done.stderr.strip()}")
            answers.append(Answer(done.stdout.strip(), 1, 1, 0.0))
            if keep is not None:
                keep(place, answers[-1])
        return answers
'''
YAML = """\
# Ask a program of this machine.
#   python -m stratos +task=mahjong teacher=program
_target_: my_teachers.Program
name: program
command: [sort, -n]
"""
SERVER = Offer("aws", "us-east-1", "m7i.large", None, 0, 2, 8, 0, usd_per_hour=0.1)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_teachers.py").write_text(CLASS)
    (tmp_path / "mine" / "teacher").mkdir(parents=True)
    (tmp_path / "mine" / "teacher" / "program.yaml").write_text(YAML)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(ALLOW_TARGETS, "my_teachers")
    monkeypatch.delitem(sys.modules, "my_teachers", raising=False)
    return tmp_path / "mine"


@pytest.fixture
def config(own: Path) -> Config:
    with hydra_for(str(own)) as hydra:
        typed = ["+task=mahjong", "teacher=program", "paths=here", "paths.run_dir=run"]
        return build(hydra.compose_config("config", typed, RunMode.RUN, True))


def test_help_and_check_know_it(own):
    assert "teacher.command" in group_page(["teacher=program"], str(own))
    typed = ["--config-dir", str(own), "+task=mahjong", "teacher=program"]
    assert problems(*typed) == []
    assert problems(*typed, "teacher.command=3") == [
        "teacher.command=3: expected a list.",
    ]


def test_a_class_that_is_half_written_is_told_what_it_lacks(own):
    module = own.parent / "my_teachers.py"
    module.write_text(CLASS.replace("def identity", "def who"))
    typed = ["--config-dir", str(own), "+task=mahjong", "teacher=program"]
    assert problems(*typed) == [
        "teacher._target_=my_teachers.Program: is not a Teacher: it lacks identity."
    ]


def test_it_answers_once_and_what_it_cannot_do_is_refused(config, tmp_path):
    [teacher] = config.teachers
    context = Context(tmp_path, tmp_path / "cache", Ledger(tmp_path / "ledger"))
    chats = [[{"role": "user", "content": text}] for text in ("3\n1", "9\n7")]
    assert [answer.text for answer in cached_ask(teacher, chats, 8, context)] == ["1\n3", "7\n9"]
    assert all(answer.cached for answer in cached_ask(teacher, chats, 8, context))
    assert (teacher.streams, teacher.draws, teacher.takes_batches) == (False, False, False)
    for refused in (
        lambda: teacher.sample([Question(chats[0], 8, 1, 1.0)]), teacher.load, teacher.as_batch,
    ):  # fmt: skip
        with pytest.raises(TeacherError, match="program"):
            refused()


def test_its_stages_run_as_jobs_and_no_key_is_held_back(config):
    fields: dict[str, Any] = dict.fromkeys(Plan.__dataclass_fields__)
    roles = tuple(
        RoleChoice(role, SERVER, 1, False, hours=1.0, usd=0.1)
        for role in ("teacher", "train", "serve")
    )
    plan = Plan(**fields | {"roles": roles, "teacher": "program", "strategy": "injection"})
    assert {why_here(config, stage, plan) for stage in ("synthesize", "evaluate")} == {None}
    assert keys_of(config) == ()
    far = SimpleNamespace(name="program", runs_here=False, api_key_env=None)
    config = replace(config, teachers=(far,))
    assert why_here(config, "evaluate", plan) is not None


def test_its_logits_are_refused_with_the_reason(config, tmp_path):
    [teacher] = config.teachers
    assert teacher.signal is SignalKind.TEXT
    warnings: list[str] = []
    context = Context(
        tmp_path, tmp_path / "cache", Ledger(tmp_path / "ledger"), warn=warnings.append
    )
    source = open_source(teacher, SignalConfig(), None, None, context)  # type: ignore[arg-type]
    assert isinstance(source, TextSource) and source.reason == OnlyAnswers("Program")
    assert len(warnings) == 1 and "gives no distributions" in warnings[0]
