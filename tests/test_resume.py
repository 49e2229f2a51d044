"""When a stage record may be used again, and when it may not."""

from __future__ import annotations

import ast
import errno
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stratos import pipeline, resume
from stratos.config import STAGES
from stratos.errors import StratosError
from stratos.records import Corpus
from stratos.resume import Stage

ROOT = Path(resume.__file__).parent
CORPUS = Corpus(
    task="t", strategy="injection", path="corpus.parquet", n_items=1, n_by_slice={}, refused={},
    answer_sizes={}, items_per_s=1.0, sha256="", seconds=1.0, cpu_seconds=1.0,
)  # fmt: skip
BY_NAME: dict[str, Stage[Any]] = {
    stage.name: stage for stage in vars(pipeline).values() if isinstance(stage, Stage)
}
EVERYWHERE = {
    "__init__.py", "cluster.py", "config.py", "context.py", "elsewhere.py", "engines.py",
    "errors.py", "ledger.py", "records.py", "redact.py",
}  # fmt: skip
"""Modules that shape no record, or shape all of them."""


def config_of(**plain: Any) -> Any:
    return SimpleNamespace(plain=plain, task=object(), teachers=(), strategies=())


def mark(stage: Stage[Any], marks: dict[str, str] | None = None, **plain: Any) -> str:
    made = dict.fromkeys(marks or {}, CORPUS)
    return resume.fingerprint(stage, config_of(**plain), made, marks or {})


def test_fingerprint_is_of_what_the_stage_reads() -> None:
    stage = Stage("plan", Corpus, reads=("limits",), code=("catalog",), after=("probe",))
    first = mark(stage, {"probe": "a"}, limits={"budget_usd": 1}, trainer={"x": 1})
    assert first == mark(stage, {"probe": "a"}, limits={"budget_usd": 1}, trainer={"x": 2})
    assert first != mark(stage, {"probe": "a"}, limits={"budget_usd": 2}, trainer={"x": 1})
    assert first != mark(stage, {"probe": "b"}, limits={"budget_usd": 1}, trainer={"x": 1})
    assert first != mark(replace(stage, code=()), {"probe": "a"}, limits={"budget_usd": 1})


def test_a_key_of_a_group_is_that_of_each_of_its_candidates() -> None:
    stage = Stage("probe", Corpus, ("strategy.min_coverage",), ())
    one = mark(stage, strategy={"min_coverage": 0.5, "objective": "jsd"})
    assert one == mark(stage, strategy={"min_coverage": 0.5, "objective": "forward_kl"})
    assert one != mark(stage, strategy={"min_coverage": 0.4, "objective": "jsd"})
    several = {"a": {"min_coverage": 0.5, "n_items": 1}, "b": {"n_items": 1}}
    more = {"a": {"min_coverage": 0.5, "n_items": 2}, "b": {"n_items": 2}}
    less = {"a": {"min_coverage": 0.4, "n_items": 1}, "b": {"n_items": 1}}
    two = mark(stage, strategy={"candidates": several})
    assert two == mark(stage, strategy={"candidates": more}) != one
    assert two != mark(stage, strategy={"candidates": less})


def test_fingerprint_may_be_of_single_keys_and_of_parts_of_a_record() -> None:
    stage = Stage(
        "distill", Corpus, ("evaluate.batch_size",), (), ("plan",), only={"plan": ("task",)}
    )
    first = mark(stage, {"plan": "a"}, evaluate={"batch_size": 1, "n_items": 1})
    assert first == mark(stage, {"plan": "b"}, evaluate={"batch_size": 1, "n_items": 2})
    assert first != mark(stage, {"plan": "a"}, evaluate={"batch_size": 2, "n_items": 1})
    other = {"plan": replace(CORPUS, task="other")}
    config = config_of(evaluate={"batch_size": 1, "n_items": 1})
    assert first != resume.fingerprint(stage, config, other, {"plan": "a"})


def test_fingerprint_is_of_what_the_record_remembers() -> None:
    stage = Stage("plan", Corpus, reads=(), code=(), remembers=("strategy",))

    def of(own: Corpus | None) -> str:
        return resume.fingerprint(stage, config_of(), {}, {}, own)

    assert of(CORPUS) == of(replace(CORPUS, sha256="other"))
    assert len({of(None), of(CORPUS), of(replace(CORPUS, strategy="other"))}) == 3


