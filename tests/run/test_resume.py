"""When a stage record may be used again, and when it may not."""

from __future__ import annotations

import ast
import errno
import importlib
import json
import multiprocessing
import os
import signal
import time
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from stub_task import StubTask

from stratos.config import STAGES
from stratos.core.errors import StratosError
from stratos.core.output import disk_errors
from stratos.core.process import locked
from stratos.records import Corpus
from stratos.run import resume, stages
from stratos.run.resume import Stage
from stratos.synthesize.injection import Injection
from stratos.teachers.huggingface import HuggingFaceTeacher

ROOT = Path(resume.__file__).parents[1]
CORPUS = Corpus(
    task="t", strategy="injection", path="corpus.jsonl", n_items=1, n_by_slice={}, refused={},
    answer_sizes={}, items_per_s=1.0, sha256="", seconds=1.0, cpu_seconds=1.0,
)  # fmt: skip
BY_NAME: dict[str, Stage[Any]] = {stage.name: stage for stage in stages.STAGES}


def config_of(**plain: Any) -> Any:
    return SimpleNamespace(plain=plain, task=StubTask(), teachers=(), strategies=())


def mark(stage: Stage[Any], marks: dict[str, str] | None = None, **plain: Any) -> str:
    made = dict.fromkeys(marks or {}, CORPUS)
    return resume.fingerprint(stage, config_of(**plain), made, marks or {})


def test_fingerprint_is_of_what_the_stage_reads():
    stage = Stage("plan", "", Corpus, reads=("limits",), after=("probe",))
    first = mark(stage, {"probe": "a"}, limits={"budget_usd": 1}, trainer={"x": 1})
    assert first == mark(stage, {"probe": "a"}, limits={"budget_usd": 1}, trainer={"x": 2})
    assert first != mark(stage, {"probe": "a"}, limits={"budget_usd": 2}, trainer={"x": 1})
    assert first != mark(stage, {"probe": "b"}, limits={"budget_usd": 1}, trainer={"x": 1})
    assert first != mark(replace(stage, version=2), {"probe": "a"}, limits={"budget_usd": 1})


def test_a_key_of_a_group_is_that_of_each_of_its_candidates():
    stage = Stage("probe", "", Corpus, ("strategy.min_coverage",))
    one = mark(stage, strategy={"min_coverage": 0.5, "objective": "jsd"})
    assert one == mark(stage, strategy={"min_coverage": 0.5, "objective": "forward_kl"})
    assert one != mark(stage, strategy={"min_coverage": 0.4, "objective": "jsd"})
    several = {"a": {"min_coverage": 0.5, "n_items": 1}, "b": {"n_items": 1}}
    more = {"a": {"min_coverage": 0.5, "n_items": 2}, "b": {"n_items": 2}}
    less = {"a": {"min_coverage": 0.4, "n_items": 1}, "b": {"n_items": 1}}
    two = mark(stage, strategy={"candidates": several})
    assert two == mark(stage, strategy={"candidates": more}) != one
    assert two != mark(stage, strategy={"candidates": less})


def test_fingerprint_may_be_of_single_keys_and_of_parts_of_a_record():
    stage = Stage(
        "distill", "", Corpus, ("evaluate.batch_size",), after=("plan",), only={"plan": ("task",)}
    )
    first = mark(stage, {"plan": "a"}, evaluate={"batch_size": 1, "n_items": 1})
    assert first == mark(stage, {"plan": "b"}, evaluate={"batch_size": 1, "n_items": 2})
    assert first != mark(stage, {"plan": "a"}, evaluate={"batch_size": 2, "n_items": 1})
    other = {"plan": replace(CORPUS, task="other")}
    config = config_of(evaluate={"batch_size": 1, "n_items": 1})
    assert first != resume.fingerprint(stage, config, other, {"plan": "a"})


def test_fingerprint_follows_the_records_that_a_stage_takes_where_there_are_any():
    stage = Stage("plan", "", Corpus, reads=(), after=("probe",), uses=("pilot",))
    without = mark(stage, {"probe": "a"})
    assert without == mark(stage, {"probe": "a", "distill": "x"})  # of no concern to it
    first = mark(stage, {"probe": "a", "pilot": "b"})
    assert len({without, first, mark(stage, {"probe": "a", "pilot": "c"})}) == 3
    config = config_of()
    inputs = resume.inputs_of(stage, config, {"pilot": CORPUS}, {"pilot": "b"})
    assert inputs["upstream"] == {"pilot": "b"}


