"""The main command as a process, on a run that is as short as a training can be."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SMALL = (
    "+task=mahjong", "cloud=aws", "logger=none", "student=stratos_300k", "strategy=injection",
    "strategy.n_items=300", "trainer.precision=fp32", "trainer.max_tokens=60000",
    "trainer.batch_tokens=4096", "trainer.warmup_steps=2", "trainer.n_threads=1",
    "callbacks.checkpoint_every_steps=2", "callbacks.validate_every_steps=0",
    "callbacks.n_validation_items=4", "evaluate.max_new_tokens=16", "plan.history=false",
)  # fmt: skip

CLOCKS = frozenset((
    "seconds", "cpu_seconds", "wall_seconds", "items_per_s", "latency_p50_ms", "latency_p95_ms",
    "tokens_per_s", "answer_ms", "load", "others_cores", "was_busy", "earlier_reads",
    "expected_seconds", "setup_seconds", "usd_per_1000", "bundle_bytes", "n_cached",
))  # fmt: skip
"""Fields of records that a clock, or the order of runs, decides; a bundle tells its speed."""


def all_but_distill(teacher: Path) -> tuple[str, ...]:
    """Return what runs all other stages, as short as they can be, with a teacher in a folder."""
    return (
        "teacher=local", f"teacher.path={teacher}", "probe.n_items=4", "probe.max_items=4",
        "probe.n_trial_items=2", "probe.max_tokens=16",
        "stages=[probe,plan,synthesize,evaluate,deploy]", "evaluate.n_items=4",
        "evaluate.n_teacher_items=2", "evaluate.n_untouched_items=2", "deploy.n_requests=2",
        # Times and memory of exports would differ from run to run.
        "deploy=local", "deploy.load_seconds=0",
    )  # fmt: skip


class Command:
    """One run folder, and the command that works in it."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.env: Mapping[str, str] = os.environ
        self.prefix: tuple[str, ...] = ()
        """Of the command: what it runs in."""
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *argv: str) -> subprocess.Popen[bytes]:
        stages = () if any(one.startswith("stages=") for one in argv) else ("stages=[distill]",)
        given = {one.partition("=")[0] for one in argv}
        small = (one for one in SMALL if one.partition("=")[0] not in given)
        words = [*small, *stages, f"hydra.run.dir={self.run}", *argv]
        self.run.parent.mkdir(parents=True, exist_ok=True)
        cache = self.run.parent / "cache"
        env = {**self.env, "STRATOS_CACHE": str(cache), "XDG_STATE_HOME": str(self.state),
               "OMP_NUM_THREADS": "1"}  # fmt: skip
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", "stratos", *words],
                cwd=self.run.parent, env=env, stdout=log, stderr=log, preexec_fn=heed_ctrl_c,
            )  # fmt: skip
        return self.process

    @property
    def state(self) -> Path:
        """Return where it writes down which jobs it has started."""
        return self.run.parent / "state"

    def servers(self, *argv: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """List what was started, or end it."""
        env = {**self.env, "XDG_STATE_HOME": str(self.state),
               "STRATOS_CACHE": str(self.run.parent / "cache")}  # fmt: skip
        return subprocess.run(
            [*self.prefix, sys.executable, "-m", "stratos", "servers", *argv],
            env=env, capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip

    @property
    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def until(self, moment: Callable[[], bool], seconds: float = 120) -> None:
        """Wait for something that happens while the command runs."""
        last = time.monotonic() + seconds
        while not moment():
            assert self.process is not None and self.process.poll() is None, self.said
            assert time.monotonic() < last, self.said
            time.sleep(0.02)

    def begin_with_student_of(self, other: Command) -> None:
        """Make the run folder one in which a student is trained, and all else is to be made."""
        shutil.rmtree(self.run, ignore_errors=True)
        shutil.copytree(other.run, self.run)
        shutil.rmtree(self.run / "corpus")
        for stage in ("probe", "plan", "synthesize"):
            (self.run / f"{stage}.json").unlink()

    def lack_corpus(self) -> tuple[str, ...]:
        """Make the corpus what comes next; return what makes it a job: one of few seconds."""
        (self.run / "synthesize.json").unlink()
        shutil.rmtree(self.run / "corpus")
        return ("stages=[synthesize]", "executor.stages=[synthesize]")

    def has_checkpoint(self) -> bool:
        return any((self.run / "distill" / "checkpoints").glob("*.ckpt"))

    def record(self, stage: str) -> dict[str, Any]:
        """Return a record without what a clock says, and without where its run lies."""
        text = (self.run / f"{stage}.json").read_text().replace(str(self.run), "<run>")
        return _timeless(json.loads(text)["record"])

    def rows(self, name: str) -> list[Any]:
        """Return the lines of a file without what a clock says."""
        return [_timeless(json.loads(one)) for one in (self.run / name).read_text().splitlines()]

    def student(self) -> dict[str, Any]:
        """Return all of the student's record but what a clock says."""
        record: dict[str, Any] = json.loads((self.run / "distill.json").read_text())["record"]
        return {name: record[name] for name in ("weights_sha256", "steps", "train_tokens")}

    @property
    def weights(self) -> Path:
        """Return the folder of the student."""
        return self.run / "distill" / "student"

    def ledger(self) -> list[dict[str, Any]]:
        lines = (self.run / "ledger.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    @property
    def _log(self) -> Path:
        return self.run.parent / "log"


def files(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder, but what a clock says of answers."""
    assert folder.is_dir()
    found = (one for one in sorted(folder.rglob("*")) if one.is_file())
    return {str(one.relative_to(folder)): _content(one) for one in found}


def _content(path: Path) -> bytes:
    if path.name != "examples.jsonl":
        return path.read_bytes()
    rows = [_timeless(json.loads(line)) for line in path.read_text().splitlines()]
    return json.dumps(rows).encode()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: one for key, one in value.items() if key not in CLOCKS}
        if isinstance(kept.get("memory_gib"), dict):  # what was measured, beside what was expected
            kept["memory_gib"] = kept["memory_gib"]["predicted"]
        return {key: _timeless(one) for key, one in kept.items()}
    return [_timeless(one) for one in value] if isinstance(value, list) else value


def heed_ctrl_c() -> None:
    """Let Ctrl-C reach the command: a shell's background ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