def test_fingerprint_follows_the_files_that_the_config_names(tmp_path: Path) -> None:
    stage = Stage("plan", Corpus, reads=("cloud",), code=())
    catalog = tmp_path / "offers.csv"
    catalog.write_text("a")
    first = mark(stage, cloud={"catalog": ["builtin", str(catalog)]})
    assert first == mark(stage, cloud={"catalog": ["builtin", str(catalog)]})
    catalog.write_text("b")
    assert first != mark(stage, cloud={"catalog": ["builtin", str(catalog)]})


@pytest.mark.parametrize("named", ["{0}", "{0}/*/vms.csv", "{0}/aws/vms.csv,{0}/gcp/vms.csv"])
def test_fingerprint_follows_every_file_of_a_folder_or_pattern(tmp_path: Path, named: str) -> None:
    stage = Stage("plan", Corpus, reads=("cloud",), code=())
    for cloud in ("aws", "gcp"):
        (tmp_path / cloud).mkdir()
        (tmp_path / cloud / "vms.csv").write_text(cloud)
    config = {"catalog": named.format(tmp_path).split(",")}
    marks = {mark(stage, cloud=config)}
    for cloud in ("aws", "gcp"):
        (tmp_path / cloud / "vms.csv").write_text(cloud[::-1])
        marks.add(mark(stage, cloud=config))
    assert len(marks) == 3


def test_fingerprint_follows_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plan").mkdir()
    (tmp_path / "records.py").write_text("1")
    module = tmp_path / "plan" / "model.py"
    module.write_text("1")
    monkeypatch.setattr(resume, "__file__", str(tmp_path / "resume.py"))
    stage = Stage("plan", Corpus, reads=(), code=())
    marks = []
    for text in ("1", "2"):
        module.write_text(text)
        resume._digest_code.cache_clear()
        marks.append(mark(stage))
    resume._digest_code.cache_clear()
    assert marks[0] != marks[1]


def test_a_record_comes_back(tmp_path: Path) -> None:
    (tmp_path / "corpus.parquet").write_bytes(b"x")
    assert resume.find(pipeline.SYNTHESIZE, tmp_path) is None
    resume.keep(pipeline.SYNTHESIZE, tmp_path, "mark", CORPUS)
    assert resume.find(pipeline.SYNTHESIZE, tmp_path) == resume.Kept(CORPUS, "mark")


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b'{"stage": "synthesize"}'])
def test_a_corrupt_record_is_not_used(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "synthesize.json"
    path.write_bytes(damage)
    kept = resume.find(pipeline.SYNTHESIZE, tmp_path)
    assert kept is not None and kept.record is None
    assert kept.trouble.startswith(f"{path} is corrupt (")


def test_a_record_whose_files_are_gone_or_changed_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_text("12")
    named = replace(CORPUS, path=str(folder))
    resume.keep(pipeline.SYNTHESIZE, tmp_path, "mark", named)
    (folder / "c").write_text("not of the record")
    assert resume.find(pipeline.SYNTHESIZE, tmp_path) == resume.Kept(named, "mark")
    trouble = f"{tmp_path / 'synthesize.json'} names {folder / 'b'}, which is gone or was changed"
    (folder / "b").write_text("1")
    assert resume.find(pipeline.SYNTHESIZE, tmp_path) == resume.Kept(trouble=trouble)
    (folder / "b").unlink()
    assert resume.find(pipeline.SYNTHESIZE, tmp_path) == resume.Kept(trouble=trouble)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (
            errno.ENOSPC,
            "plan: no space left to write /x/y (No space left on device). Free some. The same "
            "command with hydra.run.dir=/run goes on from here.",
        ),
        (
            errno.EROFS,
            "plan: /x/y cannot be written (Read-only file system). Give another folder with "
            "hydra.run.dir=<folder>, or paths.cache_dir=<folder> for the cache.",
        ),
    ],
)
def test_a_disk_that_cannot_be_written_is_said_clearly(number: int, message: str) -> None:
    with pytest.raises(StratosError) as caught, resume.disk_errors("plan", Path("/run")):
        raise OSError(number, os.strerror(number), "/x/y")
    assert str(caught.value) == message


def test_a_full_disk_is_met_for_real() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with (
        pytest.raises(StratosError, match="no space left to write"),
        resume.disk_errors("plan", Path("/run")),
        full.open("w") as file,
    ):
        file.write("x" * 100_000)


def test_other_os_errors_are_bugs_and_stay_what_they_are() -> None:
    with pytest.raises(FileNotFoundError), resume.disk_errors("plan", Path("/run")):
        Path("/nowhere/at/all").read_text()


