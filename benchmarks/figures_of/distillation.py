"""Figures of docs/distillation.md: steps, fine-tuning, heads, and the cache of signals."""

from __future__ import annotations

from typing import Any

import record

from figures_of.common import source, span, table

SHAPES = {
    "medium_vocabulary": "tiny body, vocabulary 50,000",
    "large_vocabulary": "tiny body, vocabulary 152,000",
    "body": "12 layers of 256, vocabulary 15,000",
    "body_unequal": "the same, documents of unequal length",
    "deep_body": "16 layers of 384, vocabulary 15,000",
}


def _results(name: str) -> dict[str, Any]:
    found: dict[str, Any] = record.load(name)["result"]
    return found


def step() -> str:
    """Whole distillation steps: `distillation/step.py`."""
    found = _results("distillation/step")
    cases = ("cached", "trl GKD", "plain loop", "plain loop, TRL's chunked loss")
    head = ("shape, precision", "Stratos, tokens per CPU s", *cases)
    rows = []
    for name, one in found.items():
        shape, _, dtype = name.partition(", ")
        speed, memory = one["stratos_times_as_fast_as"], one["stratos_memory_over"]
        ours = one["median"]["stratos"]
        rows.append(
            [
                f"{SHAPES[shape]}{dtype and f', {dtype}'}",
                f"{ours['tokens_per_s']:,.0f} · {ours['mib']:,.0f} MiB",
                *(f"{speed[case]:.2f}× · {memory[case]:.2f}×" for case in cases),
            ]
        )
    return (
        table(head, rows)
        + "\n\nEach cell: Stratos's tokens per CPU second over the column's · its rise of peak "
        + "memory over the column's.\n"
        + f"{source('distillation/step')}."
    )


def sft() -> str:
    """Fine-tuning on text: `distillation/sft.py`."""
    found = _results("distillation/sft")
    cases = ("trl packed", "trl sorted", "plain loop")
    head = ("student, precision", "Stratos, tokens per CPU s", "of the floor", *cases)
    rows = []
    for name, one in found.items():
        speed, memory = one["stratos_times_as_fast_as"], one["stratos_memory_over"]
        rows.append(
            [
                name,
                f"{one['median']['stratos']['tokens_per_s']:,.0f}",
                f"{one['share_of_floor']['stratos']:.0%}",
                *(f"{speed[case]:.2f}× · {memory[case]:.2f}×" for case in cases),
            ]
        )
    return table(head, rows) + f"\n\n{source('distillation/sft')}."


def head() -> str:
    """Head and loss: `distillation/head.py`."""
    blocks = []
    for one in _results("distillation/head"):
        ours = one["best"]["stratos"]
        rows = [
            [
                name,
                f"{best['cpu_s']:.2f}",
                f"{best['cpu_s'] / ours['cpu_s']:.1f}×",
                f"{best['mib']:,.0f}",
                f"{best['mib'] / ours['mib']:.1f}×",
            ]
            for name, best in one["best"].items()
        ]
        title = (
            f"Vocabulary {one['vocab']:,}, {one['tokens']:,} tokens, {one['masked']}% masked, "
            f"{one['dtype']}, {one['objective']}:"
        )
        blocks.append(f"{title}\n\n{table(('', 'CPU s', '', 'MiB', ''), rows)}")
    return "\n\n".join([*blocks, f"{source('distillation/head')}."])


def cache() -> str:
    """The cache of signals: `distillation/cache.py`."""
    rows = []
    for name in ("topk", "sampled"):
        one = _results(f"distillation/cache_{name}")
        speed = one["tokens_per_cpu_s"]
        rows.append(
            [
                name,
                f"{one['bytes_per_token']:.0f}",
                f"{speed['online']:,.0f}",
                f"{speed['cache']:,.0f}",
                f"{one['later_epoch_over_first']:.1f}×",
                f"{one['cache_over_online']:.1f}×",
                f"{one['reading_share']:.1%}",
            ]
        )
    head = (
        "cache",
        "bytes a token",
        "tokens per CPU s, teacher asked",
        "later epoch",
        "over the first",
        "over asking again",
        "reading",
    )
    names = [f"distillation/cache_{name}" for name in ("topk", "sampled")]
    return table(head, rows) + f"\n\n{source(*names)}."


