"""Jobs of a sweep that start in parallel ask a paid teacher once for what they all need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from stratos.report.costs import read_ledger
from tests.teachers.chat_server import KEY
from tests.teachers.perfect_server import PerfectServer

pytestmark = pytest.mark.slow

N_JOBS = 3


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Write labelled and unlabelled rows; return question to answer."""
    known = {f"{a} plus {b}": str((a + b) % 7) for a in range(20) for b in range(15)}
    rows = [{"question": question, "answer": answer} for question, answer in known.items()]
    labelled, unlabelled = rows[:200], [{"question": row["question"]} for row in rows[200:]]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, labelled)))
    (tmp_path / "more.jsonl").write_text("\n".join(map(json.dumps, unlabelled)))
    return known


def sweep(folder: Path, server: PerfectServer, cache: str, values: str) -> None:
    argv = [
        sys.executable, "-m", "stratos", "-m", "logger=none", "cloud=aws", "plan.history=false",
        "+task=jsonl", "task.path=rows.jsonl", "task.unlabelled_path=more.jsonl",
        "stages=[probe,plan,synthesize]", "strategy=pseudo_labels", "student=stratos_300k",
        "teacher=endpoint", f"teacher.base_url={server.base_url}", "teacher.model=parrot-large",
        "teacher.api_key_env=PARROT_KEY", "teacher.accept_terms=true",
        "teacher.usd_per_million_input_tokens=100", "teacher.usd_per_million_output_tokens=100",
        "probe.n_items=16", "probe.max_items=16", "probe.n_trial_items=8",
        "hydra/launcher=pool", f"hydra.launcher.n_jobs={N_JOBS}",
        f"hydra.sweep.dir={cache}_sweep", f"trainer.lr_muon={values}",
    ]  # fmt: skip
    env = {**os.environ, "STRATOS_CACHE": str(folder / cache), "PARROT_KEY": KEY}
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    logs = "".join(log.read_text() for log in folder.glob(f"{cache}_sweep/*/console.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs


def spent_usd(folder: Path) -> float:
    ledgers = folder.glob("*/ledger.jsonl")
    return sum(spend.usd for path in ledgers for spend in read_ledger(path))


def test_parallel_jobs_ask_what_one_would(tmp_path, files):
    with PerfectServer(files) as server:
        server.delay_s = 0.02  # so that jobs are at it together
        sweep(tmp_path, server, "one", "0.01")
        alone = Counter(json.dumps(body, sort_keys=True) for body in server.requests)
        server.requests.clear()
        sweep(tmp_path, server, "all", "0.005,0.01,0.02")
        together = Counter(json.dumps(body, sort_keys=True) for body in server.requests)
    assert len(alone) > 100, "the corpus was asked for, too"
    assert together == alone
    usd = spent_usd(tmp_path / "one_sweep")
    assert usd > 0
    assert spent_usd(tmp_path / "all_sweep") == pytest.approx(usd)

    # What one job has lost is made again, in its folder, by the command that resumes the sweep.
    (tmp_path / "all_sweep" / "1" / "plan.json").unlink()
    logs = [tmp_path / "all_sweep" / name / "stratos.log" for name in ("0", "2")]
    before = [path.stat().st_mtime_ns for path in logs]
    env = {**os.environ, "STRATOS_CACHE": str(tmp_path / "all"), "PARROT_KEY": KEY}
    done = subprocess.run(
        [sys.executable, "-m", "stratos", "sweep", "resume", "all_sweep"],
        cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 job of 3 not finished" in done.stdout + done.stderr
    assert (tmp_path / "all_sweep" / "1" / "plan.json").exists()
    assert [path.stat().st_mtime_ns for path in logs] == before
    assert (tmp_path / "all_sweep" / "index.html").exists()
