"""How far the metric of tool calls agrees with the checker of the package bfcl-eval.

    python benchmarks/contrib/tools.py    fetches the wheel with pip download --no-deps
    python benchmarks/contrib/tools.py --wheel bfcl_eval-….whl

The wheel is unpacked, not installed: its pins are old. Its data is Apache-2.0. Of each single-turn
item of Python, the calls that the package takes for right, and changes of them, are judged by both.
The changes are: a value written otherwise, of another type, or another one; an argument left out,
or one more; another tool; another order; a call less, twice, or none. Every disagreement is kept in
`benchmarks/results/tools.json`, with its kind. Items of Java and JavaScript are left out: their
arguments are source code of these languages.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import subprocess
import sys
import tempfile
import types
import zipfile
from collections import Counter
from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from record import keep

from stratos.contrib.tools.calls import Call, is_right, why_invalid
from stratos.contrib.tools.signatures import Tool, tools_of

WITH_CALLS = ("simple_python", "multiple", "parallel", "parallel_multiple", "live_simple",
              "live_multiple", "live_parallel", "live_parallel_multiple")  # fmt: skip
WITHOUT = ("irrelevance", "live_irrelevance")
MOST_VARIANTS = 500
"""Values that an argument with inner choices may have."""
MODEL = "none"
OMITTED = ""
"""What the package writes for an argument that may be left out."""


def main() -> None:
    """Compare the two, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheel", type=Path)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheel = told.wheel or fetched(Path(folder))
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        sys.path.insert(0, folder)
        found = compared(Path(folder) / "bfcl_eval" / "data")
    keep("tools", found, seed=0, more={"wheel": wheel.name})
    print(json.dumps({key: found[key] for key in ("n_items", "n_judged", "n_agreed")}, indent=1))
    print(json.dumps(found["kinds"], indent=1))


def fetched(folder: Path) -> Path:
    """Return the wheel, without what it depends on."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(folder)]
    subprocess.run([*command, "bfcl-eval"], check=True)
    return next(folder.glob("bfcl_eval-*.whl"))


def checker() -> Any:
    """Return the package's judge of calls.

    Its list of models imports a client of every provider. All that the judge reads there is whether
    a provider renames tools with a point; none does here.
    """
    models = types.ModuleType("bfcl_eval.constants.model_config")
    models.MODEL_CONFIG_MAPPING = {MODEL: types.SimpleNamespace(underscore_to_dot=False)}
    sys.modules[models.__name__] = models
    from bfcl_eval.constants.enums import Language
    from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker

    def judge(functions: Any, calls: list[Call], truth: Any, category: str) -> tuple[bool, str]:
        output = [{call.name: copy.deepcopy(call.arguments)} for call in calls]
        try:
            said = ast_checker(functions, output, truth, Language.PYTHON, category, MODEL)
        except Exception as error:  # what it does not foresee
            return False, f"raises {type(error).__name__}"
        return bool(said["valid"]), str(said.get("error_type", ""))

    return judge


def compared(data: Path) -> dict[str, Any]:
    """Judge every item's calls with both; return counts and disagreements."""
    judge, rng = checker(), random.Random(0)
    items: Counter[str] = Counter()
    refused: list[dict[str, str]] = []
    judged: Counter[str] = Counter()
    agreed: Counter[str] = Counter()
    apart: dict[str, list[str]] = {}
    for category in WITH_CALLS:
        truths = {
            row["id"]: row["ground_truth"] for row in lines(data, "possible_answer", category)
        }
        for row in lines(data, ".", category):
            items[category] += 1
            try:
                tools = tools_of(row["function"])
            except ValueError as error:
                refused.append({"id": row["id"], "why": str(error)})
                continue
            truth = truths[row["id"]]
            gold = [gold_of(one) for one in truth]
            for change, calls in changed(gold, tools, rng):
                ours = is_right(calls, gold, tools, ordered=False)
                theirs, error = judge(row["function"], calls, truth, category)
                judged[change] += 1
                agreed[change] += ours == theirs
                if ours != theirs:
                    kind = kind_of(ours, change, error, calls, tools)
                    apart.setdefault(kind, []).append(f"{row['id']}: {change}")
    for category in WITHOUT:  # any call is wrong, none is right: both say so of all
        items[category] += sum(1 for _ in lines(data, ".", category))
    return {
        "n_items": dict(items),
        "n_refused": len(refused),
        "n_judged": judged.total(),
        "n_agreed": agreed.total(),
        "by_change": {name: [agreed[name], n] for name, n in sorted(judged.items())},
        "kinds": {kind: len(some) for kind, some in apart.items()},
        "refused": refused,
        "disagreements": apart,
    }


