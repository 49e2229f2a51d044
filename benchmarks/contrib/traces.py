"""Agents' traces: which wrong calls are found without a teacher, where a script made them wrong.

    python benchmarks/contrib/traces.py [--conversations 330] [--learnt | --read 100000] --keep

With `--learnt`: what a student gets right of right turns, taught raw and cleaned logs. With
`--read`: what reading many conversations takes.
Conversations of four services are spoilt, at 10% and at 50% of the agent's turns. Thresholds were
set with `restaurant` and `shop` in view; faults seen in `travel` and `operations` were mended.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import record
from trace_services import SERVICE

from stratos.contrib.logs.conversation import Turn
from stratos.contrib.tools.call_learner import learn, year_in
from stratos.contrib.tools.call_student import state_of
from stratos.contrib.tools.tool_rows import TEXT
from stratos.contrib.tools.tools_task import ToolsTask
from stratos.contrib.tools.trace_checks import Doubt, doubtful_turns, mended
from stratos.contrib.tools.usual_tools import usual_tools
from stratos.contrib.tools.words import TurnDoubt
from stratos.tasks.base import Item

SEED = 0
SHARES = (0.0, 0.1, 0.5)
TUNED = ("restaurant", "shop")
TALK = "respond_to_user"
Trace = list[Turn]


@dataclass
class Spoilt:
    """Traces in which some turns are wrong."""

    traces: list[Trace]
    wrong: dict[tuple[int, int], str]
    """Conversation and turn to what was done to it."""
    right: dict[tuple[int, int], Turn]
    """Turn that stood there."""


class Spoiler:
    """Draws wrong turns from the other turns of a log."""

    def __init__(self, traces: Sequence[Trace], foreign: Sequence[Trace], rng: random.Random):
        """Take in the log, and one of another service."""
        self.rng = rng
        turns = [turn for trace in traces for turn in trace if turn.role == "assistant"]
        self.talk = next((t.calls[0].name for t in turns if t.calls and "message" in
                          json.loads(t.calls[0].arguments)), None)  # fmt: skip
        self.texts = [turn for turn in turns if self.is_text(turn)]
        self.calls = defaultdict[str, list[Turn]](list)
        for turn in turns:
            if not self.is_text(turn):
                self.calls[turn.calls[0].name].append(turn)
        self.foreign = [turn for trace in foreign for turn in trace
                        if turn.calls and turn.calls[0].name != TALK]  # fmt: skip

    def is_text(self, turn: Turn) -> bool:
        """Return whether a turn speaks to the user."""
        return not turn.calls or turn.calls[0].name == self.talk

    def like(self, turn: Turn, other: Turn) -> Turn:
        """Return another turn in the place of one, with its id."""
        ids = [call.id for call in turn.calls] or ["call_x"]
        calls = tuple(replace(call, id=id) for call, id in zip(other.calls, ids, strict=False))
        return replace(turn, text=other.text, calls=calls)

    def swap_tool(self, turn: Turn) -> Turn | None:
        """Return a call of another tool: with the old arguments, or with those of another call."""
        if self.is_text(turn):
            return None
        names = [name for name in self.calls if name != turn.calls[0].name]
        if not names:
            return None
        other = self.rng.choice(self.calls[self.rng.choice(names)])
        if self.rng.random() < 0.5:
            return replace(turn, calls=(replace(turn.calls[0], name=other.calls[0].name),))
        return self.like(turn, other)

    def swap_parameters(self, turn: Turn) -> Turn | None:
        """Return the call with values of two parameters swapped, or one of another call."""
        if self.is_text(turn):
            return None
        call = turn.calls[0]
        arguments = json.loads(call.arguments)
        texts = [key for key, value in arguments.items() if isinstance(value, str)]
        if len(texts) > 1 and self.rng.random() < 0.5:
            a, b = self.rng.sample(texts, 2)
            arguments[a], arguments[b] = arguments[b], arguments[a]
        else:
            others = json.loads(self.rng.choice(self.calls[call.name]).calls[0].arguments)
            if not (shared := [k for k in arguments if k in others]):
                return None
            key = self.rng.choice(shared)
            arguments[key] = others[key]
        return replace(turn, calls=(replace(call, arguments=json.dumps(arguments)),))

    def call_to_text(self, turn: Turn) -> Turn | None:
        """Return a text in place of a call."""
        if self.is_text(turn) or not self.texts:
            return None
        return self.like(turn, self.rng.choice(self.texts))

    def text_to_call(self, turn: Turn) -> Turn | None:
        """Return a call in place of a text."""
        if not self.is_text(turn) or not self.calls:
            return None
        return self.like(turn, self.rng.choice(self.calls[self.rng.choice(list(self.calls))]))

    def mix_in(self, turn: Turn) -> Turn | None:
        """Return a call of another service."""
        return self.like(turn, self.rng.choice(self.foreign)) if self.foreign else None


KINDS = ("swap_tool", "swap_parameters", "call_to_text", "text_to_call", "mix_in", "shuffle",
         "repeat")  # fmt: skip


def spoil(traces: Sequence[Trace], foreign: Sequence[Trace], share: float, rng: random.Random,
          kinds: Sequence[str] = KINDS) -> Spoilt:  # fmt: skip
    """Spoil a share of the agent's turns, of each kind alike as far as it fits the turn."""
    spoiler = Spoiler(traces, foreign, rng)
    spoilt = Spoilt([], {}, {})
    for number, trace in enumerate(traces):
        turns = list(trace)
        wrong: dict[int, str] = {}
        places = [k for k, turn in enumerate(turns) if turn.role == "assistant"]
        drawn = [k for k in places if rng.random() < share]
        for k in drawn:
            if k in wrong:
                continue
            for kind in rng.sample(kinds, len(kinds)):
                if kind == "repeat":
                    if not spoiler.is_text(turns[k]):
                        wrong[k] = kind
                        break
                elif kind == "shuffle":
                    free = [j for j in places if j != k and j not in wrong and
                            content(turns[j]) != content(turns[k])]  # fmt: skip
                    if free and rng.random() < 0.5:  # each is two turns
                        j = rng.choice(free)
                        turns[k], turns[j] = spoiler.like(turns[k], turns[j]), spoiler.like(
                            turns[j], turns[k])  # fmt: skip
                        wrong[k] = wrong[j] = kind
                        break
                else:
                    made = getattr(spoiler, kind)(turns[k])
                    if made is not None and content(made) != content(turns[k]):
                        turns[k], wrong[k] = made, kind
                        break
        _write(spoilt, number, trace, turns, wrong)
    return spoilt


