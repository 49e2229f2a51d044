"""Exports are made, served by the real engine, and compared with the evaluation item by item."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from in_process import stratos
from tiny_run import tiny_context

from stratos.config import DeployConfig, LimitsConfig
from stratos.core import extras
from stratos.core.errors import StratosError
from stratos.deploy.bundle_server import serving_bundle
from stratos.deploy.card import with_exports
from stratos.deploy.engines.base import NotInstalled, export_path
from stratos.deploy.engines.chat_ids import ChatIds
from stratos.deploy.engines.hugging_face import Transformers
from stratos.deploy.engines.llamacpp import LlamaCpp
from stratos.deploy.exports import chosen_format, make_exports, read_exports
from stratos.deploy.hosted_server import state_of
from stratos.deploy.hosting import keep_hosted
from stratos.deploy.manifest import check_manifest
from stratos.deploy.server import ServeError
from stratos.deploy.stage import _engine_and_exports, deploy
from stratos.deploy.trial import engine_here, with_format
from stratos.evaluate.answers import read_answers
from stratos.records import Interval, ServingSetting
from stratos.report.run_verdict import LimitMissed, missed_limit

ENGINE = LlamaCpp(at_once=4, formats=("f32", "q8_0"), format="q8_0")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(ENGINE.unusable() is not None, reason=str(ENGINE.unusable())),
]


class Deployed:
    """A run whose student was exported, and what the stage said."""

    def __init__(self, run: Any, folder: Path) -> None:
        shutil.copytree(run.folder, folder)
        self.folder, self.task, self.warnings = folder, run.config.task, list[str]()
        self.context = tiny_context(folder, warn=self.warnings.append)
        self.config = replace(
            run.config, deploy=replace(run.config.deploy, engine=ENGINE, load_seconds=0)
        )
        record = deploy(self.config, run.plan, run.scorecard, run.student, self.context)
        assert record is not None
        self.record, self.bundle = record, Path(record.bundle_path)

    def exports(self, bundle: Path, engine: LlamaCpp, answers: Any, **options: Any) -> Any:
        """Make exports of another bundle."""
        options = {"max_tokens": 64, "max_loss_points": 1.0, **options}
        return make_exports(bundle, engine, answers, self.task, self.context, **options)


@pytest.fixture(scope="module")
def deployed(run: Any, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    return Deployed(run, tmp_path_factory.mktemp("exported") / "run")


def test_every_format_answers_the_items_of_the_evaluation(deployed):
    answers = read_answers(deployed.folder)
    exports = deployed.record.exports
    assert exports is not None and exports == read_exports(deployed.bundle)
    assert exports.engine == "llamacpp" and exports.version.startswith("xllamacpp 20")
    assert [export.format for export in exports.formats] == ["f32", "q8_0"]
    whole = exports.formats[0]
    assert whole.n_equal == whole.n_items == len(answers)
    assert whole.loss_points.mean == 0 and whole.loss_points.low < 0 < whole.loss_points.high
    assert whole.p_value == 1.0 and whole.exact == whole.evaluated
    assert whole.known == tuple(answer.text for answer in answers[:3])
    for export in exports.formats:
        path = export_path(deployed.bundle, f"{export.format}.gguf")
        assert export.is_kept and export.n_bytes == path.stat().st_size
        assert 0 < export.latency_p50_ms <= export.latency_p95_ms and export.requests_per_s > 0
        assert 20 < export.memory_mib < 2000
    # Words looked up in a list are nothing that GGUF knows.
    assert exports.note.startswith("The files take token ids alone")


def test_the_served_answers_are_compared_and_the_card_has_the_table(deployed):
    assert deployed.record.run is not None and deployed.record.run.engine == "llamacpp"
    assert deployed.record.run.format == "q8_0"
    assert deployed.record.n_equal >= 10  # of 12
    card = (deployed.bundle / "README.md").read_text()
    assert card.index("## Speed") < card.index("## Exports") < card.index("## Limits")
    [row] = re.findall(r"^\| f32 .*$", card, re.M)
    assert "| 0.0 [-" in row and "/s, 4 in flight |" in row
    assert "--engine llamacpp --format q8_0" in card
    assert check_manifest(deployed.bundle) > 10


@pytest.fixture
def copied(deployed: Deployed, tmp_path: Path) -> Path:
    """A bundle of one's own to change."""
    return Path(shutil.copytree(deployed.bundle, tmp_path / "bundle"))