def test_fingerprint_is_of_what_the_record_remembers():
    stage = Stage("plan", "", Corpus, reads=(), remembers=("strategy",))

    def of(own: Corpus | None) -> str:
        return resume.fingerprint(stage, config_of(), {}, {}, own)

    assert of(CORPUS) == of(replace(CORPUS, sha256="other"))
    assert len({of(None), of(CORPUS), of(replace(CORPUS, strategy="other"))}) == 3


def test_fingerprint_follows_the_files_that_the_config_names(tmp_path):
    stage = Stage("plan", "", Corpus, reads=("cloud",))
    catalog = tmp_path / "offers.csv"
    catalog.write_text("a")
    first = mark(stage, cloud={"catalog": ["builtin", str(catalog)]})
    assert first == mark(stage, cloud={"catalog": ["builtin", str(catalog)]})
    catalog.write_text("b")
    assert first != mark(stage, cloud={"catalog": ["builtin", str(catalog)]})


def test_files_that_a_stage_reads_outside_of_the_run_folder(tmp_path):
    run, data = tmp_path / "run", tmp_path / "data"
    for path in (run / "corpus" / "train", data / "a.jsonl", data / "b.jsonl", data / "gpus.csv",
                 data / "elsewhere" / "train", data / "weights" / "model"):  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    plain = {"task": {"path": str(data / "*.jsonl")}, "cloud": {"gpu_file": str(data / "gpus.csv")},
             "teacher": {"path": str(data / "weights")}, "paths": {}}  # fmt: skip
    config: Any = SimpleNamespace(plain=plain, run_dir=run)
    stage = Stage("distill", "", Corpus, reads=("task",), after=("synthesize",), uses=("probe",))

    def names() -> set[str]:
        return {str(one.relative_to(tmp_path)) for one in resume.files_of(stage, config)}

    assert names() == {"data/a.jsonl", "data/b.jsonl", "data/gpus.csv"}
    for folder in ("corpus", str(data / "elsewhere")):
        corpus = replace(CORPUS, path=folder)
        resume.keep(Stage("synthesize", "", Corpus, reads=()), run, "mark", corpus)
        more = set() if folder == "corpus" else {"data/elsewhere/train"}
        assert names() == {"data/a.jsonl", "data/b.jsonl", "data/gpus.csv"} | more


@pytest.mark.parametrize("named", ["{0}", "{0}/*/vms.csv", "{0}/aws/vms.csv,{0}/gcp/vms.csv"])
def test_fingerprint_follows_every_file_of_a_folder_or_pattern(tmp_path, named):
    stage = Stage("plan", "", Corpus, reads=("cloud",))
    for cloud in ("aws", "gcp"):
        (tmp_path / cloud).mkdir()
        (tmp_path / cloud / "vms.csv").write_text(cloud)
    config = {"catalog": named.format(tmp_path).split(",")}
    marks = {mark(stage, cloud=config)}
    for cloud in ("aws", "gcp"):
        (tmp_path / cloud / "vms.csv").write_text(cloud[::-1])
        marks.add(mark(stage, cloud=config))
    assert len(marks) == 3


def test_fingerprint_is_of_the_versions_of_the_code():
    """Of the stage, and of the classes that the config names for it."""
    stage = Stage("synthesize", "", Corpus, reads=("task", "teacher", "strategy"))
    config = config_of(task={}, teacher={}, strategy={})
    config.teachers, config.strategies = (HuggingFaceTeacher("local"),), (Injection(),)

    def inputs(of: Stage[Any] = stage) -> dict[str, Any]:
        return resume.inputs_of(of, config, {}, {})

    first = inputs()
    assert first["versions"] == {
        "synthesize": 1,
        "StubTask": 1,
        "HuggingFaceTeacher": 1,
        "Injection": 1,
    }
    assert inputs(replace(stage, version=2))["versions"] == first["versions"] | {"synthesize": 2}
    assert inputs(replace(stage, reads=()))["versions"] == {"synthesize": 1}

    class Newer(Injection):
        code_version = 2

    config.strategies = (Newer(),)
    assert inputs()["versions"]["Newer"] == 2
    changed = resume.what_changed(resume.named(first), resume.named(inputs()))
    told = "the version of Newer, code of your own and the version of Injection have changed"
    assert changed == told