def lines(data: Path, folder: str, category: str) -> Iterator[dict[str, Any]]:
    """Yield the lines of a file of the package."""
    with (data / folder / f"BFCL_v4_{category}.json").open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def gold_of(truth: dict[str, Any]) -> Call:
    """Return a gold call of the package with all that it accepts."""
    [(name, arguments)] = truth.items()
    gold, accept, optional = {}, {}, set()
    for argument, options in arguments.items():
        if OMITTED in options:
            optional.add(argument)
        values = [v for o in options if o != OMITTED for v in islice(spelled_out(o), MOST_VARIANTS)]
        if values:
            gold[argument], accept[argument] = values[0], values[1:]
    return Call(name, gold, accept, frozenset(optional))


def spelled_out(value: Any) -> Iterator[Any]:
    """Yield the values that one with choices inside stands for: its fields list theirs."""
    if isinstance(value, dict):
        for chosen in product(*value.values()):
            pairs = zip(value, chosen, strict=True)
            yield {key: one for key, one in pairs if one != OMITTED}
    elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        yield from map(list, product(*(list(spelled_out(one)) for one in value)))
    else:
        yield value


def changed(
    gold: list[Call], tools: tuple[Tool, ...], rng: random.Random
) -> Iterator[tuple[str, list[Call]]]:
    """Yield the gold calls, and changes of them, with what was changed."""
    plain = [Call(call.name, call.arguments) for call in gold]
    yield "as it is", plain
    yield "no call", []
    yield "a call twice", [*plain, plain[0]]
    if len(plain) > 1:
        yield "a call less", plain[1:]
        yield "other order", plain[::-1]
    by_name = {tool.name: tool for tool in tools}
    place = rng.randrange(len(plain))
    call, wanted = plain[place], gold[place]

    def other(
        what: str, arguments: dict[str, Any], name: str = call.name
    ) -> tuple[str, list[Call]]:
        return what, [*plain[:place], Call(name, arguments), *plain[place + 1 :]]

    yield other("another tool", call.arguments, f"{call.name}_2")
    yield other("one argument more", {**call.arguments, "not_there": 1})
    for name, value in call.arguments.items():
        rest = {key: one for key, one in call.arguments.items() if key != name}
        is_needed = name in by_name[call.name].required if call.name in by_name else True
        yield other("a required argument less" if is_needed else "an optional argument less", rest)
        for one in wanted.accept.get(name, ())[:5]:
            yield other("another right value", {**call.arguments, name: one})
        for what, one in changes_of(value):
            yield other(what, {**call.arguments, name: one})


def changes_of(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield changes of one value."""
    if isinstance(value, bool):
        yield "another value", not value
        yield "another type", str(value)
    elif isinstance(value, int | float):
        yield "another value", value + 1
        yield "another type", str(value)
        if isinstance(value, int):
            yield "a whole number as a float", float(value)
    elif isinstance(value, str):
        yield "another value", f"{value} other"
        yield "other case", value.upper()
        yield "other spaces", value.replace(" ", "  ") if " " in value else f" {value} "
        yield "other punctuation", value.replace(",", "") if "," in value else f"{value}."
        yield "another type", 7
    elif isinstance(value, list):
        yield "another value", [*value, *value[:1]] if value else [1]
        yield "another type", str(value)
        if len(value) > 1:
            yield "a list turned round", value[::-1]
    elif isinstance(value, dict):
        yield "another value", {**value, "not_there": 1}
        yield "another type", str(value)


def kind_of(ours: bool, change: str, error: str, calls: list[Call], tools: Any) -> str:
    """Return what a disagreement is about."""
    who = "only the metric" if ours else "only the package"
    more = f", which {error}" if error.startswith("raises") else ""
    why = "" if ours or not why_invalid(calls, tools) else ", against the tool's schema"
    return f"{who}: {change}{why}{more}"


if __name__ == "__main__":
    main()