def test_a_format_that_loses_too_much_is_left_out_and_the_served_one_refused(deployed, copied):
    # An evaluation that was right where the export is not: on a fifth of the items.
    answers = read_answers(deployed.folder)
    answers[::5] = [replace(a, text=f"{a.text} ; 1", gold="x") for a in answers[::5]]
    loss = 100 * sum(answer.score.exact >= 1 for answer in answers[::5]) / len(answers)
    assert loss > 5
    alone = replace(ENGINE, formats=(), format="f32")
    with pytest.raises(StratosError) as refused:
        deployed.exports(copied, alone, answers)
    assert str(refused.value).startswith(f"f32 for llama.cpp loses {loss:.1f} points ")
    assert str(refused.value).endswith(f"deploy.max_loss_points={loss:.1f}.")
    assert not export_path(copied, "f32.gguf").exists()
    [allowed] = deployed.exports(copied, alone, answers, max_loss_points=100.0).formats
    assert allowed.loss_points.mean == pytest.approx(loss)
    assert allowed.loss_points.low > 0 and allowed.p_value < 0.05


def test_a_format_that_the_widths_do_not_allow_is_said(deployed, copied):
    engine = LlamaCpp(formats=(), format="q4_k_m")
    with pytest.raises(StratosError, match=r"q4_k_m for llama\.cpp: .* 256 .* 32 and 64"):
        deployed.exports(copied, engine, read_answers(deployed.folder)[:2])


@pytest.fixture
def other_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's tokenizer makes other tokens than that of the evaluation."""
    monkeypatch.setattr(ChatIds, "ids", lambda self, chat: [2, 5])


def test_tokens_that_are_not_those_of_transformers_are_refused(deployed, copied, other_tokens):
    with pytest.raises(StratosError, match=r"evaluation had \(question 1, token 2: \d+ \("):
        deployed.exports(copied, ENGINE, read_answers(deployed.folder)[:2])


def typed(*words: str, cache: Path) -> Any:
    return stratos(*words, env={"STRATOS_CACHE": str(cache)})


