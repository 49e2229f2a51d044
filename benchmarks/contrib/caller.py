"""How often the student that calls tools is right in conversations with values of their own.

    python benchmarks/contrib/caller.py [--conversations 300 | --few 5] [--keep]

Services are those of `trace_services.py`; `clinic` is only reported. Names, places and things of
the test conversations are in no training conversation. Beside it: the calls that mostly follow the
last message and call, and the answer of the nearest training turn. With `--few`: what conversations
that injection makes of few add to right calls, over three draws; it was developed on `restaurant`
and `shop`.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import record
from trace_services import REPORTED, SERVICE, conversations

from stratos.contrib.logs.conversation import Turn
from stratos.contrib.tools.call_learner import CallerLearner, States, learnt, year_in
from stratos.contrib.tools.tools_task import ToolsTask, item_state
from stratos.evaluate.baselines import replayed
from stratos.models.kinds.base import Predictor
from stratos.tasks.base import Item

N_TEST, SEED = 100, 0
N_TEST_OF_FEW = 40
TUNED, SEEDS = ("restaurant", "shop"), (0, 1, 2)
"""Services by which injection was chosen, and draws of few conversations."""
LEAST_GAIN = 0.15
"""Of right calls by injection, as it was asked for before it was measured."""


def messages_of(trace: Sequence[Turn]) -> list[dict[str, Any]]:
    """Return a conversation in the form of the OpenAI API; a result that lacks is "done"."""
    made: list[dict[str, Any]] = []
    for turn in trace:
        if made and made[-1].get("tool_calls") and turn.role != "tool":
            id = made[-1]["tool_calls"][0]["id"]
            made.append({"role": "tool", "content": "done", "tool_call_id": id})
        message: dict[str, Any] = {"role": turn.role, "content": turn.text}
        if turn.calls:
            message["tool_calls"] = [
                {"id": c.id, "type": "function",
                 "function": {"name": c.name, "arguments": c.arguments}} for c in turn.calls
            ]  # fmt: skip
        if turn.role == "tool":
            message["tool_call_id"] = turn.result_of
        made.append(message)
    return made


def task_of(name: str, n: int, folder: Path, seed: int = SEED, n_test: int = N_TEST
            ) -> ToolsTask:  # fmt: skip
    """Return a service as a task, whose test conversations have other values."""
    tools = (SERVICE | REPORTED)[name][0]
    paths = []
    for part, size, others in (("train", n, False), ("test", n_test, True)):
        traces = conversations(name, size, 2 * seed + others, others=others)
        rows = [json.dumps({"messages": messages_of(t), "tools": tools}) + "\n" for t in traces]
        paths.append(folder / f"{name}-{part}.jsonl")
        paths[-1].write_text("".join(rows))
    return ToolsTask(str(paths[0]), test_path=str(paths[1]), answers="trust")


def usual(train: Sequence[Item], items: Sequence[Item]) -> list[str]:
    """Return what mostly follows: the most frequent answer after the last message and call."""
    follows: dict[str, Counter[str]] = defaultdict(Counter)
    for item in train:
        follows[item_state(item)[0]][item.answer] += 1
    every = Counter(item.answer for item in train)
    return [follows.get(item_state(item)[0], every).most_common(1)[0][0] for item in items]


def shares(task: ToolsTask, items: Sequence[Item], answers: Sequence[str]) -> dict[str, float]:
    """Return the shares of turns and of calls that are right, and of calls to no user."""
    right = [task.score(text, item).exact for text, item in zip(answers, items, strict=True)]
    calls = [r for r, item in zip(right, items, strict=True) if item.slice != "text"]
    silent = [r for r, item in zip(right, items, strict=True)
              if item.slice != "text" and "respond_to_user" not in item.answer]  # fmt: skip
    return {
        "turns": sum(right) / len(right),
        "calls": sum(calls) / len(calls),
        "calls_but_talk": sum(silent) / len(silent),
    }


def whole(task: ToolsTask, train: Sequence[Item], student: Predictor) -> dict[str, Any]:
    """Return how far student and baselines come in whole test conversations."""
    walks = task.conversations(SEED)
    assert walks is not None
    learnt = {item.id for item in train}
    assert not any(item.id in learnt for item in walks.items), "a test turn is learnt"

    def answer(items: Sequence[Item]) -> list[str]:
        return [prediction.text for prediction in student.predict([i.question for i in items])]

    replays = {"student": walks.replay(answer), **replayed(task, train, walks)}
    return {role: asdict(replay) for role, replay in replays.items()}


def measured(name: str, n: int, folder: Path) -> dict[str, Any]:
    """Return what is right in the test conversations of a service."""
    task = task_of(name, n, folder)
    train = [item for part in ("train", "validation") for item in task.items(part, 10**6)]
    test = task.items("test", 10**6)
    texts, answers = tuple(i.question for i in train), tuple(i.answer for i in train)
    start = time.process_time()
    fit = CallerLearner().fit(texts, answers, task)
    fitted = time.process_time() - start
    start = time.process_time()
    given = fit.student.predict([item.question for item in test])
    seconds = time.process_time() - start
    scores = shares(task, test, [prediction.text for prediction in given])
    likely = sum(prediction.probability for prediction in given) / len(given)
    return {
        "service": name,
        "only_reported": name in REPORTED,
        "turns": {"train": len(train), "test": len(test)},
        "student": scores,
        "cross_validated": fit.accuracy.mean,
        "mean_probability": likely,
        "usual": shares(task, test, usual(train, test)),
        "nearest": shares(task, test, task.lookup(train, test)),
        "whole": whole(task, train, fit.student),
        "fit_cpu_s": round(fitted, 1),
        "ms_per_answer": round(1000 * seconds / len(test), 2),
        "wrong": [
            {"gold": item.answer, "answer": prediction.text}
            for item, prediction in zip(test, given, strict=True)
            if item.slice != "text" and task.score(prediction.text, item).exact < 1
        ][:20],
    }


def measured_few(name: str, n: int, seed: int, folder: Path, *, chooses: bool) -> dict[str, Any]:
    """Return what is right where few conversations teach: alone, and with those made of them.

    With `chooses` also which of both cross-validation takes.
    """
    task = task_of(name, n, folder, seed, N_TEST_OF_FEW)
    train = [item for part in ("train", "validation") for item in task.items(part, 10**6)]
    test = [item for item in task.items("test", 10**6)
            if item.slice != "text" and "respond_to_user" not in item.answer]  # fmt: skip
    texts, answers = tuple(i.question for i in train), tuple(i.answer for i in train)
    states = States.of(texts, year_in(answers, texts))
    measured: dict[str, Any] = {"service": name, "tuned": name in TUNED, "seed": seed}
    measured |= {"turns": len(train), "tested": len(test)}
    for key, injects in (("alone", False), ("injected", True)):
        start = time.process_time()
        student = learnt(states, answers, seed, injects=injects)
        given = [prediction.text for prediction in student.predict([i.question for i in test])]
        right = [task.score(*pair).exact for pair in zip(given, test, strict=True)]
        measured[key] = {"right": sum(right) / len(right), "made": student.n_made,
                         "cpu_s": round(time.process_time() - start, 1)}  # fmt: skip
    if not chooses:
        print(json.dumps(measured), flush=True)
        return measured
    start = time.process_time()
    fit = CallerLearner().fit(texts, answers, task, seed)
    is_injected = fit.student.n_made > 0
    measured["chosen"] = {"injects": is_injected, "why": fit.accuracy.source,
                          "right": measured["injected" if is_injected else "alone"]["right"],
                          "cpu_s": round(time.process_time() - start, 1)}  # fmt: skip
    print(json.dumps(measured), flush=True)
    return measured


def gain_of_few(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the shares of right calls of one service over all seeds."""
    mean = {key: sum(row[key]["right"] for row in rows) / len(rows)
            for key in ("alone", "injected", "chosen") if key in rows[0]}  # fmt: skip
    return {"service": rows[0]["service"], "tuned": rows[0]["tuned"], **mean,
            "gain": mean["injected"] - mean["alone"]}  # fmt: skip


def main() -> None:
    """Measure all services."""
    parser = record.arguments(__doc__)
    parser.add_argument("--conversations", type=int, default=300)
    parser.add_argument("--few", type=int, help="conversations, of which more are made")
    parser.add_argument("--choose", action="store_true", help="cross-validate, too")
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS)
    parser.add_argument("--services", nargs="*", default=[*SERVICE, *REPORTED])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.few:
            rows = [measured_few(name, options.few, seed, Path(folder), chooses=options.choose)
                    for name in options.services for seed in options.seeds]  # fmt: skip
            gains = [gain_of_few([row for row in rows if row["service"] == name])
                     for name in options.services]  # fmt: skip
            result = {"conversations": options.few, "least_gain": LEAST_GAIN, "gains": gains,
                      "measured": rows}  # fmt: skip
            record.finish("tools/few", result, options, seed=list(options.seeds))
            return
        services = [measured(n, options.conversations, Path(folder)) for n in options.services]
    result = {"conversations": options.conversations, "services": services}
    record.finish("tools/caller", result, options, seed=SEED)


if __name__ == "__main__":
    main()