def test_a_short_training_of_the_pilot_is_as_old_as_what_it_runs():
    of_parts = stages.SYNTHESIZE.version + stages.DISTILL.version
    assert stages.PILOT_TRAINING.version == of_parts


def test_a_record_comes_back(tmp_path):
    (tmp_path / "corpus.jsonl").write_bytes(b"x")
    assert resume.find(stages.SYNTHESIZE, tmp_path) is None
    resume.keep(stages.SYNTHESIZE, tmp_path, "mark", CORPUS)
    assert resume.find(stages.SYNTHESIZE, tmp_path) == resume.StoredRecord(CORPUS, "mark")


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b'{"stage": "synthesize"}'])
def test_a_corrupt_record_is_not_used(tmp_path, damage):
    path = tmp_path / "synthesize.json"
    path.write_bytes(damage)
    kept = resume.find(stages.SYNTHESIZE, tmp_path)
    assert kept is not None and kept.record is None
    assert kept.trouble.startswith(f"{path} is corrupt (")


def test_a_folder_of_another_format_is_refused(tmp_path):
    resume.keep(stages.SYNTHESIZE, tmp_path, "mark", CORPUS)
    path = tmp_path / "synthesize.json"
    made = json.loads(path.read_text())
    for envelope in (
        {**made, "format": 0},
        {key: value for key, value in made.items() if key != "format"},
    ):
        path.write_text(json.dumps(envelope))
        with pytest.raises(StratosError, match="made by another version of Stratos: start anew"):
            resume.find(stages.SYNTHESIZE, tmp_path)


def test_a_record_whose_files_are_gone_or_changed_is_not_used(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_text("12")
    named = replace(CORPUS, path=str(folder))
    resume.keep(stages.SYNTHESIZE, tmp_path, "mark", named)
    (folder / "c").write_text("not of the record")
    assert resume.find(stages.SYNTHESIZE, tmp_path) == resume.StoredRecord(named, "mark")
    names = f"{tmp_path / 'synthesize.json'} names {folder / 'b'}, which"
    for text, reason in (("1", "has 1 bytes, not 2"), ("21", "has changed since")):
        (folder / "b").write_text(text)
        assert resume.find(stages.SYNTHESIZE, tmp_path).trouble.startswith(f"{names} {reason}")
    (folder / "b").unlink()
    assert resume.find(stages.SYNTHESIZE, tmp_path).trouble == f"{names} is gone"


def test_a_record_that_was_written_when_its_folder_was_gone_is_not_used(tmp_path):
    resume.keep(stages.SYNTHESIZE, tmp_path, "mark", replace(CORPUS, path=str(tmp_path / "corpus")))
    kept = resume.find(stages.SYNTHESIZE, tmp_path)
    assert kept is not None and kept.record is None
    names = f"{tmp_path / 'synthesize.json'} names {tmp_path / 'corpus'}, which is gone"
    assert kept.trouble == names


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (
            errno.ENOSPC,
            "plan: no space left to write /x/y (No space left on device). Free some. The same "
            "command with hydra.run.dir=/run resumes from here.",
        ),
        (
            errno.EROFS,
            "plan: /x/y cannot be written (Read-only file system). Give another folder with "
            "hydra.run.dir=<folder>, or paths.cache_dir=<folder> for the cache.",
        ),
    ],
)
def test_a_disk_that_cannot_be_written_is_said_clearly(number, message):
    with pytest.raises(StratosError) as caught, disk_errors("plan", Path("/run")):
        raise OSError(number, os.strerror(number), "/x/y")
    assert str(caught.value) == message


def test_a_full_disk_is_met_for_real():
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with (
        pytest.raises(StratosError, match="no space left to write"),
        disk_errors("plan", Path("/run")),
        full.open("w") as file,
    ):
        file.write("x" * 100_000)


def test_other_os_errors_are_bugs_and_stay_what_they_are():
    with pytest.raises(FileNotFoundError), disk_errors("plan", Path("/run")):
        Path("/nowhere/at/all").read_text()


def _hold(path: str, held: Any) -> None:
    with locked(Path(path)):
        held.set()
        time.sleep(60)


