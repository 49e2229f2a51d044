"""The table of README: each row from a kept result, as a range over what was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import record

from figures_of.common import source, span, table
from figures_of.distillation import dtypes, memories, speeds


def _scale(scale: Any) -> list[list[str]]:
    return [
        [
            "plan over 90,000 real catalog rows × 12 students × 8 teachers, cold cache, warm cache "
            "(`benchmarks/planner/scale.py`)",
            f"{scale['real-cold']['total']:.1f}, {scale['real-warm']['total']:.1f} CPU s; "
            f"{scale['real-warm']['peak MiB']} MiB",
            "10, 2 s",
        ],
        [
            "plan over 1,000,000 synthetic offers; over 3,700 private nodes at 2,000 requests/s; "
            "over the real rows at 20 requests/s in 3 sizes",
            "; ".join(f"{scale[n]['total']:.1f}" for n in ("million", "private", "real-rate"))
            + " CPU s",
            "15; 5; 2 s",
        ],
    ]


def _optima(optima: Any) -> list[list[str]]:
    done = [one for one in optima if one["theirs_usd"] is not None]
    return [
        [
            f"plan vs SkyPilot's optimizer on {len(done)} task chains and diamonds (`peers.py`)",
            f"same optima; ours in {span((one['ours_s'] for one in optima), '.2f')} s, "
            f"theirs in {span((one['theirs_s'] for one in done), '.2f')} s"
            + ("" if len(done) == len(optima) else f", {len(optima) - len(done)} did not finish"),
            "same",
        ]
    ]


def _step(found: Any) -> list[list[str]]:
    step = "distillation/step"
    cases = ("trl GKD", "plain loop", "plain loop, TRL's chunked loss")
    n_shapes = len({name.partition(", ")[0] for name in found})
    return [
        [
            f"distillation step, tokens per CPU s, {n_shapes} shapes (`step.py`), vs TRL's "
            "GKDTrainer; vs a plain loop; vs a plain loop with TRL's chunked loss",
            _by_dtype(step, cases),
            "2×; 1.5×; –",
        ],
        [
            "peak memory of the step, as a share of TRL's GKDTrainer",
            f"{memories(step, 'trl GKD')}×",
            "0.33×",
        ],
    ]


def _sft(found: Any) -> list[list[str]]:
    sft = "distillation/sft"
    n_students = len({name.partition(", ")[0] for name in found})
    return [
        [
            f"fine-tuning, {n_students} students (`sft.py`), vs TRL's SFTTrainer packed (no fast "
            "attention on a CPU); vs the same sorted by length; vs a plain loop",
            _by_dtype(sft, ("trl packed", "trl sorted", "plain loop")),
            "1.5× the best",
        ]
    ]


def _by_dtype(name: str, cases: Sequence[str]) -> str:
    """Return the ranges beside each case, for one precision after the other."""
    told = []
    for dtype in dtypes(name):
        ranges = "; ".join(f"{speeds(name, case, dtype)}×" for case in cases)
        told.append(f"{dtype} {ranges}".strip())
    return " · ".join(told)


def _head(found: Any) -> list[list[str]]:
    heads: dict[str, list[dict[str, Any]]] = {}
    for one in found:
        heads.setdefault(one["objective"], []).append(one["best"])

    def over(objective: str, key: str) -> str:
        return span(b["trl GKD"][key] / b["stratos"][key] for b in heads[objective])

    return [
        [
            "head and loss vs TRL's GKD (`head.py`): CPU seconds and memory of forward KL; of JSD",
            "; ".join(f"{over(o, 'cpu_s')}×, {over(o, 'mib')}×" for o in heads),
            "2.4×, 5×; 4×, 8×",
        ]
    ]


def _cache(found: Any) -> list[list[str]]:
    return [
        [
            "speed of an epoch from the logits cache vs the first epoch; vs asking the teacher "
            "again (`cache.py`)",
            f"{found['later_epoch_over_first']:.1f}×; {found['cache_over_online']:.1f}×",
            "3×",
        ]
    ]


def _throughput(asked: Any) -> list[list[str]]:
    ways = {name: one for name, one in asked.items() if isinstance(one, dict)}
    return [
        [
            f"{asked['n']:,} requests of {1000 * asked['delay_s']:.0f} ms "
            "(`benchmarks/teachers/throughput.py`), share of ideal throughput",
            "; ".join(f"{n}: {one['ideal_s'] / one['wall_s']:.1%}" for n, one in ways.items()),
            "95%",
        ],
        [
            "the same, with every tenth request failing",
            "; ".join(f"{n}: {one['faults']['wall_s']:.1f} s" for n, one in ways.items()),
            "–",
        ],
    ]


def _generation(found: Any) -> list[list[str]]:
    ways = {size: one["ways"]["model.generate"] for size, one in found["batches"].items()}
    ratios = ", ".join(f"{way['ratio']:.1f}× (batch of {size})" for size, way in ways.items())
    same = min(way["same"] for way in ways.values())
    return [
        [
            "greedy decoding of a Mahjong student vs `model.generate`, tokens per CPU s "
            "(`generation.py`)",
            f"{ratios}; {same:.0%} equal",
            "–",
        ]
    ]


def _startup(start: Any) -> list[list[str]]:
    return [
        [
            "start-up of `--help`, `--cfg job` vs a bare Hydra app (`startup.py`)",
            ", ".join(f"{start[name]['ratio']:.2f}×" for name in ("--help", "--cfg job")),
            "1.5×",
        ],
        [
            "`stages=[plan]` with a cached probe, whole process",
            f"{start['plan']['cpu_s']:.1f} CPU s, {start['plan']['wall_s']:.1f} s",
            "3 s",
        ],
    ]


def _corpus(corpus: Any) -> list[list[str]]:
    return [
        [
            f"corpus of {corpus['items']:,} verified, deduplicated Mahjong items "
            "(`benchmarks/corpus/mahjong.py`)",
            f"{corpus['wall_s']:.0f} s, {corpus['cpu_s']:.0f} CPU s",
            "60 s",
        ]
    ]


def _engine(engine: Any) -> list[list[str]]:
    return [
        [
            "reverse generation, every step verified (`benchmarks/mahjong_engine.py`)",
            f"{engine['items_per_s_a_core']:,.0f} items/s a core",
            "2,000",
        ],
        [
            "Mahjong engine vs the package `mahjong` (same script)",
            f"agrees on {engine['agree']:,} of {engine['hands']:,} hands",
            "all",
        ],
    ]


ROOMS: dict[str, Callable[[Any], list[list[str]]]] = {
    "planner/scale": _scale,
    "planner/peers": _optima,
    "distillation/step": _step,
    "distillation/sft": _sft,
    "distillation/head": _head,
    "distillation/cache_topk": _cache,
    "teachers/throughput": _throughput,
    "generation": _generation,
    "startup": _startup,
    "corpus/mahjong": _corpus,
    "mahjong_engine": _engine,
}
"""Rows by kept result: what was not measured has none."""


def peers() -> str:
    """What README says beside public peers, and of our own speed."""
    kept = [name for name in ROOMS if (record.RESULTS / f"{name}.json").exists()]
    rows = [row for name in kept for row in ROOMS[name](record.load(name)["result"])]
    return table(("what", "measured", "target"), rows) + f"\n\n{source(*kept)}."


BLOCKS = {"peers": peers}
