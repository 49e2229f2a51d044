"""What pays ends with whoever started it, and settles what is under way."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
from commands import environment, typed
from server import Bill, Deed, Provider

from stratos.ledger import Ledger

pytestmark = [pytest.mark.slow, pytest.mark.kill]


def slowly(text: str, n_tries: int) -> Deed:
    return Deed(delay_s=0.3)


def begin(folder: Path, provider: Provider, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        typed(folder, provider, "stages=[probe]", "teacher.concurrency=2", *more),
        env=environment(), cwd=folder, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )  # fmt: skip


def wait_for(provider: Provider, n: int, timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while sum(provider.tries.values()) < n:
        assert time.monotonic() < deadline, "nothing is asked"
        time.sleep(0.05)


def is_asked_no_more(provider: Provider, within_s: float = 10) -> bool:
    """Return whether questions, several a second until now, come to an end soon."""
    last = time.monotonic() + within_s
    while time.monotonic() < last:
        n = sum(provider.tries.values())
        time.sleep(1.5)
        if sum(provider.tries.values()) == n:
            return True
    return False


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGHUP])
def test_nothing_goes_on_paying_where_a_sweep_is_ended(tmp_path: Path, how: signal.Signals) -> None:
    with Provider(slowly, bill=Bill(1_000.0, 10_000.0)) as provider:
        sweep = begin(
            tmp_path, provider, "-m", "hydra/launcher=pool", "probe.n_items=40,41",
            "hydra.sweep.dir=sweep", "limits.probe_usd=100",
        )  # fmt: skip
        wait_for(provider, 12)
        sweep.send_signal(how)
        assert is_asked_no_more(provider)
        sweep.wait(30)
        bill = provider.bill.usd
    ledgers = [Ledger(path) for path in tmp_path.glob("sweep/*/ledger.jsonl")]
    assert sum(one.spent_usd for one in ledgers) >= bill - 1e-9
    assert sum(one.reserved_usd for one in ledgers) == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_told_to_end_settles_what_is_under_way(
    tmp_path: Path, how: signal.Signals
) -> None:
    with Provider(slowly, bill=Bill(1_000.0, 10_000.0)) as provider:
        run = begin(tmp_path, provider, f"hydra.run.dir={tmp_path / 'run'}")
        wait_for(provider, 8)
        run.send_signal(how)
        told, _ = run.communicate(timeout=60)
        assert run.returncode == 128 + how
        assert "Interrupted. Finished work is kept." in told and "Traceback" not in told
        ledger = tmp_path / "run" / "ledger.jsonl"
        assert "not settled" not in ledger.read_text()
        assert Ledger(ledger).reserved_usd == 0
        assert provider.bill.usd - 1e-9 <= Ledger(ledger).spent_usd + 1e-9


def test_under_nohup_a_closed_terminal_ends_nothing(tmp_path: Path) -> None:
    with Provider(slowly, bill=Bill(1_000.0, 10_000.0)) as provider:
        run = subprocess.Popen(
            typed(
                tmp_path, provider, "stages=[probe]", f"hydra.run.dir={tmp_path / 'run'}",
                "probe.n_items=16", "probe.max_items=16",
            ),
            env=environment(), cwd=tmp_path, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
        )  # fmt: skip
        wait_for(provider, 4)
        run.send_signal(signal.SIGHUP)
        told, _ = run.communicate(timeout=120)
        assert run.returncode == 0, told