def _hold(path: str, held: Any) -> None:
    with resume.locked(Path(path)):
        held.set()
        time.sleep(60)


def test_a_lock_ends_with_the_process_that_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    context = multiprocessing.get_context("fork")
    held = context.Event()
    holder = context.Process(target=_hold, args=(str(path), held))
    holder.start()
    assert held.wait(30)
    with pytest.raises(BlockingIOError), resume.locked(path):
        pass
    waited: list[float] = []

    def waiting() -> None:
        waited.append(1)
        assert holder.pid is not None
        os.kill(holder.pid, signal.SIGKILL)

    with resume.locked(path, waiting):
        assert waited == [1]
    holder.join()


# --- the table in pipeline.py against the code ----------------------------------------------------


def test_the_table_has_every_stage_in_order() -> None:
    assert tuple(name for name in BY_NAME if name != "pilot") == STAGES
    assert tuple(BY_NAME) == ("probe", "pilot", *STAGES[1:])


@pytest.mark.parametrize("name", BY_NAME)
def test_code_lists_everything_that_the_stage_imports(name: str) -> None:
    listed = (name, *BY_NAME[name].code)
    assert [one for one in listed if not (ROOT / one).exists()] == []
    assert [
        path
        for path in sorted(imported(name) - EVERYWHERE)
        if not any(path == one or path.startswith(f"{one}/") for one in listed)
    ] == []


@pytest.mark.parametrize("name", [stage for stage in BY_NAME if stage != "report"])
def test_reads_lists_every_part_of_the_config_that_the_stage_reads(name: str) -> None:
    of_fields = {"teachers": "teacher", "students": "student", "strategies": "strategy"}
    used = {of_fields.get(field, field) for field in fields_read(name, "Config")}
    reads = {key.partition(".")[0] for key in BY_NAME[name].reads}
    # Where files lie does not change what is in them.
    assert used - {"paths", "run_dir", "cache_dir", "plain", "logger"} <= reads


def test_the_probe_reads_no_more_of_a_strategy_than_its_keys() -> None:
    from stratos.config import ComplexityConfig
    from stratos.probe.stage import _thresholds
    from stratos.synthesize.alignment_logits import AlignmentLogits
    from stratos.synthesize.injection import Injection

    read: set[str] = set()

    class Watched:
        def __init__(self, strategy: Any) -> None:
            self._strategy = strategy

        def __getattr__(self, name: str) -> Any:
            read.add(name)
            return getattr(self._strategy, name)

    for can_reverse in (False, True):
        config: Any = SimpleNamespace(
            strategies=(Watched(AlignmentLogits()), Watched(Injection())),
            complexity=ComplexityConfig(),
            task=SimpleNamespace(can_reverse=can_reverse),
        )
        assert _thresholds(config)
    assert {f"strategy.{name}" for name in read} <= set(BY_NAME["probe"].reads)
    assert len(read) == 3


@pytest.mark.parametrize("name", ["synthesize", "distill"])
def test_only_lists_every_field_of_the_plan_that_the_stage_reads(name: str) -> None:
    shown_only = {"roles_of"}  # what an hour costs is shown while it trains, and changes nothing
    assert fields_read(name, "Plan") - shown_only <= set(BY_NAME[name].only["plan"])


def imported(package: str) -> set[str]:
    """Return the files of stratos that a package imports, however indirectly."""
    left = [path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py")]
    found: set[str] = set()
    while left:
        path = left.pop()
        if path not in found:
            found.add(path)
            modules = imports_of(ast.parse((ROOT / path).read_text()))
            left += [file for module in modules if (file := file_of(module)) is not None]
    return found


def file_of(module: str) -> str | None:
    if module.partition(".")[0] != "stratos":
        return None
    path = Path(*module.split(".")[1:])
    for candidate in (path.with_suffix(".py") if path.name else path, path / "__init__.py"):
        if (ROOT / candidate).is_file():
            return candidate.as_posix()
    return None


def imports_of(node: ast.AST) -> list[str]:
    found: list[str] = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.ImportFrom) and child.module:
            # A name may be a module of the package as well as something inside it.
            found += [child.module, *(f"{child.module}.{alias.name}" for alias in child.names)]
        elif isinstance(child, ast.Import):
            found += [alias.name for alias in child.names]
        found += imports_of(child)
    return found


def fields_read(name: str, kind: str) -> set[str]:
    """Return the fields that a stage's own package reads of arguments of a type."""
    found: set[str] = set()
    for path in sorted((ROOT / name).rglob("*.py")):
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
