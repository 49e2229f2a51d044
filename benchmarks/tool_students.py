"""Students of tool calls by injection alone, on the single-turn items of bfcl-eval.

    nice python benchmarks/tool_students.py [--wheel bfcl_eval-….whl] [--apis 4] [--items 64]
    python benchmarks/tool_students.py --choose      prints the families, and runs nothing

**Halves.** A hash of its id puts each item into the training half or the measuring half. Of the
training half a student gets the schemas of the tools alone (`task.drawn_from=schemas`): requests
are made from calls that are drawn from them, and no request and no call of an item is learnt. What
is measured is the measuring half: real requests.

**Families.** A family is an API: what a tool's name begins with, up to a point or to a number
(`math.hypot`, `Hotels_2_BookHouse`). An item is of the family whose tools it calls. Taken are those
with the most items in the measuring half, as far as the tools of half of their items are
`MOST_CHARACTERS` long at most, since two cores read few long ones; this is fixed before any student
is trained. `all` is every item of every category, those without calls too. Where a half has more
than `--items`, those with the first hashes are measured, which is a random sample.

**Models.** The student, the same model untouched, and the teacher, which is the same model with two
real examples in its prompt, are asked the same items: freely, and with constrained decoding.

The student is trained by the command that a user types. Every answer of every model is kept in
`--out`, and the counts in `benchmarks/results/tool_students.json` after each family: the same
command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import record
import tools

from stratos import records
from stratos.contrib.tools import ToolsTask
from stratos.contrib.tools.calls import read
from stratos.contrib.tools.signatures import tools_in
from stratos.contrib.tools.tool_rows import Names, row_of
from stratos.core.intervals import wilson
from stratos.evaluate.metrics import mcnemar_exact
from stratos.tasks.base import Item

NAME = "tool_students"
STUDENT, TEACHER = "smollm2_135m", "smollm2"
ALL = "all"
ROLES = ("student", "untouched", "teacher")
MOST_CHARACTERS = 2200
"""Of the tools that the median item of a family offers."""
_SPACE = re.compile(r"([A-Za-z]\w*?)(?:\.|_\d+_)")
LONGEST = 160
"""Tokens of an answer; the gold answers of all but a few items are shorter."""
BATCH = 8
LEAST_VALIDATED = 4
"""Rows of a small family that a run validates on, at the least: it keeps no weights by them."""
NAMES = Names("question", "messages", "tools", "calls")
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Row:
    """One item of the package, as a line of a task's file."""

    id: str
    category: str
    line: dict[str, Any]

    @property
    def api(self) -> str:
        """What the names of all the tools that it calls begin with; "" where they differ."""
        found = {
            match[1]
            for one in self.line["calls"]
            if (match := _SPACE.match(one["name"])) is not None
        }
        names = {one["name"] for one in self.line["calls"]}
        return found.pop() if len(found) == 1 and all(map(_SPACE.match, names)) else ""

    @property
    def n_characters(self) -> int:
        """Length of its tools."""
        return len(json.dumps(self.line["tools"]))

    @property
    def key(self) -> str:
        """A hash of the id: its first digit tells the half, the others the order."""
        return hashlib.blake2b(self.id.encode(), digest_size=8).hexdigest()

    @property
    def is_measured(self) -> bool:
        """Whether it is of the measuring half."""
        return int(self.key[0], 16) % 2 == 1


def rows_of(data: Path) -> tuple[list[Row], dict[str, str]]:
    """Return the items of Python that can be read, and why others cannot, by their ids."""
    found: list[Row] = []
    unread: dict[str, str] = {}
    for category in (*tools.WITH_CALLS, *tools.WITHOUT):
        truths = {}
        if category in tools.WITH_CALLS:
            lines = tools.lines(data, "possible_answer", category)
            truths = {row["id"]: row["ground_truth"] for row in lines}
        for row in tools.lines(data, ".", category):
            gold = [tools.gold_of(one) for one in truths.get(row["id"], ())]
            calls = [
                {"name": call.name, "arguments": call.arguments, "accept": call.accept,
                 "optional": sorted(call.optional)}
                for call in gold
            ]  # fmt: skip
            line = {"messages": row["question"], "tools": row["function"], "calls": calls}
            read_line = row_of(line, NAMES)
            if isinstance(read_line, dict):
                found.append(Row(row["id"], category, line))
            else:
                unread[row["id"]] = str(read_line)
    return found, unread


