"""A student that is no language model: bundled, served, verified and hosted."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
from in_process import stratos
from predictor_student import rows, trained, write_rows
from tiny_run import SERVER, tiny_config, tiny_context, tiny_plan, tiny_trained

from stratos import config as c
from stratos import records
from stratos.cli.commands.verify import verify
from stratos.core.errors import StratosError
from stratos.core.intervals import wilson
from stratos.deploy.engines.predictor import PredictorServer
from stratos.deploy.manifest import bundle_in, check_manifest, is_bundle, read_known
from stratos.deploy.service import installs
from stratos.deploy.stage import deploy, make_bundle
from stratos.deploy.student import Student
from stratos.evaluate.answers import Answers, read_answers, write_answers
from stratos.models.kinds import load_predictor
from stratos.records import Deployment, ModelScore, Scorecard, ServingSetting, SliceScore
from stratos.tasks.classify import ClassifyTask

pytestmark = pytest.mark.slow


class Deployed:
    """A run with a linear student up to `deploy`, whose plan names the engine of another."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.warnings = folder, list[str]()
        task = ClassifyTask(str(write_rows(folder / "rows.jsonl")))
        deploying = c.DeployConfig(n_requests=12, load_seconds=1.0)
        self.config = tiny_config(folder, task=task, deploy=deploying)
        student = trained()
        student.save(folder / "student")
        items = task.items("test", 100)
        found = student.predict([item.question for item in items])
        texts = [one.text for one in found]
        scores = tuple(task.score(text, item) for text, item in zip(texts, items, strict=True))
        answers = Answers(
            tuple(items), tuple(texts), scores, (1,) * len(items), 100, 0.1, 0.1,
            logprobs=tuple(math.log(one.probability) for one in found),
        )  # fmt: skip
        write_answers(folder, task, answers)
        n_right = sum(score.exact >= 1 for score in scores)
        row = SliceScore("all", len(items), wilson(n_right, len(items)), 1.0)
        scorecard = Scorecard(
            task.name, "exact", (ModelScore("student", "tiny", (row,)),), None, "", 1.0,
            against=(), earlier_reads=records.EarlierReads(7, 60, 60), answers_path="", seed=0,
        )  # fmt: skip
        plan = tiny_plan()
        planned = ServingSetting("llamacpp", slots=8, format="q8_0")
        roles = tuple(
            replace(one, run=planned) if one.role == "serve" else one for one in plan.roles
        )
        records.save(folder / "evaluate.json", "evaluate", "", scorecard)
        record = replace(tiny_trained((folder / "student", Path())), n_params=student.n_params)
        context = tiny_context(folder, warn=self.warnings.append)
        result = deploy(self.config, replace(plan, roles=roles), scorecard, record, context)
        assert result is not None
        self.record: Deployment = result
        self.bundle = Path(result.bundle_path)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    return Deployed(tmp_path_factory.mktemp("run"))


def test_every_served_answer_is_that_of_the_evaluation(deployed):
    record = deployed.record
    assert (record.n_requests, record.n_equal) == (12, 12)
    assert record.run == PredictorServer().setting() and record.exports is None
    assert 0 < record.latency_p50_ms <= record.latency_p95_ms
    assert record.load is not None and record.load.n_errors == 0
    memory = record.memory_gib
    assert memory is not None and 0.05 < memory.measured <= memory.predicted.high < 0.4
    assert deployed.warnings == []


def test_the_bundle_holds_the_student_and_nothing_that_is_executed(deployed):
    names = {file.name for file in deployed.bundle.iterdir()}
    assert names == {
        "student.json", "student.safetensors", "README.md", "known_answers.jsonl", "manifest.json",
    }  # fmt: skip
    assert check_manifest(deployed.bundle) == 4
    assert is_bundle(deployed.bundle) and bundle_in(deployed.folder) == deployed.bundle.resolve()
    text = read_known(deployed.bundle)[0].messages[-1]["content"]
    [answer] = load_predictor(deployed.bundle).predict([text])
    assert answer.text == read_known(deployed.bundle)[0].text