def content(turn: Turn) -> tuple[Any, ...]:
    """Return what a turn says and calls."""
    return turn.text, [(call.name, call.arguments) for call in turn.calls]


def _write(spoilt: Spoilt, number: int, trace: Trace, turns: Trace, wrong: dict[int, str]) -> None:
    """Add a trace whose repeated turns stand twice."""
    written: Trace = []
    for k, turn in enumerate(turns):
        written.append(turn)
        if (kind := wrong.get(k)) == "repeat":
            end = k + 1
            if end < len(turns) and turns[end].role == "tool":
                continue  # repeated behind the result
            written.append(turn)
        elif turn.role == "tool" and wrong.get(k - 1) == "repeat":
            written.append(turns[k - 1])
            kind = "repeat"
        if kind:
            spoilt.wrong[number, len(written) - 1] = kind
            spoilt.right[number, len(written) - 1] = trace[k]
    spoilt.traces.append(written)


def measured(spoilt: Spoilt, tools: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return precision and recall, of each kind and of each reason."""
    start = time.process_time()
    doubts = doubtful_turns(spoilt.traces, tools)
    seconds = time.process_time() - start
    marked = {(doubt.conversation, doubt.turn): doubt for doubt in doubts}
    n_turns = sum(turn.role == "assistant" for trace in spoilt.traces for turn in trace)
    n_right = len(set(marked) & set(spoilt.wrong))
    kinds = Counter(spoilt.wrong.values())
    reasons = Counter(doubt.reason.name for doubt in marked.values())
    right = Counter(doubt.reason.name for key, doubt in marked.items() if key in spoilt.wrong)
    return {
        "turns": n_turns,
        "wrong": len(spoilt.wrong),
        "doubted": len(marked),
        "doubted_wrong": n_right,
        "precision": n_right / len(marked) if marked else None,
        "recall": n_right / len(spoilt.wrong) if spoilt.wrong else None,
        "false_alarms": (len(marked) - n_right) / max(1, n_turns - len(spoilt.wrong)),
        "kinds": {kind: [sum(spoilt.wrong[key] == kind for key in marked if key in spoilt.wrong), n]
                  for kind, n in sorted(kinds.items())},
        "reasons": {reason: [right[reason], n] for reason, n in sorted(reasons.items())},
        "mean_probability": sum(d.probability for d in marked.values()) / max(1, len(marked)),
        "cpu_s": round(seconds, 2),
    }  # fmt: skip


def traces_of(name: str, n: int, seed: int) -> list[Trace]:
    """Return conversations of a service."""
    rng = random.Random(f"{name}-{seed}")
    return [SERVICE[name][1](rng) for _ in range(n)]


SYNONYMS = {
    "find": "search lookup get", "search": "find lookup query", "reserve": "book create",
    "book": "reserve order", "get": "fetch retrieve load", "cancel": "abort revoke",
    "restaurant": "place venue", "restaurants": "places venues", "respond": "reply answer",
    "user": "customer client", "city": "location town", "cuisine": "food_type category",
    "price": "cost budget", "time": "start_time hour", "date": "day on_date", "size": "count n",
    "party": "guests people", "message": "text content", "order": "purchase sale",
    "details": "info data", "items": "products articles", "address": "destination_address place",
    "email": "mail email_address", "name": "full_name title", "reason": "cause why",
    "zip": "postal_code postcode", "flights": "connections routes", "flight": "connection route",
    "hotels": "lodgings stays", "hotel": "lodging stay", "origin": "from_city departure",
    "destination": "to_city arrival", "weather": "forecast climate", "read": "get show",
    "logs": "log output", "list": "show get", "pods": "containers instances",
    "pod": "container instance", "service": "app deployment", "scale": "resize adjust",
    "restart": "reboot bounce", "metrics": "stats measurements", "ticket": "issue incident",
    "replicas": "copies n_instances", "severity": "priority level",
}  # fmt: skip


def other_name(name: str, rng: random.Random) -> str:
    """Return a name with other words, in another style."""
    words = [part.lower() for part in "".join(f"_{c}" if c.isupper() else c for c in name).split(
        "_") if part]  # fmt: skip
    words = [rng.choice(SYNONYMS[w].split()) if w in SYNONYMS and rng.random() < 0.7 else w
             for w in words]  # fmt: skip
    style = rng.randrange(3)
    if style == 0:
        return "_".join(words)
    titled = [part.title() for word in words for part in word.split("_")]
    return "".join(titled) if style == 1 else titled[0].lower() + "".join(titled[1:])


def drifted(traces: Sequence[Trace], share: float, rng: random.Random) -> Spoilt:
    """Rename tools and arguments in a share of the traces, in each in its own way."""
    spoilt = Spoilt([], {}, {})
    for number, trace in enumerate(traces):
        if rng.random() >= share:
            spoilt.traces.append(trace)
            continue
        names: dict[str, str] = {}
        made: Trace = []
        for k, turn in enumerate(trace):
            calls = []
            for call in turn.calls:
                words = {call.name: other_name(call.name, rng)} | {
                    key: other_name(key, rng) for key in json.loads(call.arguments)}  # fmt: skip
                names = words | names
                given = {names[key]: value for key, value in json.loads(call.arguments).items()}
                calls.append(replace(call, name=names[call.name], arguments=json.dumps(given)))
            made.append(replace(turn, calls=tuple(calls)))
            if content(made[-1]) != content(turn):
                spoilt.wrong[number, k], spoilt.right[number, k] = "rename", turn
        spoilt.traces.append(made)
    return spoilt


def mixed(traces: Sequence[Trace], foreign: Sequence[Trace]) -> Spoilt:
    """Put the traces of another service behind those of one; all their turns are wrong."""
    wrong = {(len(traces) + number, k): "foreign trace" for number, trace in enumerate(foreign)
             for k, turn in enumerate(trace) if turn.role == "assistant"}  # fmt: skip
    return Spoilt([*traces, *foreign], wrong, {})


def restored(spoilt: Spoilt, tools: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return how many renamed turns are as they were again, and how many of others differ."""
    of_each: dict[int, list[Doubt]] = defaultdict(list)
    for doubt in doubtful_turns(spoilt.traces, tools):
        of_each[doubt.conversation].append(doubt)
    repeated = {(c, doubt.turn) for c, some in of_each.items() for doubt in some
                if doubt.reason is TurnDoubt.REPEATED}  # fmt: skip
    # Turns that are cut out stay here, not to be learnt, so that places are those of the log.
    made = [
        [replace(turn, is_learnt=turn.is_learnt and (c, k) not in repeated)
         for k, turn in enumerate(mended(trace, [doubt for doubt in of_each[c]
                                                 if doubt.reason is not TurnDoubt.REPEATED]))]
        for c, trace in enumerate(spoilt.traces)
    ]  # fmt: skip
    same = sum(content(made[c][k]) == content(turn) and made[c][k].is_learnt
               for (c, k), turn in spoilt.right.items())  # fmt: skip
    wrongly = sum(
        content(turn) != content(spoilt.right.get((c, k), spoilt.traces[c][k])) and turn.is_learnt
        for c, trace in enumerate(made) for k, turn in enumerate(trace)
    )  # fmt: skip
    lost = sum(not turn.is_learnt for trace in made for turn in trace)
    return {
        "renamed": len(spoilt.right),
        "restored": same,
        "learnt_wrong": wrongly,
        "left_out": lost,
    }


NOISE = ("swap_tool", "swap_parameters", "call_to_text", "text_to_call")
"""Of 50% again, without what is simple to find."""
N_TIMED = 5000
MOST_CPU_S = 60
"""That reading 100,000 conversations may take, as it was asked for before it was measured."""


def of_service(name: str, n: int) -> dict[str, Any]:
    """Return what is found in the traces of a service, with tools given and inferred."""
    names = list(SERVICE)
    foreign = traces_of(names[names.index(name) - 1], n, SEED + 1)
    traces, given = traces_of(name, n, SEED), SERVICE[name][0]
    logs = {
        f"{share:.0%}": spoil(traces, foreign, share, random.Random(SEED)) for share in SHARES
    } | {"50%, no strangers": spoil(traces, foreign, 0.5, random.Random(SEED), NOISE),
         "foreign traces": mixed(traces, foreign[: n // 3])}  # fmt: skip
    measured_logs = {log: {"given": measured(spoilt, given)} for log, spoilt in logs.items()}
    for log in ("0%", "10%", "50%"):
        measured_logs[log]["inferred"] = measured(logs[log], usual_tools(logs[log].traces))
    names_drift = drifted(traces, 0.5, random.Random(SEED))
    return {
        "service": name,
        "tuned": name in TUNED,
        "logs": measured_logs,
        "renamed": {
            "given": restored(names_drift, given),
            "inferred": restored(names_drift, usual_tools(names_drift.traces)),
        },
    }


CORRUPTED = ("swap_tool", "swap_parameters")
N_LEARNT, N_HELD_OUT, SEEDS = 80, 40, (0, 1, 2)
"""Conversations that a student learns from, those that it is measured on, and draws of both."""


def learnt(name: str, seed: int, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what students get right of held-out right turns, taught as many raw or cleaned ones."""
    rng = random.Random(f"{name}-{seed}")
    right = traces_of(name, N_LEARNT + N_HELD_OUT, SEED + 10 + seed)
    logs = {
        "50% of the calls corrupted": spoil(right[:N_LEARNT], (), 0.5, rng, CORRUPTED).traces,
        "tools renamed in 50% of the traces": drifted(right[:N_LEARNT], 0.5, rng).traces,
    }
    tested = folder / "tested.jsonl"
    tested.write_text(lines_of(right[N_LEARNT:], SERVICE[name][0]))
    for log, traces in logs.items():
        path = folder / "learnt.jsonl"
        path.write_text(lines_of(traces))
        rows: dict[str, list[Item]] = {}
        for answers in ("trust", "verify"):
            task = ToolsTask(str(path), test_path=str(tested), answers=answers, on_error="skip",
                             validation_share=0.01)  # fmt: skip
            rows[answers] = task.items("train", 10**6, seed)
        n = min(map(len, rows.values()))
        items = task.items("test", 10**6)
        for answers, some in rows.items():
            year = year_in([item.answer for item in some[:n]])
            start = time.process_time()
            student = learn([state_of(item.question, year) for item in some[:n]],
                            [item.answer for item in some[:n]], year, seed)  # fmt: skip
            texts = [student.answer(state_of(item.question, year))[0] for item in items]
            seconds = time.process_time() - start
            of = {"caller": texts, "nearest": task.lookup(some[:n], items)}
            for kind, given in of.items():
                scores = [task.score(*pair).exact for pair in zip(given, items, strict=True)]
                calls = [score for score, item in zip(scores, items, strict=True)
                         if item.slice != TEXT and TALK not in item.answer]  # fmt: skip
                yield {"service": name, "seed": seed, "log": log, "answers": answers,
                       "student": kind, "rows": n, "tested": len(items),
                       "exact": sum(scores) / len(scores), "tested_calls": len(calls),
                       "exact_calls": sum(calls) / len(calls), "cpu_s": round(seconds, 1),
                       }  # fmt: skip


def lines_of(traces: Sequence[Trace], tools: Sequence[dict[str, Any]] | None = None) -> str:
    """Return traces as lines of a log, with the tools that they offer where these are named."""
    rows = []
    for trace in traces:
        messages = []
        for turn in trace:
            message: dict[str, Any] = {"role": turn.role, "content": turn.text}
            if turn.calls:
                message["tool_calls"] = [
                    {"id": call.id, "type": "function",
                     "function": {"name": call.name, "arguments": call.arguments}}
                    for call in turn.calls
                ]  # fmt: skip
            if turn.result_of is not None:
                message["tool_call_id"] = turn.result_of
            messages.append(message)
        rows.append({"messages": messages} | ({} if tools is None else {"tools": [*tools]}))
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def measure_learnt(options: argparse.Namespace) -> None:
    """Measure students of all services, and what cleaning is worth."""
    measured_students = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in SEEDS:
            for name in options.services.split(","):
                for row in learnt(name, seed, Path(folder)):
                    print(json.dumps(row), flush=True)
                    measured_students.append(row)
    gains = [
        {"log": log, "student": kind, "what": what, "services": options.services.split(","),
         **{answers: sum(some := [row[what] for row in measured_students
                                  if (row["log"], row["student"], row["answers"])
                                  == (log, kind, answers)]) / len(some)
            for answers in ("trust", "verify")}}
        for log, kind in dict.fromkeys((row["log"], row["student"]) for row in measured_students)
        for what in ("exact", "exact_calls")
    ]  # fmt: skip
    result = {"conversations": N_LEARNT, "gains": gains, "students": measured_students}
    record.finish("logs/traces_learnt", result, options, seed=list(SEEDS))


def measure_reading(options: argparse.Namespace) -> None:
    """Measure what it takes to read many conversations as turns of a task."""
    n = options.read
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "many.jsonl"
        with path.open("w") as file:
            for seed in range(0, n, N_TIMED):
                traces = traces_of("shop", min(N_TIMED, n - seed), SEED + seed)
                file.write(lines_of(traces))
        start, wall = time.process_time(), time.monotonic()
        task = ToolsTask(str(path))
        n_turns = task.n_train + task.n_test + len(task.items("validation", 10**9))
        seconds = {"cpu_s": time.process_time() - start, "wall_s": time.monotonic() - wall}
        result = {"conversations": n, "turns": n_turns, "mb": path.stat().st_size / 1e6,
                  **{key: round(value, 1) for key, value in seconds.items()},
                  "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
                  "most_cpu_s": MOST_CPU_S}  # fmt: skip
    record.finish("logs/traces_read", result, options, seed=SEED)


def main() -> None:
    """Measure all services, and the time of many conversations."""
    parser = record.arguments(__doc__)
    parser.add_argument("--conversations", type=int, default=330)
    parser.add_argument("--learnt", action="store_true")
    parser.add_argument("--read", type=int, help="conversations to read, and nothing else")
    parser.add_argument("--services", default="shop,operations")
    options = parser.parse_args()
    if options.read:
        measure_reading(options)
        return
    if options.learnt:
        measure_learnt(options)
        return
    services = [of_service(name, options.conversations) for name in SERVICE]
    many = spoil(traces_of("shop", N_TIMED, SEED), traces_of("travel", 330, SEED + 1), 0.5,
                 random.Random(SEED))  # fmt: skip
    timed = measured(many, SERVICE["shop"][0])
    result = {
        "conversations": options.conversations,
        "services": services,
        "timed": {"conversations": N_TIMED, **{k: timed[k] for k in ("turns", "cpu_s")}},
    }
    record.finish("logs/traces", result, options, seed=SEED)


if __name__ == "__main__":
    main()