@pytest.mark.kill
def test_a_lock_ends_with_the_process_that_holds_it(tmp_path):
    path = tmp_path / "lock"
    context = multiprocessing.get_context("fork")
    held = context.Event()
    holder = context.Process(target=_hold, args=(str(path), held))
    holder.start()
    assert held.wait(30)
    with pytest.raises(BlockingIOError), locked(path):
        pass
    waited: list[float] = []

    def waiting() -> None:
        waited.append(1)
        assert holder.pid is not None
        os.kill(holder.pid, signal.SIGKILL)

    with locked(path, waiting):
        assert waited == [1]
    holder.join()


def test_fingerprint_follows_what_a_users_own_task_rests_on(tmp_path, monkeypatch):
    """Its base class among our tasks, the user's modules that it imports, rows by any key.

    Also those of which it takes a plain value, and those that it imports in a function.
    """
    (tmp_path / "my_helper.py").write_text("def word(): return 1\n")
    (tmp_path / "my_task.py").write_text(
        "from my_helper import word\n"
        "from stratos.tasks.mahjong.task import MahjongTask\n\n"
        "from my_package.names import LABELS\n\n"
        "class Mine(MahjongTask):\n"
        "    def limit(self):\n"
        "        from my_lazy import LIMIT\n"
        "        return LIMIT\n"
    )
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").write_text("")
    (tmp_path / "my_package" / "names.py").write_text("from . import deep\nLABELS = ['a']\n")
    (tmp_path / "my_package" / "deep.py").write_text("LABELS = ['b']\n")
    (tmp_path / "my_lazy.py").write_text("LIMIT = 1\n")
    (tmp_path / "rows.jsonl").write_text("1")
    monkeypatch.syspath_prepend(str(tmp_path))
    task = importlib.import_module("my_task").Mine()
    plain = {"task": {"table": str(tmp_path / "rows.jsonl")}}
    config: Any = SimpleNamespace(plain=plain, task=task, teachers=(), strategies=())

    def now() -> str:
        return resume.fingerprint(stages.SYNTHESIZE, config, {}, {})

    before = now()
    assert now() == before
    for name, text in (
        ("my_helper.py", "def word(): return 22\n"),
        ("my_package/names.py", "from . import deep\nLABELS = ['a', 'c']\n"),
        ("my_package/deep.py", "LABELS = ['b', 'd']\n"),
        ("my_lazy.py", "LIMIT = 20\n"),
        ("rows.jsonl", "1\n2"),
    ):
        (tmp_path / name).write_text(text)
        after = now()
        assert after != before, name
        before = after


# --- the table of stages against the code ---------------------------------------------------------


def test_the_table_has_every_stage_in_order():
    added = [stage.name for stage in stages.ADDED]  # by rooms of contrib
    assert tuple(BY_NAME) == ("probe", "pilot", *STAGES[1:-1], *added, STAGES[-1])


def test_a_short_training_of_the_pilot_rests_on_what_its_corpus_and_its_training_do():
    for stage in (stages.SYNTHESIZE, stages.DISTILL):
        assert set(stage.reads) <= set(stages.PILOT_TRAINING.reads)


@pytest.mark.parametrize("name", [stage for stage in BY_NAME if stage != "report"])
def test_reads_lists_every_part_of_the_config_that_the_stage_reads(name):
    of_fields = {"teachers": "teacher", "students": "student", "strategies": "strategy"}
    used = {of_fields.get(field, field) for field in fields_read(name, "Config")}
    reads = {key.partition(".")[0] for key in BY_NAME[name].reads}
    # Where files lie does not change what is in them, nor for how long one may wait for them.
    free = {"paths", "run_dir", "cache_dir", "plain", "logger"}
    free |= {"limits"} if name == "distill" else set()
    # A plan warns of nodes that it does not know, where stages of them are asked for.
    free |= {"stages"} if name == "plan" else set()
    # What rooms add is one of the ways that a plan shows; another one trains nothing anew.
    free |= {"rooms"}
    # The price of a job's servers is shown while it trains.
    free |= {"executor"} if name == "distill" else set()
    # Whether there is a cascade at all is asked before it begins.
    free |= {"deploy"} if name == "cascade" else set()
    assert used - free <= reads