def test_it_is_hosted_by_the_engine_and_stopped(deployed, tmp_path):
    done = typed("serve", str(deployed.bundle), "--engine", "llamacpp", cache=tmp_path)
    assert done.returncode == 0, done.stderr
    try:
        how = r"\w+ did when it was exported; \d of them as in the evaluation"
        assert re.search(rf"It answers 3 known questions as {how}\.", done.stdout), done.stdout
        run, eight = deployed.record.run, replace(ENGINE.setting(), slots=8)
        assert run is not None
        hosted, ran = keep_hosted(deployed.bundle.resolve(), tmp_path, run=eight)
        assert ran
        # Another format takes its place, on the same port.
        whole = replace(run, format="f32")
        now, ran = keep_hosted(deployed.bundle.resolve(), tmp_path, run=whole)
        assert not ran and now.port == hosted.port and "f32" in now.arguments
    finally:
        stopped = typed("serve", "stop", "--all", cache=tmp_path)
    assert "stopped" in stopped.stdout


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("--format", "q4_k_m"), "has no q4_k_m export for llama.cpp: it has f32, q8_0. The "
         "command of its run makes it, with deploy=llamacpp deploy.engine.format=q4_k_m added."),
        (("--engine", "transformers", "--format", "q8_0"), "--format q8_0: transformers serves "
         "the bundle as it is. Add --engine llamacpp, or leave the format out."),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_said(deployed, tmp_path, argv, told):
    done = typed("serve", str(deployed.bundle), *argv, cache=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip().endswith(told)


def test_verify_asks_each_export(deployed, tmp_path):
    done = typed("verify", str(deployed.bundle), cache=tmp_path)
    assert done.returncode == 0, done.stderr
    for form in ("f32", "q8_0"):
        assert f"{form}: 3 known questions answered by " in done.stdout


def test_an_engine_that_is_not_installed_is_said(deployed, monkeypatch):
    monkeypatch.setattr(LlamaCpp, "needs", ("no_such_module", "gguf"))
    why = NotInstalled("llama.cpp", extras.install("llamacpp"))
    assert LlamaCpp().unusable() == why
    with pytest.raises(StratosError, match=re.escape(str(why))):
        keep_hosted(deployed.bundle, deployed.folder, run=ENGINE.setting())
    assert not state_of(deployed.bundle, deployed.folder).exists()


def test_an_engine_that_dies_at_its_start_is_said_with_its_last_lines(copied, tmp_path):
    export_path(copied, "q8_0.gguf").write_bytes(b"GGUF and nothing else")
    with (
        pytest.raises(ServeError, match=r"ended with code 1 [^$]*\n  llama\.cpp cannot load"),
        serving_bundle(copied, ENGINE.setting(), tmp_path / "log"),
    ):
        pass


def test_the_weights_that_the_server_loads_are_recorded(deployed):
    record = deployed.record
    assert record.served is not None and record.served.format == record.run.format
    file = ENGINE.file_of(Path(record.bundle_path), record.served.format)
    assert record.model_mb == pytest.approx(file.stat().st_size / 1e6)


def test_the_planned_format_gives_way_to_one_that_loses_less(deployed):
    held = deployed.record.exports
    assert held is not None
    whole, small = held.formats
    engine = LlamaCpp().as_planned(ServingSetting("llamacpp", 8, format="q8_0"))
    assert isinstance(engine, LlamaCpp) and engine.exports == ("q8_0", "f32")
    said: list[str] = []
    context = tiny_context(deployed.folder, warn=said.append)
    assert chosen_format(engine, held, context) == "q8_0" and not said
    lost = replace(held, formats=(whole, replace(small, is_kept=False)))
    assert chosen_format(engine, lost, context) == "f32"
    lossy = "q8_0 for llama.cpp loses more than deploy.max_loss_points."
    assert said.pop().startswith(f"f32 is served in place of q8_0: {lossy}")
    none = replace(held, formats=tuple(replace(one, is_kept=False) for one in held.formats))
    assert chosen_format(engine, none, context) is None
    assert said.pop().startswith(
        f"The bundle's own weights, by transformers, are served in place of q8_0: {lossy}"
    )
    assert "stratos serve" not in with_exports("## Limits", none)


def test_what_is_served_keeps_the_accuracy_limit(deployed):
    """A format that breaks the limit gives way to the smallest that keeps it."""
    held = deployed.record.exports
    assert held is not None
    whole, small = (
        replace(one, evaluated=Interval(0.95, 0.93, 0.97), n_items=1000) for one in held.formats
    )
    f32 = replace(whole, exact=Interval(0.948, 0.93, 0.96))
    f16 = replace(whole, format="f16", n_bytes=whole.n_bytes // 2, exact=f32.exact)
    q8_0 = replace(small, exact=Interval(0.941, 0.92, 0.95))
    held = replace(held, formats=(f32, q8_0, f16))
    said: list[str] = []
    context = tiny_context(deployed.folder, warn=said.append)

    def chosen(least: float, may_change: bool = True) -> str | None:
        return chosen_format(ENGINE, held, context, least_accuracy=least, may_change=may_change)

    assert chosen(0.94) == "q8_0" and not said
    assert chosen(0.945) == "f16", "the smallest that keeps it"
    assert said[0].startswith("f16 is served in place of q8_0: ")
    assert "breaks limits.accuracy=0.945. " in said.pop()
    with pytest.raises(
        StratosError, match=r"0\.945\. Serve another with deploy\.engine\.format=f16"
    ):
        chosen(0.945, may_change=False)
    assert chosen(0.949) is None, "no file keeps it, and the bundle does"
    with pytest.raises(StratosError, match=r"Serve another with deploy=transformers\."):
        chosen(0.949, may_change=False)
    said.clear()
    assert chosen(0.96) == "q8_0" and not said, "the student itself breaks it"


def test_a_slow_student_is_asked_fewer_items(deployed, copied):
    answers = read_answers(deployed.folder)
    assert len(answers) > 24
    engine = LlamaCpp().as_planned(ServingSetting("llamacpp", 4, format="q8_0"))

    def n_items(**limit: float) -> dict[str, int]:
        exports = deployed.exports(
            copied, engine, answers, minutes=0.0001, may_change=True, **limit
        )
        return {export.format: export.n_items for export in exports.formats}

    assert n_items() == {"q8_0": 24}
    assert n_items(least_accuracy=0.5) == {"q8_0": len(answers)}
    # None keeps such a limit, and all are made to tell.
    assert n_items(least_accuracy=1.1) == {"q8_0": len(answers), "f32": len(answers)}


def planned(run: Any, form: str) -> Any:
    """The plan, with llama.cpp as its engine."""
    serve = replace(run.plan.role("serve"), run=ServingSetting("llamacpp", 4, format=form))
    return replace(run.plan, roles=(*(one for one in run.plan.roles if one.role != "serve"), serve))


AUTO = DeployConfig(
    n_requests=4, load_seconds=0, engines={"a": Transformers(), "b": LlamaCpp(formats=("f32",))}
)


def test_transformers_serves_what_the_planned_engine_cannot(
    run, tmp_path, other_tokens, monkeypatch
):
    shutil.copytree(run.folder, tmp_path / "run")
    said: list[str] = []
    context = tiny_context(tmp_path / "run", warn=said.append)
    config, plan = replace(run.config, deploy=AUTO), planned(run, "q8_0")
    record = deploy(config, plan, run.scorecard, run.student, context)
    assert record is not None and record.run == ServingSetting("transformers")
    assert record.n_equal == 4 and record.exports is None and record.served is None
    [warning] = said
    assert warning.startswith("transformers serves the student: ") and "llama.cpp" in warning
    service = Path(record.service_path).read_text()
    assert "transformers serve ." in service and "llama_server" not in service
    monkeypatch.setattr(LlamaCpp, "needs", ("no_such_module",))
    setting, exports = _engine_and_exports(config, plan, tmp_path, [], context)
    assert setting == ServingSetting("transformers") and exports is None
    assert " as q8_0. llama.cpp is not " in said[1]


def test_with_a_limit_all_items_are_asked_and_the_verdict_is_about_the_format(run, tmp_path):
    shutil.copytree(run.folder, tmp_path / "run")
    context = tiny_context(tmp_path / "run")
    config = replace(
        run.config, deploy=replace(AUTO, n_export_items=3), limits=LimitsConfig(accuracy=0.999)
    )
    record = deploy(config, planned(run, "q8_0"), run.scorecard, run.student, context)
    assert record is not None and record.served is not None
    n_items = len(read_answers(run.folder))
    assert record.served.n_items == n_items > 3
    # It keeps the limit, so that no other is made.
    assert [one.format for one in record.exports.formats] == ["q8_0"]
    assert not export_path(Path(record.bundle_path), "f32.gguf").exists()

    def missed(exact: Interval) -> LimitMissed | None:
        served = replace(record.served, exact=exact)
        held = replace(record, exports=replace(record.exports, formats=(served,)))
        return missed_limit(config.limits, {"evaluate": run.scorecard, "deploy": held})

    assert run.scorecard.score("student").slice().exact.mean == 1.0
    assert missed(Interval(0.9995, 0.99, 1.0)) is None
    low = Interval(0.9, 0.8, 0.95)
    assert missed(low) == LimitMissed(0.999, low, "q8_0", whole=1.0)


def test_the_engine_of_the_plan_is_served(run, monkeypatch):
    plan = planned(run, "f16")
    serve = plan.role("serve")
    settings = DeployConfig(engines={"a": Transformers(), "b": LlamaCpp()})
    engine = engine_here(settings, plan)
    assert engine is not None
    assert engine.setting() == ServingSetting("llamacpp", slots=4, format="f16")
    assert engine_here(DeployConfig(engine=ENGINE), plan) is ENGINE
    assert engine_here(DeployConfig(), plan) is None
    [whole] = with_format([serve], ServingSetting("llamacpp", 4, format="f32"))
    assert whole.run is not None and (whole.run.format, whole.run.slots) == ("f32", 4)
    [other] = with_format([serve], ServingSetting("transformers"))
    assert other.run == ServingSetting("transformers"), "no file could be served"
    monkeypatch.setattr(LlamaCpp, "needs", ("no_such_module",))
    with pytest.raises(StratosError, match=r"The plan serves the student as f16\. llama"):
        engine_here(settings, plan)
