"""A machine that is lost while a teacher answers: what was paid for is not paid for again."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.attack.whole_run import command, environment, typed
from tests.teachers.provider import Provider, Reply
from tests.whole import IS_WHOLE

pytestmark = [pytest.mark.slow, pytest.mark.kill]

LEFT = 30
"""Answers of the corpus that are not there when the machine is lost."""
STAGES = ("stages=[probe,plan,synthesize]", "strategy=alignment", "student=stratos_300k")


@pytest.mark.skipif(not IS_WHOLE, reason="three whole commands")
def test_no_question_is_paid_twice_where_folder_and_cache_are_lost(tmp_path):
    limit, n_begun = 10**9, 0

    def rule(text: str, n_tries: int) -> Reply:
        nonlocal n_begun
        if n_begun == limit:
            return Reply(delay_s=3600.0)
        n_begun += 1
        return Reply()

    on = (*STAGES, "probe.n_items=8", "probe.max_items=8", "probe.n_trial_items=4",
          f"paths.mirror=file://{tmp_path}/bucket", "paths.mirror_minutes=60")  # fmt: skip
    with Provider(rule=rule) as teacher:

        def run_whole(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
            done = command(folder, teacher, *more)
            assert done.returncode == 0, done.stdout + done.stderr
            return done

        first, second, whole = (tmp_path / name for name in ("first", "second", "whole"))
        for folder in (first, second, whole):
            folder.mkdir()
        run_whole(whole, *on[:-2])
        n_whole, usd = teacher.bill.n_answers, teacher.bill.usd
        assert n_whole > 3 * LEFT
        limit = 2 * n_whole - LEFT
        begun = typed(first, teacher, *on, f"hydra.run.dir={first}/run")
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen(begun, env=environment(), stdout=log, stderr=log)
            try:
                until = time.monotonic() + 120
                while teacher.bill.n_answers < limit or _n_copied(first / "run") < n_whole - LEFT:
                    assert process.poll() is None and time.monotonic() < until, (
                        tmp_path / "log"
                    ).read_text()
                    time.sleep(0.1)
            finally:
                process.kill()
                process.wait()
        shutil.rmtree(first)
        (tmp_path / "bucket" / "leases" / "1.json").unlink()  # its holder is another machine's
        limit = 10**9
        done = run_whole(second, *on)
        assert "answers of teachers came with the copy" in done.stdout
        assert corpus_of(second) == corpus_of(whole)
        assert teacher.bill.n_answers == 2 * n_whole
        assert teacher.bill.usd == pytest.approx(2 * usd)


def corpus_of(folder: Path) -> str:
    return json.loads((folder / "run" / "synthesize.json").read_text())["record"]["sha256"]


def _n_copied(run: Path) -> int:
    """Return how many answers are in the copy, as far as the run folder knows."""
    known = run / ".mirror.json"
    if not known.exists():
        return 0
    stored = json.loads(known.read_text())["files"]
    sizes = {run / name: file["n_bytes"] for name, file in stored.items() if "answers/" in name}
    return sum(path.read_bytes()[:n].count(b"\n") for path, n in sizes.items() if path.exists())