def busy() -> str:
    """Training and answering beside other work: `busy.py`."""
    from statistics import median

    rows: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for one in record.load("distillation/busy")["result"]:
        rows.setdefault((one["busy"], one["arm"]), []).append(one)
    cells = [
        [
            str(n_busy),
            arm,
            f"{median(one['seconds_per_step'] for one in of):.2f}",
            f"{median(one['cpu_seconds_per_step'] for one in of):.2f}",
            f"{median(one['answer_tokens_per_s'] for one in of):,.0f}",
        ]
        for (n_busy, arm), of in rows.items()
    ]
    head = ("busy processes", "threads", "s a step", "CPU s a step", "tokens of answers a second")
    return table(head, cells) + f"\n\n{source('distillation/busy')}."


def since() -> str:
    """Mahjong training now and at an earlier commit: `distillation/since.py`."""
    from statistics import median

    found = _results("distillation/since")
    rows = [
        [
            str(one["busy"]),
            *(
                f"{median(run['tokens_per_s'] for run in one['runs'][tree]):,.0f}"
                for tree in ("before", "now")
            ),
            f"{one['times']:.1f}×",
        ]
        for one in found["cases"]
    ]
    head = ("busy processes", f"at {found['commit']}, tokens a second", "now", "faster")
    return table(head, rows) + f"\n\n{source('distillation/since')}."


def heavy_tail() -> str:
    """Rows of documents of unequal lengths: `distillation/heavy_tail.py`."""
    rows = [
        [
            one["corpus"],
            one["dtype"],
            f"{one['mean_length']:,}, {one['longest']:,}",
            f"{one['padded_places_per_token']:.1f}",
            f"{one['times_equal_lengths']:.2f}×",
        ]
        for one in _results("distillation/heavy_tail")
    ]
    head = ("corpus", "precision", "mean and longest", "places a token if padded", "CPU time")
    return table(head, rows) + f"\n\n{source('distillation/heavy_tail')}."


def dtypes(name: str) -> list[str]:
    """Return the precisions that were measured, in their order."""
    return list(dict.fromkeys(one.partition(", ")[2] for one in _results(name)))


def speeds(name: str, case: str, dtype: str) -> str:
    """Return the range over shapes of how many times as fast as `case` Stratos is."""
    found = [one for key, one in _results(name).items() if key.partition(", ")[2] == dtype]
    return span((one["stratos_times_as_fast_as"][case] for one in found), ".1f")


def memories(name: str, case: str) -> str:
    """Return the range over shapes of the memory of Stratos over that of `case`."""
    found = _results(name)
    return span((one["stratos_memory_over"][case] for one in found.values()), ".2f")


def attention() -> str:
    """Attention in bfloat16 on a CPU: `distillation/attention.py`."""
    found = _results("distillation/attention")
    head = ("documents × heads × tokens × width", "flash, CPU ms", "by blocks", "faster", "off by")
    rows = [
        [
            " × ".join(f"{n:,}" for n in one["shape"]),
            f"{one['ms']['flash']:.1f}",
            f"{one['ms']['blocked']:.1f}",
            f"{one['ms']['flash'] / one['ms']['blocked']:.1f}×",
            f"{one['off_percent']['flash']:.2f}%, {one['off_percent']['blocked']:.2f}%",
        ]
        for one in found["attention"]
    ]
    ranks = found["ranks"]
    return (
        table(head, rows)
        + f"\n\n`universal_logit` takes {ranks['universal_logit']:.2f} ms a position at a "
        + "vocabulary of 50,000, its two sorts by torch.sort alone would take "
        + f"{ranks['torch.sort twice']:.2f}, and `forward_kl` takes {ranks['forward_kl']:.2f}.\n"
        + f"{source('distillation/attention')}."
    )


BLOCKS = {
    "attention": attention,
    "step": step,
    "sft": sft,
    "head": head,
    "cache": cache,
    "busy": busy,
    "since": since,
    "heavy_tail": heavy_tail,
}
