"""Figures of what else runs: teachers, answers, the Mahjong engine, corpora and start-up."""

from __future__ import annotations

import record

from figures_of.common import source, table


def throughput() -> str:
    """A thousand requests to a loopback endpoint: `teachers/throughput.py`."""
    found = record.load("teachers/throughput")["result"]
    ways = {name: one for name, one in found.items() if isinstance(one, dict)}
    rows = [
        [
            "seconds, share of ideal throughput",
            *(f"{o['wall_s']:.1f} s, {o['ideal_s'] / o['wall_s']:.1%}" for o in ways.values()),
        ],
        ["CPU seconds, imports included", *(f"{one['cpu_s']:.1f}" for one in ways.values())],
        [
            "with one request in ten failing, in every way",
            *(f"{one['faults']['wall_s']:.1f} s" for one in ways.values()),
        ],
        [
            "lost, answered twice",
            *(
                f"{one['faults']['lost']}, {one['faults']['answered_twice']}"
                for one in ways.values()
            ),
        ],
        [
            "killed halfway: requests repeated",
            *(str(one["killed"]["asked_twice"]) for one in ways.values()),
        ],
    ]
    return table(("", *(f"{name} concurrent requests" for name in ways)), rows) + (
        f"\n\n{source('teachers/throughput')}."
    )


def waits() -> str:
    """How many tiles complete a hand, and how fast items are made: `mahjong_engine.py`."""
    found = record.load("mahjong_engine")["result"]
    sizes = sorted({int(n) for name in ("full flush", "general") for n in found[name]})
    rows = [
        [name, *(str(found[name].get(str(n), 0)) for n in sizes)]
        for name in ("full flush", "general")
    ]
    return table(("tiles", *map(str, sizes)), rows)


def reverse() -> str:
    """How fast items are made answer first."""
    found = record.load("mahjong_engine")["result"]
    return (
        f"`benchmarks/mahjong_engine.py`: {found['items_per_s_a_core']:,.0f} verified items a "
        f"second on one core (target 2,000), {found['refused']} rejected; the engine and the "
        f"package `mahjong` agree on {found['agree']:,} of {found['hands']:,} hands "
        f"({source('mahjong_engine')})."
    )


def catalog() -> str:
    """Reading and cleaning of catalogs: `catalog.py`."""
    rows = []
    for which, one in record.load("catalog")["result"].items():
        for name, case in one.items():
            if name in ("rows", "megabytes", "runs"):
                continue
            rows.append(
                [
                    f"{one['rows']:,} {which} rows: {name}",
                    f"{case['cpu_s']:.2f}",
                    f"{case['ratio']:.2f}",
                    f"{case['peak_mib']:.0f}",
                ]
            )
    head = ("", "CPU s", "against pandas", "peak MiB")
    return table(head, rows) + f"\n\n{source('catalog')}."


BLOCKS = {"throughput": throughput, "waits": waits, "reverse": reverse, "catalog": catalog}
