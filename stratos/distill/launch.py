"""Multi-process training: started here, as a job on several nodes, or by a script on each."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT
from typing import Any

from stratos import records
from stratos.config import Config
from stratos.core.context import Context
from stratos.core.counted import counted
from stratos.core.errors import StratosError
from stratos.distill import meeting
from stratos.distill.interrupts import SIGNALS
from stratos.records import Corpus, Plan, Student

JOB, STUDENT, LOG, SCRIPT = "job.pickle", "student.json", "processes.log", "launch.sh"
_PORT = 29500


@dataclass(frozen=True)
class Job:
    """What every process has to know."""

    config: Config
    plan: Plan
    corpus: Corpus
    run_dir: Path
    cache_dir: Path
    fingerprint: str


def train_together(config: Config, plan: Plan, corpus: Corpus, context: Context) -> Student:
    """Train in one process for each device and return the student that they made.

    Raises:
        StratosError: a process failed; or there are several servers, and the launch script has yet
            to be run on each of them.
    """
    folder = context.run_dir / "distill"
    result = folder / STUDENT
    done = records.load(result, context.fingerprint, Student)
    if done is not None:
        return done
    for teacher in config.teachers:
        teacher.close()  # weights are no part of a job
    job = Job(
        config, plan, corpus, context.run_dir.resolve(), context.cache_dir, context.fingerprint
    )
    path = folder / JOB
    path.touch(mode=0o600)
    path.write_bytes(pickle.dumps(job))
    trainer = config.trainer
    if trainer.num_nodes > 1 and meeting.called() is None:
        script = folder / SCRIPT
        script.write_text(
            launch_script(plan.student, folder.resolve(), trainer.num_nodes, trainer.devices)
        )
        raise StratosError(
            f"{trainer.num_nodes} servers train together. Run on each of them:"
            f" NODE_RANK=<0 to {trainer.num_nodes - 1}> MASTER_ADDR=<the first "
            f"server> bash {script} (under Slurm: srun --ntasks-per-node=1 bash {script}). Then "
            "give the same command again."
        )
    # Where this process is killed, the training processes end with it.
    guard = Path(__file__).parents[1] / "deploy" / "guard.py"
    command = [sys.executable, "-P", str(guard), "torch.distributed.run"]
    if (file := meeting.called()) is not None and trainer.num_nodes > 1:
        command += meeting.call(file, folder.resolve(), trainer.num_nodes, trainer.devices).words(0)
    else:
        command += ["--standalone", f"--nproc-per-node={trainer.devices}"]
        command += ["-m", "stratos.distill.worker", str(folder)]
    _listen(command, folder / LOG, context)
    done = records.load(result, context.fingerprint, Student)
    if done is None:
        raise StratosError(f"The training processes left no student: see {folder / LOG}.")
    return done


def launch_script(student: str, folder: Path, n_nodes: int, n_devices: int) -> str:
    """Return the script that every server runs."""
    processes = counted(n_devices, "process", "processes")
    return f"""#!/usr/bin/env bash
# Trains {student} on {n_nodes} servers with {processes} each, which all see this folder.
#   NODE_RANK=0 MASTER_ADDR=<the first server> bash {SCRIPT}
# Under Slurm, which knows both:
#   srun --nodes={n_nodes} --ntasks-per-node=1 bash {SCRIPT}
set -euo pipefail
NODE_RANK="${{NODE_RANK:-${{SLURM_NODEID:?say which server this is: NODE_RANK=0 for the first}}}}"
if [ -z "${{MASTER_ADDR:-}}" ]; then
  MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
fi
exec python -m torch.distributed.run \\
  --nnodes={n_nodes} \\
  --nproc-per-node={n_devices} \\
  --node-rank="$NODE_RANK" \\
  --master-addr="$MASTER_ADDR" \\
  --master-port="${{MASTER_PORT:-{_PORT}}}" \\
  -m stratos.distill.worker "{folder}"
"""


def _listen(command: list[str], log: Path, context: Context) -> None:
    """Run the processes and hand on what the first one says.

    Raises:
        StratosError: a process failed.
    """
    said = ""
    with log.open("w") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            start_new_session=True,
        )
        with _ended_with_us(process):
            assert process.stdout is not None
            for line in process.stdout:
                try:
                    [(kind, values)] = json.loads(line).items()
                except (ValueError, AttributeError):
                    file.write(line)
                    continue
                if kind == "error":
                    said = values
                else:
                    getattr(context, kind)(*values)
            code = process.wait()
    if code:
        raise StratosError(said or f"A training process failed with code {code}: see {log}.")


@contextmanager
def _ended_with_us(process: subprocess.Popen[str]) -> Iterator[None]:
    """Have a checkpoint written when this process is to end, and leave no process behind."""

    def hand_on(number: int, _: Any) -> None:
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise SystemExit(128 + number)

    # Ctrl-C raises here, for it does not reach processes of another session.
    before = {
        number: signal.signal(number, hand_on)
        for number in SIGNALS
        if number != SIGINT and signal.getsignal(number) is not signal.SIG_IGN  # `nohup`
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