def families(rows: Sequence[Row], n_apis: int) -> dict[str, list[Row]]:
    """Return the APIs with the most items to measure, and all items."""
    by_api: dict[str, list[Row]] = {}
    for row in rows:
        if row.api:
            by_api.setdefault(row.api, []).append(row)
    sized = [
        (-sum(row.is_measured for row in some), api)
        for api, some in by_api.items()
        if median(row.n_characters for row in some) <= MOST_CHARACTERS
    ]
    return {**{api: by_api[api] for _, api in sorted(sized)[:n_apis]}, ALL: list(rows)}


def write_halves(rows: Sequence[Row], folder: Path, n_items: int) -> dict[str, Any]:
    """Write the two files of a family; return how many items there are and are measured."""
    folder.mkdir(parents=True, exist_ok=True)
    measured = sorted((row for row in rows if row.is_measured), key=lambda row: row.key)
    trained = [row for row in rows if not row.is_measured]
    for name, some in (("train", trained), ("test", measured[:n_items])):
        text = "".join(f"{json.dumps(row.line)}\n" for row in some)
        (folder / f"{name}.jsonl").write_text(text)
    return {"n_rows": len(trained), "n_half": len(measured)}


def run_dir(folder: Path, tokens: int, seed: int) -> Path:
    """Return where the run of a training lies."""
    return folder / f"{tokens}-{seed}" / "run"


def command(folder: Path, tokens: int, seed: int) -> list[str]:
    """Return the command that trains the student of a family."""
    return [
        sys.executable, "-m", "stratos", "+task=tools", f"task.path={folder / 'train.jsonl'}",
        f"task.test_path={folder / 'test.jsonl'}", "task.drawn_from=schemas",
        f"task.validation_share={share_of(folder)}", f"student={STUDENT}",
        "student.context_length=2048", f"teacher={TEACHER}", "strategy=injection", "cloud=local",
        "stages=[probe,plan,synthesize,distill]", f"trainer.max_tokens={tokens}",
        "trainer.batch_tokens=512", "task.prompts=[default]", "probe.n_items=1",
        "probe.max_items=1", "probe.n_trial_items=1", "probe.n_samples=0",
        "probe.n_student_items=0", "probe.n_entropy_items=1", "probe.max_tokens=64",
        "plan.pilot=false", "callbacks.n_validation_items=2", f"seed={seed}",
        f"hydra.run.dir={run_dir(folder, tokens, seed)}", f"paths.cache_dir={folder / 'cache'}",
    ]  # fmt: skip


def share_of(folder: Path) -> float:
    """Return the share of a family's training half that is validated on."""
    n = len((folder / "train.jsonl").read_text().splitlines())
    return max(0.05, min(0.7, round(LEAST_VALIDATED / n, 2)))


def learn(folder: Path, tokens: int, seed: int) -> dict[str, Any]:
    """Train by the command; return what it took. A run that was stopped goes on."""
    started, about = time.monotonic(), record.circumstances()
    run = run_dir(folder, tokens, seed)
    run.parent.mkdir(exist_ok=True)
    printed_to = run.parent / "printed.txt"
    with printed_to.open("a") as printed:
        child = subprocess.Popen(
            command(folder, tokens, seed), stdout=printed, stderr=subprocess.STDOUT, cwd=ROOT
        )
        _, status, usage = os.wait4(child.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code:
        lines = printed_to.read_text(errors="replace").strip().splitlines()
        raise RuntimeError(lines[-1] if lines else f"exit status {code}")
    student = records.load(run / "distill.json", None, records.Student)
    corpus = records.load(run / "synthesize.json", None, records.Corpus)
    assert student is not None and corpus is not None
    return {
        "path": student.path,
        "untouched_path": student.untouched_path,
        "n_drawn": corpus.n_items,
        "train_tokens": student.train_tokens,
        "train_seconds": round(student.seconds),
        "train_cpu_seconds": round(student.cpu_seconds or 0.0),
        "command_cpu_seconds": round(usage.ru_utime + usage.ru_stime),
        "command_seconds": round(time.monotonic() - started),
        **{key: about[key] for key in ("machine", "date", "commit", "load_average")},
    }


def answers(
    path: str, chats: Sequence[list[dict[str, str]]], schemas: Sequence[Mapping[str, Any] | None]
) -> list[tuple[str, int]]:
    """Return what a model writes behind each chat, and its tokens; `schemas` constrain it."""
    from stratos.models.decode.batched import end_tokens, write
    from stratos.models.decode.constrained import by_schemas
    from stratos.models.decode.picks import likeliest
    from stratos.models.pretrained import load_model, load_tokenizer

    tokenizer, model = load_tokenizer(path), load_model(path, dtype="auto")
    prompts = [
        tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)[
            "input_ids"
        ]
        for chat in chats
    ]
    pick: Callable[..., Any] = likeliest
    if schemas:
        pick = by_schemas(tokenizer, schemas, sorted(end_tokens(model, tokenizer)))
    found = write(
        model, tokenizer, prompts, max_new_tokens=LONGEST, batch_size=BATCH, pick=pick,
        share_prefixes=not schemas, stop_loops=True,
    )  # fmt: skip
    return [(tokenizer.decode(one, skip_special_tokens=True), len(one)) for one in found]