def test_the_cards_lines_load_it_without_torch(deployed):
    card = (deployed.bundle / "README.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(code.strip().splitlines()) == 3
    code += "import sys; assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=deployed.bundle, capture_output=True, text=True
    )
    known = read_answers(deployed.folder)[0]
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{{'{known.text}': ")


def test_the_card_says_what_it_is_and_how_sure_it_is(deployed):
    card = (deployed.bundle / "README.md").read_text()
    assert "Kind: a classifier that reads TF-IDF" in card and "one of 3 labels" in card
    right = [answer.score.exact for answer in read_answers(deployed.folder)]
    assert f"of which {sum(right) / len(right):.1%} are right" in card
    assert "library_name: stratos" in card and "pipeline_tag: text-classification" in card
    assert "transformers" not in card.partition("## How to run")[2].partition("## Limits")[0]
    assert "random weights" not in card and "## Speed" in card


def test_the_service_file_serves_it_with_what_it_needs_alone(deployed):
    script = Path(deployed.record.service_path).read_text()
    assert "python -m stratos.deploy.engines.predictor_server serve ." in script
    assert "torch" not in script and "llamacpp" not in script
    install, wheel = installs(PredictorServer(), SERVER)[::-1]
    assert "--no-deps" in wheel and "-c stratos/pins.txt" in install
    assert list((deployed.folder / "deploy" / "stratos").glob("*.whl"))


def test_what_is_installed_on_a_server_is_enough(deployed):
    """The server's code runs where no other package can be imported."""
    needed = _closure([re.split(r"[><=\[]", one)[0] for one in PredictorServer.packages])
    owners = metadata.packages_distributions()
    others = [
        name for name, of in owners.items()
        if name != "stratos" and not needed & {_plain(one) for one in of}
    ]  # fmt: skip
    assert {"torch", "transformers", "hydra", "openai"} <= set(others)
    code = (
        "import sys, importlib.abc\n"
        "class Absent(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name.partition('.')[0] in {others!r}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import uvicorn, stratos.deploy.engines.predictor_server\n"
        "from stratos import load\n"
        f"print(load({str(deployed.bundle)!r})('my card'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "card\n"), done.stderr


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _closure(names: list[str]) -> set[str]:
    """Return packages with all that they need."""
    from packaging.requirements import Requirement

    closure, queue = set[str](), [_plain(name) for name in names]
    while queue:
        if (name := queue.pop()) in closure:
            continue
        closure.add(name)
        needs = map(Requirement, metadata.requires(name) or ())
        queue += [
            _plain(need.name)
            for need in needs
            if need.marker is None or need.marker.evaluate({"extra": ""})
        ]
    return closure


def test_it_is_verified_and_a_changed_weight_is_found(deployed, tmp_path, capsys):
    verify(deployed.folder)
    assert "3 known questions answered as in the evaluation." in capsys.readouterr().out
    copy = Path(shutil.copytree(deployed.bundle, tmp_path / "bundle"))
    (copy / "student.json").write_text((copy / "student.json").read_text().replace("card", "loan"))
    with pytest.raises(StratosError, match=r"student\.json has changed"):
        verify(copy)


def test_it_is_hosted_asked_and_stopped(deployed, tmp_path):
    run, cache = str(deployed.folder), {"STRATOS_CACHE": str(tmp_path)}
    refused = stratos("serve", run, "--engine", "llamacpp", env=cache)
    assert refused.returncode == 1 and "holds no language model" in refused.stderr
    try:
        done = stratos("serve", run, env=cache)
        assert done.returncode == 0, done.stderr
        assert "It answers 3 known questions as in the evaluation." in done.stdout
        assert "is served at" in stratos("serve", run, env=cache).stdout
        status = json.loads(stratos("serve", "status", "--json", env=cache).stdout)
        assert (status["state"], status["engine"]) == ("answers", "predictor")
        assert status["n_differing"] == 0
    finally:
        assert "stopped" in stratos("serve", "stop", run, env=cache).stdout


def test_a_student_that_lacks_its_weights_is_not_bundled(deployed, tmp_path):
    student = Path(shutil.copytree(deployed.folder / "student", tmp_path / "student"))
    (student / "student.safetensors").unlink()
    with pytest.raises(StratosError, match="no weights as safetensors"):
        make_bundle(student, tmp_path / "bundle", card="x", max_new_tokens=8)
    (student / "encoder").mkdir()
    with pytest.raises(StratosError, match="and no encoder"):
        make_bundle(student, tmp_path / "bundle", card="x", max_new_tokens=8)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("kind", ["linear", "static", "encoder"])
def test_a_lone_surrogate_is_answered_as_in_a_row_of_a_file(kind, tmp_path):
    student = trained(kind, tmp_path / "pretrained")
    student.save(tmp_path / "student")
    [known] = student.predict(["my card ? is late"])
    assert student.predict(["my card \ud800 is late"]) == [known]
    loaded = Student(tmp_path / "student")
    chat = [{"role": "user", "content": "my card \udfff is late"}]
    assert loaded(chat) == loaded("my card \ud800 is late") == known.text
    assert loaded.probability(chat)[known.text] == pytest.approx(known.probability, abs=1e-5)


def test_the_encoder_of_a_student_is_in_its_bundle_without_what_is_executed(tmp_path):
    student = trained("encoder", tmp_path / "pretrained")
    student.save(tmp_path / "student")
    (tmp_path / "student" / "encoder" / "modeling.py").write_text("raise SystemExit")
    make_bundle(tmp_path / "student", tmp_path / "bundle", card="x", max_new_tokens=8)
    assert not list((tmp_path / "bundle").rglob("*.py"))
    texts = [row["text"] for row in rows(6, seed=3)]
    assert load_predictor(tmp_path / "bundle").predict(texts) == student.predict(texts)
