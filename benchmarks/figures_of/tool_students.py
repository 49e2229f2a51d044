"""Figures of docs/contrib/tools.md: students of tool calls by injection alone, on bfcl-eval."""

from __future__ import annotations

from typing import Any

import record

from figures_of.common import source, span, table

NONE = "–"
_ROLES = ("student", "untouched", "teacher")
_SLICES = {
    "simple": "one tool, one call",
    "multiple": "several tools, one call",
    "parallel": "several calls",
    "irrelevant": "no call",
    "tools seen": "calls of tools whose schemas were learnt from",
    "tools not seen": "calls of other tools",
}


def tool_students() -> str:
    """Each family: three models, freely and constrained, and McNemar's test."""
    kept = record.load("tool_students")
    families = kept["result"]["families"]
    head = ["API", "items", "student", "constrained", "untouched", "constrained", "teacher",
            "constrained", "p, untouched", "p, teacher"]  # fmt: skip
    rows = [_of_family(name, row) for name, row in families.items()]
    return f"{table(head, rows)}\n\n{_how(kept)}"


def tool_students_slices() -> str:
    """All families together, by slice."""
    row = record.load("tool_students")["result"]["families"]["all"]
    if not _is_measured(row):
        return f"Not measured{': ' + row['failed'] if 'failed' in row else ' yet'}."
    head = [
        "slice",
        "items",
        *(f"{role}{more}" for role in _ROLES for more in ("", ", constrained")),
    ]
    shown = {**_SLICES, "all": "all"}
    scores = row["scores"]
    lines = [
        [
            told,
            f"{scores['student'][slice]['n']}",
            *(_share(scores, key, slice) for key in head[2:]),
        ]
        for slice, told in shown.items()
        if slice in scores["student"]
    ]
    return table(head, lines)


def _is_measured(row: dict[str, Any]) -> bool:
    """Return whether the student was asked."""
    return "student" in row.get("scores", {})


def _of_family(name: str, row: dict[str, Any]) -> list[str]:
    told = name if name == "all" else f"`{name}`"
    if "failed" in row:
        return [told, f"failed: {row['failed']}", *[NONE] * 8]
    scores = row["scores"]
    shares = [
        _share(scores, key, "all", has_ends=True)
        for role in _ROLES
        for key in (role, f"{role}, constrained")
    ]
    of_half = f" of {row['n_half']}" if row["n_half"] > row["n_items"] else ""
    tests = [
        f"{row['against'][key]['p']:.1g}" if key in row["against"] else NONE
        for key in ("student / untouched", "student / teacher")
    ]
    return [told, f"{row['n_items']}{of_half}", *shares, *tests]


def _share(scores: dict[str, Any], role: str, slice: str, *, has_ends: bool = False) -> str:
    one = scores.get(role, {}).get(slice)
    if one is None:
        return NONE
    ends = f" ({100 * one['low']:.0f}–{100 * one['high']:.0f})" if has_ends else ""
    return f"{100 * one['right'] / one['n']:.0f}%{ends}"


def _how(kept: dict[str, Any]) -> str:
    families = kept["result"]["families"]
    done = [row for row in families.values() if _is_measured(row)]
    apis = [row for name, row in families.items() if name != "all" and _is_measured(row)]
    together = families.get("all", {})
    tokens = [span((row["train_tokens"] for row in apis), ",")] if apis else []
    tokens += [f"{together['train_tokens']:,} on all"] if "train_tokens" in together else []
    cpu = [row["train_cpu_seconds"] for row in done]
    loads = [row["load_average"] for row in done if "load_average" in row]
    n_cut = sum(row["scores"]["student"]["n_cut"] for row in done)
    told = " tokens of one API and ".join(tokens) if len(tokens) > 1 else f"{tokens[0]} tokens"
    longest, n_unread = kept["result"]["longest"], len(kept["result"]["unread"])
    return (
        f"Student: {kept['result']['student']}, trained on {told} ({span(cpu, '.0f')} CPU "
        f"seconds). Answers are cut at {longest} tokens: {n_cut} of the student's. {n_unread} "
        "items of the package cannot be read, as their gold calls do not match their own schemas. "
        f"{source('tool_students')}, beside other work (load of {span(loads, '.0f')} before a "
        "family)."
    )


BLOCKS = {"tool_students": tool_students, "tool_students_slices": tool_students_slices}
