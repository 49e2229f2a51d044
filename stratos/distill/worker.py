"""One worker of a multi-process training: `python -m stratos.distill.worker <folder>`.

It is started by `torch.distributed.run`, which tells it its rank. The first process says on its
standard output, as lines of JSON, what the stage is to show.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import traceback
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from stratos import records
from stratos.core.context import Context
from stratos.core.errors import StratosError
from stratos.core.process import end_with_parent
from stratos.distill.stage import JOB, STUDENT, Job
from stratos.distill.train import train
from stratos.ledger import Ledger


def main() -> None:
    """Train with the others."""
    end_with_parent(at_once=True)
    folder = Path(sys.argv[1])
    rank, n_ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    job: Job = pickle.loads((folder / JOB).read_bytes())
    context = Context(
        folder.parent,
        job.cache_dir,
        Ledger(folder.parent / "ledger.jsonl", job.config.limits.budget_usd),
        tick=partial(_speak, rank, "tick"),
        warn=partial(_speak, rank, "warn"),
        note=partial(_speak, rank, "note"),
        log=partial(_speak, rank, "log"),
        fingerprint=job.fingerprint,
    )
    try:
        student = train(job.config, job.plan, job.corpus, context, rank, n_ranks)
    except StratosError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        _leave(1)
    if student is not None:
        records.save(folder / STUDENT, "distill", job.fingerprint, student)
    _leave(0)


def _leave(code: int) -> NoReturn:
    """End this process without taking apart what torch holds.

    On a CPU, threads of torch outlive the interpreter now and then, and abort a process that has
    done all its work (6 of 25 runs of three all-reduces; destroying the group changes nothing).
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _speak(rank: int, kind: str, *values: Any, step: int | None = None) -> None:
    """Say what a context is to say; the ranks behind the first are silent."""
    if rank == 0:
        spoken = [*values, step] if kind == "log" else list(values)
        print(json.dumps({kind: spoken}), flush=True)


if __name__ == "__main__":
    try:
        main()
    except SystemExit as ended:
        _leave(ended.code if isinstance(ended.code, int) else 1)
    except BaseException:
        traceback.print_exc()
        _leave(1)
