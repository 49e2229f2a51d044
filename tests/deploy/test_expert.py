"""A bundle as the teacher of the task that it was made for: asked as its user asks it."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tiny_run import tiny_context
from tiny_student import Larger

from stratos import config as c
from stratos.deploy.card import model_card
from stratos.deploy.stage import make_bundle
from stratos.evaluate.answers import read_answers
from stratos.probe import probe
from stratos.synthesize.alignment import Alignment
from stratos.synthesize.strategy import Tally
from stratos.teachers.huggingface import HuggingFaceTeacher
from stratos.teachers.prompting import STUDENT, chat, made_for, prompting

LONGEST = 29


@dataclass
class Asked(Larger):
    """The tiny task whose teachers are shown an example first."""

    prompts: tuple[str, ...] = ("default", "plain")

    def messages(self, item, prompt="default"):
        examples = [{"role": "user", "content": "1 2"}, {"role": "assistant", "content": "2"}]
        return [*examples, *super().messages(item)]

    def student_messages(self, item):
        return super().messages(item)


@pytest.fixture(scope="module")
def bundle(run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    example = read_answers(run.folder)[0]
    card = model_card(run.config, run.plan, run.scorecard, run.student, run.corpus, [example])
    make_bundle(Path(run.student.path), folder, card=card, max_new_tokens=LONGEST)
    return folder


@pytest.fixture
def expert(bundle) -> HuggingFaceTeacher:
    return HuggingFaceTeacher(name="expert", path=str(bundle))


@pytest.mark.parametrize(
    "text",
    [
        None, "No front matter at all.", "---\n{broken: [yaml\n---\n",
        "---\ntags: [other]\n---\n# Another model\n",
    ],
)  # fmt: skip
def test_its_card_names_the_task(bundle, tmp_path, text):
    assert made_for(bundle) == "larger"
    if text is not None:
        (tmp_path / "README.md").write_text(text)
    assert made_for(tmp_path) is None


def test_it_is_an_expert_of_that_task_alone(expert, run):
    task = Asked()
    found = prompting(expert, task)
    limit = found.limit(STUDENT)
    assert (found.prompts, found.is_expert, limit.tokens) == ((STUDENT,), True, LONGEST)
    assert found.limit(STUDENT, 5).tokens == 5, "what the user names rules"
    other = prompting(expert, Asked(name="smaller"))
    assert (other.prompts, other.is_expert, other.max_tokens) == (task.prompts, False, None)
    hub = replace(expert, path="some/name")
    assert not prompting(hub, task).is_expert
    item = task.items("test", 1)[0]
    assert chat(task, item, STUDENT) == task.student_messages(item)
    assert chat(task, item, "default") == task.messages(item)


def test_the_probe_asks_the_bare_question_and_no_choices(expert, run, tmp_path):
    config = replace(
        run.config,
        task=Asked(),
        teachers=(expert,),
        strategies=(Alignment(),),
        probe=c.ProbeConfig(n_items=40, max_items=40),
    )
    record = probe(config, tiny_context(tmp_path))
    (found,) = record.teachers
    assert (found.prompt, found.trials, found.n_items) == (STUDENT, (), 40)
    assert found.exact.mean > 0.9
    assert not found.choice.is_share_known
    assert found.entropy_nats is not None
    assert 0 <= found.entropy_nats < 0.5
    shown = {one.name: one for one in record.complexity.measures}["entropy of the next token"]
    assert (shown.value.mean, shown.unit) == (found.entropy_nats, "nats a token")
    rows = [json.loads(line) for line in (tmp_path / "probe/answers.jsonl").open()]
    assert {row["kind"] for row in rows} == {"answer", "sample"}
    assert {len(row["messages"]) for row in rows} == {1}


def test_alignment_learns_from_what_it_writes(expert, run, tmp_path):
    task = Asked()
    config = replace(run.config, task=task, teachers=(expert,))
    plan = replace(run.plan, teacher="expert", prompt=STUDENT, strategy="alignment")
    tally = Tally()
    strategy = Alignment(n_items=12)
    made = list(strategy.draw(config, plan, tiny_context(tmp_path), tally))
    assert len(made) + sum(tally.refused.values()) == 12
    assert len(made) > 9
    paths = [completion for _, completion in made if ";" in completion]
    assert paths  # a short one is taken for a bare answer
    assert set(paths) <= {task.completion(item) for item in task.items("train", 12)}
