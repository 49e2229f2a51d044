"""What pays ends with whoever started it, and settles what is under way."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

from stratos.ledger import Ledger
from tests.attack.whole_run import environment, typed
from tests.teachers.provider import Provider, always

pytestmark = [pytest.mark.slow, pytest.mark.kill]


def begin(
    folder: Path, provider: Provider, *more: str, on_hangup: signal.Handlers = signal.SIG_DFL
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        typed(folder, provider, "stages=[probe]", "teacher.concurrency=2", *more),
        env=environment(), cwd=folder, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, on_hangup),
    )  # fmt: skip


def wait_for(provider: Provider, n: int, timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while provider.n_tries < n:
        assert time.monotonic() < deadline, "nothing is asked"
        time.sleep(0.05)


def is_asked_no_more(provider: Provider, within_s: float = 10) -> bool:
    """Return whether questions, several a second until now, come to an end soon."""
    last = time.monotonic() + within_s
    while time.monotonic() < last:
        n = provider.n_tries
        time.sleep(1.5)
        if provider.n_tries == n:
            return True
    return False


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGHUP])
def test_nothing_goes_on_paying_where_a_sweep_is_ended(tmp_path, dear, how):
    dear.rule = always(delay_s=0.3)
    sweep = begin(
        tmp_path, dear, "-m", "hydra/launcher=pool", "probe.n_items=40,41",
        "hydra.sweep.dir=sweep", "limits.probe_usd=100",
    )  # fmt: skip
    wait_for(dear, 12)
    sweep.send_signal(how)
    assert is_asked_no_more(dear)
    sweep.wait(30)
    bill = dear.bill.usd
    ledgers = [Ledger(path) for path in tmp_path.glob("sweep/*/ledger.jsonl")]
    assert sum(ledger.spent_usd for ledger in ledgers) >= bill - 1e-9
    assert sum(ledger.reserved_usd for ledger in ledgers) == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_told_to_end_settles_what_is_under_way(tmp_path, dear, how):
    dear.rule = always(delay_s=0.3)
    run = begin(tmp_path, dear, f"hydra.run.dir={tmp_path / 'run'}")
    wait_for(dear, 8)
    run.send_signal(how)
    printed, _ = run.communicate(timeout=60)
    assert run.returncode == 128 + how
    assert "Interrupted. Finished work is kept." in printed and "Traceback" not in printed
    ledger = tmp_path / "run" / "ledger.jsonl"
    assert "not settled" not in ledger.read_text()
    assert Ledger(ledger).reserved_usd == 0
    assert dear.bill.usd - 1e-9 <= Ledger(ledger).spent_usd + 1e-9


def test_under_nohup_a_closed_terminal_ends_nothing(tmp_path, dear):
    dear.rule = always(delay_s=0.3)
    size = ("probe.n_items=16", "probe.max_items=16", f"hydra.run.dir={tmp_path / 'run'}")
    run = begin(tmp_path, dear, *size, on_hangup=signal.SIG_IGN)
    wait_for(dear, 4)
    run.send_signal(signal.SIGHUP)
    printed, _ = run.communicate(timeout=120)
    assert run.returncode == 0, printed
