"""The size of the code, and how long its tests take."""

from __future__ import annotations

import record

from figures_of.common import source


def house() -> str:
    """Return both in a few lines."""
    result = record.load("house")["result"]
    sizes, tests = result["sizes"], result["tests"]
    minutes, cpu = tests["seconds"] / 60, tests["cpu_seconds"] / 60
    return (
        f"{sizes['core_lines']:,} lines of code in the core and {sizes['contrib_lines']:,} in the "
        f"{sizes['rooms']} rooms of contrib (without blank lines, comments and docstrings), in\n"
        f"{sizes['files']} files and {sizes['packages']} packages. `make test` took {minutes:.1f} "
        f"minutes, {cpu:.1f} of CPU time (`benchmarks/house.py`; {source('house')})."
    )


BLOCKS = {"house": house}
