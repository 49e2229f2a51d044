"""What a run says where no bar can be drawn."""

import io
import time

from rich.console import Console as RichConsole

from stratos.run import console
from stratos.run.console import Console


def test_a_stage_without_a_word_for_long_says_that_it_is_at_work(monkeypatch):
    monkeypatch.setattr(console, "_HEARTBEAT_S", 0.2)
    file = io.StringIO()
    with Console(RichConsole(file=file, width=80)).stage("probe") as tick:
        tick(1, 4, "smollm2")
        tick(2, 4, "smollm2")
        deadline = time.monotonic() + 20
        while file.getvalue().count("\n") < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
    first, told, *silent = file.getvalue().splitlines()
    assert first.split() == ["probe", "…"]
    assert told.split() == ["probe", "50%", "smollm2"]
    for line in silent:
        assert line.split()[:7] == ["probe", "50%", "smollm2,", "still", "at", "work", "after"]
    after = len(file.getvalue())
    time.sleep(0.5)
    assert len(file.getvalue()) == after
