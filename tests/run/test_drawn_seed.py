"""The seed of a command that was typed none: new for each run, and kept by all that go on."""

from __future__ import annotations

import re
from pathlib import Path

import in_process
import pytest
from copied import folder, synced
from hydra._internal.utils import get_args_parser

from stratos.cli.check import check
from stratos.core.errors import ConfigError
from stratos.run.drawn_seed import VARIABLE, drawn_seed

FAST = ("logger=none", "+task=mahjong", "cloud=aws", "stages=[plan]")


@pytest.fixture(autouse=True)
def _none_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)


def test_a_new_run_takes_the_time_and_keeps_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert drawn_seed(run, now=1_764_620_000.7) == 1_764_620_000
    folder(run, {".hydra/config.yaml": b"probe:\n  seed: 3\nseed: 1764620000\nplan:\n  seed: 4\n"})
    assert drawn_seed(run, now=1_764_620_009) == 1_764_620_000
    assert drawn_seed(tmp_path, now=1_764_620_009) == 1_764_620_000, "a sweep has that of its jobs"


def test_another_machine_has_the_seed_of_the_copy(tmp_path: Path, warned: list[str]) -> None:
    url = f"file://{tmp_path}/copy"
    assert drawn_seed(tmp_path / "empty", url, now=8) == 8
    synced(folder(tmp_path / "run", {".hydra/config.yaml": b"seed: 7\n"}), url, warned)
    assert drawn_seed(tmp_path / "empty", url, now=8) == 7


def test_who_reads_records_has_their_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "run", {".hydra/config.yaml": b"seed: 7\n"})
    assert drawn_seed(tmp_path / "empty", records=tmp_path / "run", now=8) == 7
    monkeypatch.chdir(tmp_path)
    words = ["+task=mahjong", "cloud=local", "paths.records_from=run"]
    for more in ((), ("-m", "student=stratos_300k,stratos_1m")):
        unseeded = check(get_args_parser().parse_args([*more, *words]))
        assert unseeded is not None and unseeded.records == Path("run")


def test_the_environment_has_one_for_all_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "5")
    assert drawn_seed(tmp_path) == 5
    for wrong in ("-1", "x", "4294967296", "٣"):
        monkeypatch.setenv(VARIABLE, wrong)
        with pytest.raises(ConfigError, match=VARIABLE):
            drawn_seed(tmp_path)


@pytest.mark.parametrize(
    ("words", "is_drawn"),
    [
        (("+task=mahjong",), True),
        (("+task=mahjong", "seed=null"), True),
        (("-m", "+task=mahjong", "student=stratos_300k,stratos_1m"), True),
        (("+task=mahjong", "seed=0"), False),
        (("-m", "+task=mahjong", "seed=1,2"), False),
        (("+task=classify", "task.path=rows.csv"), False),
    ],
)
def test_only_a_task_that_makes_its_items_needs_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], is_drawn: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = (f"a question of number {i},{'bug' if i % 2 else 'praise'}" for i in range(100))
    Path("rows.csv").write_text("\n".join(["text,label", *lines]))
    unseeded = check(get_args_parser().parse_args([*words, "cloud=local"]))
    assert (unseeded is not None) == is_drawn


def seed_of(run: Path) -> int:
    match = re.search(r"^seed: (\d+)$", (run / ".hydra" / "config.yaml").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1])


def test_the_same_command_goes_on_with_its_seed_and_the_page_repeats_it(probed: Path) -> None:
    argv = (*FAST[:-1], "stages=[plan,report]", f"hydra.run.dir={probed}")
    first = in_process.stratos(*argv, cwd=probed.parent)
    assert first.returncode == 0, first.stderr
    seed = seed_of(probed)
    assert seed > 1_700_000_000 and f"to repeat them: seed={seed}" in " ".join(first.stdout.split())
    assert f"seed={seed}" in (probed / "report.html").read_text()
    again = in_process.stratos(*argv, cwd=probed.parent)
    assert seed_of(probed) == seed
    assert " ".join(again.stdout.split()).count("(made before)") == 2, "probe, plan"


@pytest.mark.slow
def test_the_jobs_of_a_sweep_share_one(probed: Path) -> None:
    done = in_process.stratos(
        "-m", *FAST, f"paths.records_from={probed}", "hydra.sweep.dir=sweep",
        "objective=cheapest,fastest", cwd=probed.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seeds = {seed_of(probed.parent / "sweep" / job) for job in ("0", "1")}
    assert len(seeds) == 1 and seeds != {0}
