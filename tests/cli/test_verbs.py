"""One command: its verbs, what their help says, and how each of them ends."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from stratos.cli import verbs
from stratos.cli.commands import run as main_job
from stratos.cli.verbs import HIDDEN, HYDRA, OURS, commands, summaries
from stratos.core.errors import ConfigError, StratosError, UsageError
from stratos.core.extensions import Command, Extension
from tests.checked import shape
from tests.in_process import stratos

DAY = (*HYDRA, *OURS)
"""Verbs of the core; docs/commands.md has their order, and a test compares it."""


@pytest.fixture
def words_of_hydra(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What is handed to the main job, which is not run."""
    words: list[list[str]] = []
    monkeypatch.setattr(main_job, "_obey", lambda args: words.append(sys.argv[1:]))
    return words


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A verb `fail` of some contrib room; its module raises `error`."""
    module = ModuleType("failing")

    def run(args: object) -> None:
        raise module.error

    module.add_arguments = lambda parser: parser.add_argument("--mine")  # type: ignore[attr-defined]
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "failing", module)
    extension = Extension(commands={"fail": Command("fails", "failing", failure=7)})
    monkeypatch.setattr(verbs, "extensions", lambda: (extension,))
    return module


def test_verbs_stand_in_the_order_of_a_day():
    shown = list(summaries())
    assert tuple(shown[: len(DAY)]) == DAY
    assert not HIDDEN.keys() & set(shown)


def test_a_room_that_is_there_adds_its_verbs_in_the_order_of_their_ranks(monkeypatch):
    rooms = (
        Extension(commands={"late": Command("b", "x", rank=2)}),
        Extension(commands={"soon": Command("a", "y", rank=1)}),
    )
    monkeypatch.setattr(verbs, "extensions", lambda: rooms)
    assert list(summaries()) == [*DAY, "soon", "late"]
    monkeypatch.setattr(verbs, "extensions", lambda: ())
    assert list(summaries()) == list(DAY)


@pytest.mark.parametrize("verb", sorted({**commands(), **HIDDEN}))
def test_every_verb_says_what_it_takes(verb):
    done = stratos(verb, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: stratos {verb} ")
    command = {**commands(), **HIDDEN}[verb]
    assert callable(importlib.import_module(command.module).run)
    assert stratos(verb, "--no-such-option", "x").returncode == 2


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("", ""),
        ("+task=mahjong cloud=aws", "+task=mahjong cloud=aws"),
        ("-m seed=1,2", "-m seed=1,2"),
        ("~cloud", "~cloud"),
        ("run +task=mahjong", "+task=mahjong"),
        ("run", ""),
        ("--cfg job", "--cfg job"),
        ("plan +task=mahjong", "stages=[probe,plan] +task=mahjong"),
        ("plan -m +task=mahjong seed=1,2", "-m stages=[probe,plan] +task=mahjong seed=1,2"),
        ("plan --config-dir a", "--config-dir a stages=[probe,plan]"),
        ("plan +task=mahjong stages=[plan]", "+task=mahjong stages=[plan]"),
        ("plan --help trainer", "--help trainer"),
    ],
)
def test_overrides_are_a_run_and_a_plan_stops_early(typed, words, words_of_hydra):
    assert stratos(*typed.split()).returncode == 0
    assert words_of_hydra == [words.split()]


@pytest.mark.parametrize(("typed", "meant"), [("statu", "status"), ("Compare", "compare")])
def test_an_unknown_verb_names_the_one_that_was_meant(typed, meant):
    done = stratos(typed, "outputs/run")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"Did you mean {meant}" in done.stderr


def test_the_words_of_an_unknown_verb(snapshot):
    assert shape(stratos("mahjong").stderr) == snapshot


@pytest.mark.parametrize(("error", "code"), [(StratosError("no"), 7), (ConfigError("no"), 2)])
def test_there_is_one_way_to_fail(failing, error, code):
    failing.error = error  # type: ignore[attr-defined]
    done = stratos("fail")
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "no\n")


def test_words_that_do_not_go_together_are_told_with_the_usage(failing):
    failing.error = UsageError("--mine needs another")  # type: ignore[attr-defined]
    done = stratos("fail", "--mine", "1")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "usage: stratos fail [-h] [--mine MINE]", "stratos fail: error: --mine needs another"
    ]  # fmt: skip


def test_a_command_is_shown_without_its_secrets(failing, monkeypatch):
    monkeypatch.setenv("MY_API_KEY", "very-secret-value")
    failing.error = StratosError("it took very-secret-value")  # type: ignore[attr-defined]
    assert stratos("fail").stderr == "it took ***\n"


@pytest.mark.parametrize("words", [["status"], ["compare", "--help"], ["nothing"]])
def test_a_verb_imports_what_it_needs_alone(tmp_path, words):
    """`python -m stratos` and `stratos` are one; neither loads Hydra or torch for another verb."""
    code = (
        "import sys; from stratos.__main__ import main\n"
        f"try: code = main({words!r})\n"
        "except SystemExit as end: code = end.code\n"
        "print(code, sorted({'hydra', 'torch', 'pulp'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == f"{2 if words == ['nothing'] else 0} []"


def test_a_flag_may_stand_before_its_verb(words_of_hydra, failing):
    assert stratos("-m", "plan", "+task=classify", "seed=1,2").returncode == 0
    assert words_of_hydra == [["stages=[probe,plan]", "+task=classify", "seed=1,2", "-m"]]
    assert "--json: there is no such option" in stratos("--json", "fail").stderr
    assert "Did you mean status" in stratos("--json", "statsu").stderr


def test_json_may_stand_before_its_verb(tmp_path):
    for words in (("--json", "status", str(tmp_path)), ("status", "--json", str(tmp_path))):
        done = stratos(*words)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("words", [["help", "gate"], ["--help", "gate"], ["gate", "--help"]])
def test_help_of_a_verb_may_stand_before_it(words):
    done = stratos(*words)
    assert (done.returncode, done.stdout.startswith("usage: stratos gate")) == (0, True)


def test_help_of_a_group_of_a_room_is_that_of_the_group():
    assert stratos("--help", "cascade").stdout.startswith("cascade\n")
    assert stratos("help").stdout == stratos("--help").stdout


@pytest.mark.parametrize("words", [["vet.csv"], ["run", "vet.csv"], ["plan", "a/vet.JSONL"]])
def test_a_file_typed_as_an_override_says_what_to_type(words):
    done, path = stratos(*words), words[-1]
    assert done.returncode == 2
    assert f"stratos run +task=classify task.path={path}" in done.stderr
    assert f"stratos look {path}" in done.stderr and "EQUAL" not in done.stderr


@pytest.mark.parametrize("words", [["--jsn", "+task=mahjong"], ["run", "--jsn"], ["plan", "--jsn"]])
def test_a_flag_that_there_is_not_names_the_one_that_was_meant(words):
    done = stratos(*words)
    assert done.returncode == 2
    assert "Did you mean --json" in done.stderr
    assert "usage" not in done.stderr


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("look --tpye x a.csv", "--text"),
        ("init a.csv --nmae=x", "--name"),
        ("compare a --josn", "--json"),  # argparse alone would miss the second run
        ("gate a --agianst b", "--against"),
        ("serve a --prot 1", "--port"),
        ("serve statsu", "status"),
        ("look -json a.csv", "--json"),
    ],
)
def test_a_mistyped_option_of_a_verb_names_the_one_that_was_meant(typed, meant):
    done = stratos(*typed.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert f"Did you mean {meant}" in done.stderr
    assert done.stderr.startswith(f"usage: stratos {typed.split()[0]} ")


def test_what_only_looks_like_an_option_is_a_value(failing):
    failing.error = StratosError("it ran")  # type: ignore[attr-defined]
    for value in ("-1.5", "- a text"):
        assert stratos("fail", "--mine", value).stderr == "it ran\n"


def test_a_refusal_shows_the_controls_of_what_was_typed():
    ended = stratos("verify", "bundle", "a\u202eb\x1b[2Jc")
    assert ended.returncode == 2 and "unrecognized arguments: a<U+202E>b␛[2Jc" in ended.stderr
