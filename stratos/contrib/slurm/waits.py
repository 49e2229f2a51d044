"""How long a job of SLURM would wait: as the scheduler expects, else as jobs of last week did.

`sbatch --test-only` submits nothing, and says when the job would start, with what runs and waits
now. Where it says nothing, the accounting knows how long others have waited.
"""

from __future__ import annotations

import re
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from stratos.contrib.slurm import nodes as slurm_nodes
from stratos.contrib.slurm.nodes import constraint_of, gres_of, last_line, time_of
from stratos.core.shares import Share

_MOST_ASKED = 64
"""Shares that the scheduler is asked about: of more, the others have the wait of their history."""
_AT_ONCE = 4
_ASKED_S = 10.0
"""Seconds after which a busy controller is asked no more."""
_STEP_HOURS = 0.05
"""Waits are told in steps: a scheduler knows them no better."""
_DAYS = 7
_FEWEST = 5
"""Jobs of a partition that make a history."""
_STARTS = re.compile(r"to start at (\S+)")


def expected_start(arguments: Sequence[str], timeout_s: float = _ASKED_S) -> float | None:
    """Return in how many seconds SLURM expects to start a job; None where it does not say.

    Args:
        arguments: of sbatch, without a script.
        timeout_s: seconds that it may take to answer.
    """
    asked = slurm_nodes.run("sbatch", "--test-only", *arguments, "--wrap=true", timeout_s=timeout_s)
    found = _STARTS.search(asked.stderr + asked.stdout)
    when = None if asked.returncode or found is None else time_of(found[1])
    return None if when is None else max(0.0, when - time.time())


def expected_waits(shares: Sequence[Share]) -> tuple[dict[tuple[str, str], float], str]:
    """Return the hours until a job of each share starts, and why some are not known.

    Args:
        shares: of nodes.

    Returns:
        Partition and name of a share to hours, in steps of three minutes; and a reason, "" where
        all are known.
    """
    until = time.monotonic() + _ASKED_S

    def asked(share: Share) -> float | None:
        left = until - time.monotonic()
        return expected_start(_arguments(share), left) if left > 0 else None

    few = list(shares)[:_MOST_ASKED]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        seconds = dict(zip(((one.partition, one.name) for one in few), pool.map(asked, few),
                           strict=True))  # fmt: skip
    hours = {key: found / 3600 for key, found in seconds.items() if found is not None}
    why = ""
    if len(hours) < len(shares):
        past, why = _waits_of_history()
        for one in shares:
            if one.partition in past:
                hours.setdefault((one.partition, one.name), past[one.partition])
    stepped = {key: round(one / _STEP_HOURS) * _STEP_HOURS for key, one in hours.items()}
    if len(stepped) == len(shares):
        return stepped, ""
    return stepped, why or f"sbatch --test-only does not tell, nor do jobs of the last {_DAYS} days"


def past_waits(told: str) -> dict[str, float]:
    """Return the median wait of a partition's jobs in hours, from what sacct says of them.

    Args:
        told: lines of "partition|when it might have started|when it did".
    """
    waits: defaultdict[str, list[float]] = defaultdict(list)
    for line in told.splitlines():
        partition, _, times = line.partition("|")
        try:
            eligible, started = map(datetime.fromisoformat, times.split("|"))
        except ValueError:  # Unknown: it waits yet, or was cancelled before
            continue
        waits[partition].append(max(0.0, (started - eligible).total_seconds() / 3600))
    return {name: statistics.median(one) for name, one in waits.items() if len(one) >= _FEWEST}


def _waits_of_history() -> tuple[dict[str, float], str]:
    asked = slurm_nodes.run(
        "sacct", "-a", "-X", "-n", "-P", "-S", f"now-{_DAYS}days", "-o", "Partition,Eligible,Start",
        timeout_s=_ASKED_S,
    )  # fmt: skip
    if asked.returncode:
        said = last_line(asked.stderr or asked.stdout)
        return {}, f"sbatch --test-only does not tell, and there is no history ({said})"
    return past_waits(asked.stdout), ""


def _arguments(share: Share) -> list[str]:
    """Return what sbatch is told to ask for a share; its time is the partition's default."""
    told = ["-p", share.partition, "-c", str(share.cpus), f"--mem={share.memory_mib}M"]
    if (gres := gres_of(share)) is not None:
        told.append(f"--gres={gres}")
    if (constraint := constraint_of(share)) is not None:
        told.append(f"--constraint={constraint}")
    return told