def asked(
    task: ToolsTask, items: Sequence[Item], role: str, is_constrained: bool, made: dict[str, Any]
) -> dict[str, Any]:
    """Return the answers of one model to the items, as they are kept."""
    from stratos.models.decode.constrained import why_no_grammar

    started, cpu_started = time.perf_counter(), time.process_time()
    if role == "teacher":
        chats = [task.messages(item, "default") for item in items]
    else:
        chats = [task.student_messages(item) for item in items]
    schemas: list[Mapping[str, Any] | None] = []
    if is_constrained:
        found = [task.answer_schema(item) for item in items]
        schemas = [one if one is not None and not why_no_grammar(one) else None for one in found]
    path = made["path" if role == "student" else "untouched_path"]
    texts = answers(path, chats, schemas)
    return {
        "seconds": round(time.perf_counter() - started),
        "cpu_seconds": round(time.process_time() - cpu_started),
        "answers": [
            {"id": item.id, "slice": item.slice, "text": text, "tokens": n,
             "right": task.score(text, item).exact >= 1}
            for item, (text, n) in zip(items, texts, strict=True)
        ],
    }  # fmt: skip


def counted(
    task: ToolsTask, items: Sequence[Item], kept: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Return shares with intervals by slice, and the paired comparisons with the student."""
    known = {
        tool.name for item in task.items("train", task.n_train) for tool in tools_in(item.question)
    }
    is_known = [
        {call.name for call in read(item.answer) or ()} <= known for item in items
    ]  # no call: no tool has to be known
    right = {name: [one["right"] for one in some["answers"]] for name, some in kept.items()}
    scores: dict[str, Any] = {}
    for name, hits in right.items():
        slices = {"all": hits}
        for slice in task.slices:
            slices[slice] = [hit for hit, i in zip(hits, items, strict=True) if i.slice == slice]
        called = [(hit, there) for hit, there, item in zip(hits, is_known, items, strict=True)
                  if item.slice != "irrelevant"]  # fmt: skip
        slices["tools seen"] = [hit for hit, there in called if there]
        slices["tools not seen"] = [hit for hit, there in called if not there]
        scores[name] = {
            slice: {"n": len(some), "right": sum(some), "low": share.low, "high": share.high}
            for slice, some in slices.items()
            if some
            for share in [wilson(sum(some), len(some))]
        }
        scores[name]["n_cut"] = sum(one["tokens"] >= LONGEST for one in kept[name]["answers"])
        scores[name]["cpu_seconds"] = kept[name]["cpu_seconds"]
    against = {}
    for name, other in (
        (("student", "untouched")), ("student", "teacher"),
        ("student, constrained", "untouched, constrained"),
        ("student, constrained", "teacher, constrained"),
        ("student, constrained", "student"),
    ):  # fmt: skip
        if name in right and other in right:
            pairs = Counter(zip(right[name], right[other], strict=True))
            only = pairs[True, False], pairs[False, True]
            told = {"only_first": only[0], "only_second": only[1], "p": mcnemar_exact(*only)}
            against[f"{name} / {other}"] = told
    return {"n_items": len(items), "scores": scores, "against": against}


def run(name: str, folder: Path, tokens: int, seed: int, asks: bool) -> dict[str, Any]:
    """Train and measure one family; what lies in its folder is not done again.

    Args:
        name: of the family.
        folder: of its files.
        tokens: of the training.
        seed: of the training.
        asks: whether a model is asked whose answers are not there yet.
    """
    path = run_dir(folder, tokens, seed).parent / "learnt.json"
    if not path.exists():
        made = learn(folder, tokens, seed)
        path.write_text(json.dumps(made))
    made = json.loads(path.read_text())
    task = ToolsTask(
        str(folder / "train.jsonl"), test_path=str(folder / "test.jsonl"),
        drawn_from="schemas", validation_share=share_of(folder),
    )  # fmt: skip
    items = sorted(task.items("test", task.n_test), key=lambda item: item.id)
    kept: dict[str, dict[str, Any]] = {}
    for is_constrained in (False, True):
        for role in ROLES:
            key = f"{role}, constrained" if is_constrained else role
            # What is not trained answers the same whatever the training was.
            place = path.parent if role == "student" else folder
            file = place / f"{key.replace(', ', '_')}.json"
            if not file.exists() and asks:
                found = asked(task, items, role, is_constrained, made)
                file.write_text(json.dumps(found))
            if not file.exists():
                continue
            kept[key] = json.loads(file.read_text())
            print(f"{name}: {key} {sum(o['right'] for o in kept[key]['answers'])}/{len(items)}",
                  flush=True)  # fmt: skip
    took = {key: value for key, value in made.items() if not key.endswith("path")}
    return {**took, "left_out": task.left_out, **counted(task, items, kept)}


def main() -> None:
    """Run what is not kept yet, one family after another."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheel", type=Path)
    parser.add_argument("--apis", type=int, default=4)
    parser.add_argument("--only", nargs="*", help="these families; without it, all of them")
    parser.add_argument("--items", type=int, default=40, help="of all, at most")
    parser.add_argument("--api-items", type=int, default=32, help="of one API, at most")
    parser.add_argument("--tokens", type=int, default=24_000, help="of the training on all")
    parser.add_argument("--api-tokens", type=int, default=6_000, help="of that on one API")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("outputs/tool_students"))
    parser.add_argument("--count", action="store_true", help="count what is there, and ask nothing")
    parser.add_argument("--choose", action="store_true", help="print the families, and stop")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheel = told.wheel or tools.fetched(Path(folder))
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        rows, unread = rows_of(Path(folder) / "bfcl_eval" / "data")
    chosen = families(rows, told.apis)
    if told.choose:
        for name, some in chosen.items():
            print(name, len(some), sum(row.is_measured for row in some), {
                tool["name"] for row in some[:1] for tool in row.line["tools"]})  # fmt: skip
        return
    try:
        found: dict[str, Any] = record.load(NAME)["result"]["families"]
    except FileNotFoundError:
        found = {}
    for name, some in chosen.items():
        n_items, tokens = (
            (told.items, told.tokens) if name == ALL else (told.api_items, told.api_tokens)
        )
        settings = {"tokens": tokens, "most_items": n_items, "seed": told.seed}
        if told.only is not None and name not in told.only:
            continue
        before = found.get(name, {})
        is_done = before.get("settings") == settings and "failed" not in before
        if is_done and len(before["scores"]) == 2 * len(ROLES):
            continue
        folder_of = told.out.resolve() / f"{name}-{n_items}"
        row: dict[str, Any] = {
            "settings": settings,
            "tools": sorted({tool["name"] for row in some for tool in row.line["tools"]})
            if name != ALL
            else [],
            **write_halves(some, folder_of, n_items),
        }
        try:
            row |= run(name, folder_of, tokens, told.seed, not told.count)
        except Exception as error:  # a failure is a result, too
            row["failed"] = f"{type(error).__name__}: {error}"
            print(f"{name}: {row['failed']}", flush=True)
        found[name] = row
        ordered = {one: found[one] for one in (*chosen, *found) if one in found}
        result = {
            "student": STUDENT, "teacher": TEACHER, "longest": LONGEST, "unread": unread,
            "families": ordered,
        }  # fmt: skip
        record.keep(NAME, result, seed=told.seed, more={"wheel": wheel.name})


if __name__ == "__main__":
    main()
