"""README and the pages of docs/: they make a site, and what they tell to type is known.

Each command line is taken from its page and checked by the command itself: `run` and `plan` as
before a run (composed, every key and file checked), the other verbs by running them in a folder
with two made runs. The tutorials are followed in `test_tutorials.py`.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from benchmarks.product import gallery
from benchmarks.product.tutorials import write_files
from stratos.catalog.readers import BUILTIN
from stratos.cli.build import CANDIDATES, GROUPS, TARGETS, schema_of
from stratos.cli.help import group_page
from stratos.cli.verbs import HYDRA, summaries
from stratos.core.extensions import conf_dirs, shipped_choices
from tests.checked import problems
from tests.cli.made_run import make_run
from tests.documented import DOCUMENTS, ROOT, Command, commands
from tests.in_process import stratos
from tests.pages import PAGES, contrib_pages, text_of

LACKING = re.compile(
    r"the hub cannot be reached|cannot be reached|SLURM does not answer|no Ray dashboard answers|"
    r"takes SkyPilot|no sbatch|not installed|needs the package|SkyPilot may use no cloud"
)
"""What a machine may lack that a page does not."""
NOT_CHECKED = {
    "stratos +task=…": "any command, in a drawing",
    "stratos +task=mahjong cloud=gcp cloud.catalog=[https://…/catalogs/v8/gcp/vms.csv]":
        "an address without its host, of files of many MB",
    "stratos run with the same words trains it": "a sentence that a plan prints",
    "stratos run +task=questions": "tests/cli/test_look.py composes what stratos init has written",
    "stratos demo": "tests/test_core_install.py runs it",
    "stratos +task=classify task.path=stratos-demo/tickets.csv logger=none deploy.load_seconds=2":
        "what stratos demo runs",
    "stratos stage run_folder stage": "tests/executors/test_job.py runs it",
}  # fmt: skip
"""Commands that are not checked here, and why."""
EXIT_CODES = {
    "status": {0}, "compare": {0}, "calibration": {0}, "ledger": {0}, "logs": {0}, "report": {0},
    "servers": {0, 1}, "serve": {0, 1}, "door": {1}, "verify": {1}, "gate": {2}, "drift": {2},
    "cascade": {0, 1, 2}, "sweep": {2}, "dashboard": {0, 2}, "look": {0}, "init": {0, 2},
}  # fmt: skip
"""How a command ends in the folder of these tests, where runs have records and no bundle."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What the pages take for granted: files of rows, runs, a sweep."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for name in ("STRATOS_CACHE", "XDG_STATE_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    write_rows()
    write_catalogs(here)
    for run in ("outputs/run", "outputs/another", "outputs/tickets", "outputs/tickets_1m",
                "run_folder", "sweeps/time/0", "sweeps/2026-05-28_10-12-01/0"):  # fmt: skip
        make_run(here / run, right=80)
    took = {"input_tokens": 9, "output_tokens": 1, "seconds": 0.1}
    by_teacher = {"scores": {"teacher": {"exact": 1.0}}, "took": {"teacher": took}}
    rows = ({"id": str(i), **by_teacher} for i in range(100))
    write("outputs/run/evaluate/examples.jsonl", *rows)
    yield here
    for name in ("mine", "roman"):
        sys.modules.pop(name, None)


def write(name: str, *rows: object) -> None:
    """Write lines of JSON."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def write_rows() -> None:
    """Write a file of rows under each name that a page gives one."""
    sums = [{"question": f"{i}+{i}", "answer": str(i % 2)} for i in range(200)]
    for name in ("rows", "tickets", "dates", "sets"):
        write(f"{name}.jsonl", *sums)
    write("questions.jsonl", *({**row, "answer": f"select {row['answer']}"} for row in sums))
    write("both.jsonl", *sums, *({"question": f"{i}+1", "answer": ""} for i in range(20)))
    write("more.jsonl", {"question": "Two and two?"})
    labels = [f"{i}+1,{i % 2}\n" for i in range(200)]
    for name in ("tickets", "questions"):
        Path(f"{name}.csv").write_text("".join(["text,label\n", *labels]))
    for name, schema in (("orders", "order"), ("invoices", "invoice")):
        write(f"{name}.jsonl", *({**row, "answer": {"n": 1}} for row in sums))
        Path(f"{schema}.json").write_text('{"type": "object"}')
    chats = [
        {"prompt": f"What is {i} and {i}?", "completion": str(i % 2), "created": 10**9 + i}
        for i in range(200)
    ]
    for name in ("chats", "conversations", "requests", "file"):
        write(name if name == "file" else f"{name}.jsonl", *chats)
    calls = [
        {"question": f"time {i}", "tools": [{"name": "time"}], "calls": [{"name": "time"}]}
        for i in range(200)
    ]
    write("calls.jsonl", *calls)
    called = {"function": {"name": "time", "arguments": "{}"}, "type": "function", "id": "1"}
    answered = {"role": "assistant", "content": None, "tool_calls": [called]}
    turns = [[{"role": "user", "content": f"time {i}"}, answered] for i in range(200)]
    write("traces.jsonl", *({"messages": some} for some in turns))
    write("reference.jsonl")
    solved = [
        {"question": f"What is {i} and 1?", "answer": f"{i} + 1 = {i + 1}\n#### {i + 1}"}
        for i in range(200)
    ]
    write("gsm8k/train.jsonl", *solved)
    write("gsm8k/test.jsonl", *({**row, "question": f"So, {row['question']}"} for row in solved))
    sqlite3.connect("shop.sqlite").execute("create table sold (n integer)").connection.close()


def write_catalogs(here: Path) -> None:
    """Write the tables of offers and GPUs that a page names."""
    for name in ("prices/aws", "../prices/aws", "mine"):
        (here / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(BUILTIN, here / name / "vms.csv")
    page = (ROOT / "docs" / "catalog.md").read_text()
    table = re.search(r"^```\n(Name,.*?)^```", page, re.M | re.S)
    assert table is not None
    (here / "my_gpus.csv").write_text(table[1])
    (here / "mine" / "task").mkdir()
    (here / "mine" / "task" / "my_task.yaml").write_text(
        "_target_: stratos.tasks.mahjong.MahjongTask\n"
    )


@pytest.mark.parametrize(
    "path", [path for path in DOCUMENTS if commands(path)], ids=lambda p: p.stem
)
def test_what_a_page_tells_to_type_is_known(path, folder, monkeypatch):
    write_files(path.read_text(), folder)
    for script in sorted(folder.glob("make_*.py")):  # which makes the file that the page is about
        subprocess.run([sys.executable, script.name], cwd=folder, check=True)
    wrong = {}
    for command in commands(path):
        if str(command) in NOT_CHECKED:
            continue
        with monkeypatch.context() as patch:
            for name, value in command.env:
                patch.setenv(name, value)
            patch.syspath_prepend(str(folder))
            is_run = command.verb in ("", *HYDRA)
            mistakes = composed(command) if is_run else typed(command)
        if mistakes:
            wrong[str(command)] = mistakes
    assert not wrong, "\n".join(f"{command}: {mistakes}" for command, mistakes in wrong.items())


def composed(command: Command) -> list[str]:
    """Return what the check before a run finds wrong with a command."""
    words = [
        word for word in command.words[bool(command.verb) :] if word not in {"--json", "--watch"}
    ]
    words = [word.replace("s3://prices", "prices") for word in words]
    words = [
        re.sub(r"(teacher|student)\.path=folder$", r"\1.path=org/model", word) for word in words
    ]
    words = [word for word in words if word != "task.workload=id"]  # as `stratos logs` prints it
    if "--help" in words:
        group_page(words[words.index("--help") + 1 :])
        return []
    return [word for word in problems(*words) if not LACKING.search(word)] if words else []


def typed(command: Command) -> list[str]:
    """Run a command in this process; return what is wrong with it."""
    done = stratos(*(word.replace("s3://bucket", "memory://bucket") for word in command.words))
    if "usage:" in done.stderr:
        # In a sentence, a command may be named without what it is about.
        is_named = command.is_inline and re.search("required|name one folder", done.stderr)
        return [] if is_named else [done.stderr]
    is_known = done.returncode in EXIT_CODES.get(command.verb, ())
    return [] if is_known else [f"exit code {done.returncode}: {done.stderr}"]


def test_what_is_not_checked_is_still_in_a_page():
    assert NOT_CHECKED.keys() <= {str(command) for path in DOCUMENTS for command in commands(path)}


def test_every_way_to_write_a_command_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "Type `stratos status`, or\n`python -m\nstratos serve outputs/<run>\n--page`.\n\n"
        "The folder stratos holds it; `stratos/cli` and `cd stratos` are none.\n\n"
        "| all | `python -m stratos +task=a 'b={c: d}'`; `stratos servers` |\n\n"
        "    A=1 python -m stratos +task=a \\\n        b=c    # why\n"
        "    stratos serve stop x; ls\n\n"
        "```bash\npython make.py && stratos report x > out\n```\n"
        "Never `stratos statu`.\n"
    )
    assert [(str(command), command.verb, command.env) for command in commands(page)] == [
        ("stratos status", "status", ()), ("stratos serve outputs/run --page", "serve", ()),
        ("stratos +task=a b={c: d}", "", ()), ("stratos servers", "servers", ()),
        ("stratos +task=a b=c", "", (("A", "1"),)), ("stratos serve stop x", "serve", ()),
        ("stratos report x", "report", ()), ("stratos statu", "statu", ()),
    ]  # fmt: skip


def test_settings_that_are_named_exist():
    """In `code` of a sentence: a key of a group, or a choice of one."""
    keys = known_keys()
    groups = {path.name for folder in conf_dirs() for path in folder.iterdir() if path.is_dir()}
    choices = {group: set(shipped_choices(group)) for group in groups}
    named = re.compile(r"(?P<group>[a-z_]+)(?:\.(?P<key>[a-z_]+)[a-z_.]*)?(?:=(?P<value>[\w.]+))?$")
    wrong = []
    for path in DOCUMENTS:
        for words in re.findall(r"`([^`\n]+)`", text_of(path)):
            for word in words.split():
                match = named.match(word.lstrip("+"))
                if match is None or match["group"] not in keys:
                    continue
                group, key, value = match["group"], match["key"], match["value"]
                if key is not None and key not in {
                    *keys[group],
                    "json",
                    "safetensors",
                }:  # files, too
                    wrong.append(f"{path.name}: {word}")
                if key is None and value and value not in {*choices.get(group, ()), "my_task"}:
                    wrong.append(f"{path.name}: {word}")
    assert not wrong, "\n".join(wrong)


def known_keys() -> dict[str, set[str]]:
    """Return group to its keys, of all choices."""
    keys = {name: fields_of(schema) for name, schema in GROUPS.items()}
    for name in (*TARGETS, *CANDIDATES):
        keys[name] = {"candidates"}
        for path in shipped_choices(name).values():
            node = {name: yaml.safe_load(path.read_text())}
            schema = schema_of(OmegaConf.create(node), name)
            keys[name] |= {*node[name], *(() if schema is None else fields_of(schema))}
    return keys


def fields_of(schema: type) -> set[str]:
    return {field.name for field in dataclasses.fields(schema)}


def test_the_readme_is_read_in_minutes_and_leads_to_every_verb():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 110 and len(text.split()) <= 900
    assert "(docs/commands.md)" in text and "`make test`" in text and "`make demo`" in text
    page = (ROOT / "docs" / "commands.md").read_text()
    assert [verb for verb in summaries() if f"| `{verb}` |" not in page] == []


def test_targets_of_make_and_scripts_that_are_named_exist():
    makefile = (ROOT / "Makefile").read_text()
    for path in DOCUMENTS:
        text = path.read_text()
        for target in re.findall(r"(?:^ {4}|`)make ([a-z]+)", text, re.M):
            assert re.search(rf"^{target}:", makefile, re.M), f"{path.name}: make {target}"
        for script in re.findall(r"python (benchmarks/[\w/]+\.py)", text):
            assert (ROOT / script).exists(), f"{path.name}: {script}"


@pytest.mark.slow
def test_the_pages_make_a_site(tmp_path):
    pytest.importorskip("mkdocs")
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = (sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path))
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    page = (tmp_path / "settings.html").read_text()
    assert "<code>limits.budget_usd</code>" in page and "<code>executor=here</code>" in page
    assert "<code>task.metric</code>" in page, "a key of one choice alone"
    assert "<code>hydra.launcher.memory_gib</code>" in page and "<code>stages</code>" in page
    assert "<td></td>\n</tr>" not in page, "a key without a meaning"
    assert "<h1" in (tmp_path / "gallery" / "tickets.html").read_text()
    assert 'href="docs/' not in (tmp_path / "index.html").read_text()


def test_reports_of_the_gallery_name_no_machine_and_are_small():
    reports = sorted(gallery.GALLERY.glob("*.html.gz"))
    page = (ROOT / "docs" / "gallery.md").read_text()
    assert len(reports) >= 3
    for report in reports:
        text = gzip.decompress(report.read_bytes()).decode()
        assert "<h1" in text and gallery.foreign(text) == []
        name = report.name.partition(".")[0]
        assert f"(gallery/{name}.html)" in page and f"(gallery/{name}.png)" in page
    assert sum(file.stat().st_size for file in gallery.GALLERY.iterdir()) < 2_000_000
    assert gallery.foreign("<dd>/tmp/me/outputs</dd> /home/you/stratos /home/me/x")


def test_every_page_is_in_the_menu():
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    listed = {page for section in config["nav"] for pages in section.values()
              for page in ([pages] if isinstance(pages, str) else
                           [name for entry in pages for name in entry.values()])}  # fmt: skip
    here = {page.relative_to(ROOT / "docs").as_posix() for page in PAGES}
    assert here <= listed
    assert {page for page in listed - here if not page.startswith("contrib/")} == {
        "index.md", "settings.md"
    }  # fmt: skip


def test_every_link_to_a_page_of_contrib_is_to_one_of_the_menu():
    """The page may not be here, where its room is not."""
    menu = (ROOT / "mkdocs.yml").read_text()
    for page in DOCUMENTS:
        for linked in contrib_pages(page.read_text(), page):
            assert f": contrib/{linked.name}\n" in menu, f"{page.name} links to {linked.name}"


def test_every_room_of_contrib_has_a_page():
    rooms = {path.parent.name for path in (ROOT / "stratos" / "contrib").glob("*/__init__.py")}
    assert rooms <= {page.stem for page in PAGES if page.parent.name == "contrib"}
