"""A process is told from a later one of the same number: in containers, and behind a reboot."""

import os
import subprocess
import sys
import time
from dataclasses import replace

import container

from stratos.core.process import Process
from stratos.ledger import Ledger


def test_this_process_lives_and_its_namesakes_do_not():
    me = Process.this()
    assert me.pid == os.getpid() and not me.is_dead()
    assert replace(me, started=f"{int(me.started) - 1}" if me.started.isdigit() else "0").is_dead()
    assert replace(me, boot="another boot").is_dead()
    assert replace(me, pid=2**22 + 7).is_dead()
    # What is not known does not tell; on another machine nobody can look.
    assert not Process(me.host, me.pid).is_dead()
    assert not replace(me, host="elsewhere", pid=2**22 + 7, boot="another boot").is_dead()


def test_one_that_nobody_waited_for_is_dead():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    one = replace(Process.this(), pid=child.pid, started="")
    assert not one.is_dead()
    child.kill()
    deadline = time.monotonic() + 10
    while not one.is_dead() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert one.is_dead()  # still a zombie
    child.wait()


RESERVE = """
import sys, time
from pathlib import Path
from stratos.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]), 1.0)
ledger.take("teacher x", 0.6)
print("taken", flush=True)
time.sleep(60)
"""
AGAIN = """
import os, sys
from pathlib import Path
from stratos.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]), 2.0)
print(os.getpid(), ledger.spent_usd, ledger.reserved_usd, ledger.left_usd(), flush=True)
"""


def test_a_restart_under_the_same_number_does_not_hold_its_own_money(tmp_path):
    path = tmp_path / "ledger.jsonl"
    first = container.start(RESERVE, str(path))
    assert first.stdout is not None and first.stdout.readline() == "taken\n"
    first.kill()
    first.wait()
    told, _ = container.start(AGAIN, str(path)).communicate(timeout=60)
    assert told.split() == ["1", "0.6", "0.0", "1.4"]


CLAIM = """
import sys, time
from pathlib import Path
from stratos.teachers.cache import AnswerCache
cache = AnswerCache(Path(sys.argv[1]), print)
print(cache.claim("a question"), flush=True)
if len(sys.argv) > 2:
    time.sleep(60)
"""


def test_a_restart_under_the_same_number_does_not_wait_for_its_own_claims(tmp_path):
    first = container.start(CLAIM, str(tmp_path), "stay")
    assert first.stdout is not None and first.stdout.readline() == "True\n"
    first.kill()
    first.wait()
    again, _ = container.start(CLAIM, str(tmp_path)).communicate(timeout=60)
    assert again == "True\n"


def test_whoever_is_alone_in_a_folder_settles_what_other_machines_left(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path, 1.0)
    ledger.take("teacher x", 0.25)
    path.write_text(path.read_text().replace(Process.this().host, "a-pod-that-is-gone"))
    (tmp_path / ".ledger.json").unlink()
    assert Ledger(path).reserved_usd == 0.25
    alone = Ledger(path, is_alone=True)
    assert (alone.spent_usd, alone.reserved_usd) == (0.25, 0.0)