def test_the_probe_reads_no_more_of_a_strategy_than_its_keys():
    from stratos.config import ComplexityConfig
    from stratos.probe.stage import _thresholds
    from stratos.synthesize.alignment import AlignmentLogits
    from stratos.synthesize.injection import Injection
    from stratos.synthesize.strategy import Strategy

    read: set[str] = set()

    def watched(cls: type[Strategy]) -> Strategy:
        """Return one that notes which of its settings are read, by itself too."""
        names = {one.name for one in fields(cls)}

        class Watched(cls):  # type: ignore[valid-type, misc]
            def __getattribute__(self, name: str) -> Any:
                if name in names:
                    read.add(name)
                return super().__getattribute__(name)

        made: Strategy = Watched()
        read.clear()  # what its own checks read
        return made

    strategies = (watched(AlignmentLogits), watched(Injection))
    for can_reverse in (False, True):
        assert _thresholds(StubTask(can_reverse=can_reverse), strategies, ComplexityConfig())
    assert {f"strategy.{name}" for name in read} <= set(BY_NAME["probe"].reads)
    assert read == {"min_coverage", "min_coverage_beside_injection"}


@pytest.mark.parametrize("name", ["synthesize", "distill"])
def test_only_lists_every_field_of_the_plan_that_the_stage_reads(name):
    shown_only = {"roles_of"}  # what an hour costs is shown while it trains, and changes nothing
    assert fields_read(name, "Plan") - shown_only <= set(BY_NAME[name].only["plan"])


def own_files(name: str) -> list[Path]:
    """Return the files of a stage's own package, without those of other stages and checks."""
    folder = ROOT.joinpath(*BY_NAME[name].function.partition(":")[0].split(".")[1:]).parent
    others = {"probe": ("pilot",), "synthesize": ("declared.py",)}.get(name, ())
    return sorted(
        path
        for path in (ROOT / name if name == "report" else folder).rglob("*.py")
        if path.relative_to(folder).parts[0] not in others
    )


def fields_read(name: str, kind: str) -> set[str]:
    """Return the fields that a stage's own package reads of arguments of a type."""
    found: set[str] = set()
    files = own_files(name)
    assert files
    for path in files:
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, ast.FunctionDef):
                continue
            typed = {
                argument.arg
                for argument in (*function.args.args, *function.args.kwonlyargs)
                if argument.annotation is not None and ast.unparse(argument.annotation) == kind
            }
            found |= {
                node.attr
                for node in ast.walk(function)
                if isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id in typed
            }
    return found


@pytest.mark.parametrize(
    ("new", "said"),
    [
        ({"limits.budget_usd": "b"}, "limits.budget_usd has changed"),
        ({"limits.budget_usd": "b", "the record of probe": "b"},
         "limits.budget_usd and the record of probe have changed"),
        ({"a": "1", "limits.budget_usd": "b", "the record of probe": "b", "seed": "b"},
         "limits.budget_usd, the record of probe, seed and 1 other input have changed"),
    ],
)  # fmt: skip
def test_a_record_says_which_of_its_inputs_have_changed(new, said):
    old = {"limits.budget_usd": "a", "the record of probe": "a", "seed": "a"}
    assert resume.what_changed(old, old | new) == said


def test_inputs_are_named_to_the_key_and_tell_no_value():
    named = resume.named(
        {
            "config": {"limits": {"budget_usd": 20.0, "hours": None}, "seed": 0, "teacher": {}},
            "files": [("task.path", "d1"), ("task.path", "d2")],
            "upstream": {"probe": "d2"},
            "versions": {"plan": 1},
            "user_code": "d4",
            "seen": [],
        }
    )
    assert list(named) == [
        "limits.budget_usd", "limits.hours", "seed", "teacher", "the content of task.path",
        "the record of probe", "the version of plan", "code of your own",
        "what other runs have left",
    ]  # fmt: skip
    assert all(len(one) == 6 for one in named.values())


def test_the_first_of_several_files_of_a_key_is_named_as_the_last_is():
    def of(first: str, last: str) -> dict[str, str]:
        files = [("cloud.catalog", first), ("cloud.catalog", last)]
        rest = {"config": {}, "upstream": {}, "versions": {}, "user_code": "", "seen": []}
        return resume.named({"files": files, **rest})

    for other in (of("x", "b"), of("a", "x")):
        said = resume.what_changed(of("a", "b"), other)
        assert said == "the content of cloud.catalog has changed"
