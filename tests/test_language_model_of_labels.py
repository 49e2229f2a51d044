"""A whole run whose student is a language model that answers with labels."""

import json
import random

import pytest
from in_process import stratos

from stratos.models.decode.label_scores import LabelAnswers
from stratos.models.kinds import load_predictor

WORDS = {
    "card": ("card", "pin", "plastic"),
    "card lost": ("lost", "gone", "stolen"),
    "transfer": ("transfer", "wire", "iban"),
}
OTHERS = ("please", "my", "the", "help", "with", "today", "again", "why", "is", "it", "not", "here")

pytestmark = pytest.mark.slow


def test_what_is_served_answers_as_the_evaluation_did(tmp_path):
    draw = random.Random(0)
    with (tmp_path / "rows.jsonl").open("w") as file:
        for _ in range(200):
            label = draw.choice(list(WORDS))
            words = [*draw.sample(OTHERS, 5), draw.choice(WORDS[label])]
            draw.shuffle(words)
            file.write(json.dumps({"text": " ".join(words), "label": label}) + "\n")
    done = stratos(
        "+task=classify", "task.path=rows.jsonl", "student=stratos_300k", "cloud=local",
        "trainer.max_tokens=15000", "deploy=local", "deploy.n_requests=12",
        "deploy.load_seconds=1", "hydra.run.dir=run", "logger=none",
        cwd=tmp_path, env={"STRATOS_CACHE": str(tmp_path / "c")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "run"
    answers = [json.loads(line) for line in (run / "evaluate/answers.jsonl").open()]
    assert all(answer["text"] in WORDS and answer["score"]["parsed"] for answer in answers)
    assert all(answer["logprob"] <= 0 for answer in answers)
    deployed = json.loads((run / "deploy.json").read_text())["record"]
    assert (deployed["run"]["engine"], deployed["n_equal"]) == ("labels", 12)
    described = LabelAnswers.read(run / "bundle")
    assert described is not None and set(described.labels) == set(WORDS)
    predictions = load_predictor(run / "bundle").predict([answer["question"] for answer in answers])
    assert [label.text for label in predictions] == [answer["text"] for answer in answers]
    card = (run / "bundle" / "README.md").read_text()
    assert "from stratos import load" in card and "expected calibration error" in card
