"""The distill stage: train the student on the corpus, resuming from the last checkpoint.

Several devices are several processes, which this one starts with torchrun and listens to. A student
that is no language model is fitted on the corpus and the validation rows.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT
from typing import Any

from stratos import records
from stratos.config import Config
from stratos.core.atomic_files import write_atomically
from stratos.core.context import Context
from stratos.core.errors import StratosError
from stratos.core.formats import counted
from stratos.core.values import named
from stratos.distill import meeting
from stratos.distill.trainer import SIGNALS, check_machine
from stratos.distill.words import CheckpointsAside, OtherInputs
from stratos.models.pretrained.folder import free_memory
from stratos.records import Corpus, Plan, Student


def distill(config: Config, plan: Plan, corpus: Corpus, context: Context) -> Student:
    """Train the planned student on the corpus.

    The training goes on from the last checkpoint in the run folder if that was made from the same
    inputs (`context.fingerprint`), and ends with the same weights as one that was never stopped.
    Several devices are several processes, which this one starts and listens to.
    """
    began = time.monotonic()
    folder = context.run_dir / "distill"
    folder.mkdir(parents=True, exist_ok=True)
    context.ledger.cut_at_usd = None
    chosen = named(config.students, plan.student)
    if not chosen.is_lm:
        from stratos.distill.kind_training import train_kind  # imports scipy

        return train_kind(config, chosen, corpus, context)
    check_machine(config.trainer)
    _make_way(folder, context)
    context.tick(0, 1, "loading PyTorch")
    if config.trainer.devices * config.trainer.num_nodes > 1:
        student = train_together(config, plan, corpus, context)
    else:
        from stratos.distill.train import train

        trained = train(config, plan, corpus, context, began=began)
        assert trained is not None
        student = trained
        # Trainer, optimizer and module refer to each other: several times the student's weights.
        free_memory()
    for left_over in ("checkpoints", "checkpoints.other", "shallow"):
        shutil.rmtree(folder / left_over, ignore_errors=True)
    return student


def _make_way(folder: Path, context: Context) -> None:
    """Put a checkpoint that was made from other inputs aside, and note those of this training."""
    inputs, checkpoints, aside = (
        folder / name for name in ("inputs.txt", "checkpoints", "checkpoints.other")
    )
    reason = OtherInputs.CONFIG_OR_CORPUS
    if inputs.exists() and inputs.read_text() == context.fingerprint:
        from stratos.distill.checkpoints import may_learn_more

        if not may_learn_more(folder, context.ledger.cap_usd()):
            return
        reason = OtherInputs.NO_SIGNAL
    if any(checkpoints.glob("step-*.ckpt")):
        shutil.rmtree(aside, ignore_errors=True)
        checkpoints.replace(aside)
        context.warn(str(CheckpointsAside(str(checkpoints), str(aside), reason)))
    for stale in (checkpoints, folder / "shallow"):
        shutil.rmtree(stale, ignore_errors=True)
    write_atomically(inputs, context.fingerprint.encode())


JOB, STUDENT, LOG, SCRIPT = "job.pickle", "student.json", "processes.log", "launch.sh"
_PORT = 29500


@dataclass(frozen=True)
class Job:
    """What every process has to know."""

    config: Config
    plan: Plan
    corpus: Corpus
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
    job = Job(config, plan, corpus, context.cache_dir, context.fingerprint)
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
    output = ""
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
                    output = values
                else:
                    getattr(context, kind)(*values)
            code = process.wait()
    if code:
        raise StratosError(output or f"A training process failed with code {code}: see {log}.")


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
