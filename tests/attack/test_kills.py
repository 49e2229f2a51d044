"""Killed at moments that a seed draws, a run comes to what it would have come to."""

import random
import shutil
import signal
import time

import pytest

from tests.attack.whole_run import N_KILLS, SEED, new_run
from tests.teachers.provider import Provider
from tests.whole import IS_WHOLE

pytestmark = [pytest.mark.slow, pytest.mark.kill]

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
ENDS = (0, 128 + signal.SIGTERM, 130, *(-number for number in SIGNALS))
"""The last where a signal comes before anybody listens."""


@pytest.mark.skipif(
    not IS_WHOLE, reason="a quarter of an hour; the tests of the pipeline kill, too"
)
def test_a_run_that_is_killed_again_and_again_comes_to_the_same(tmp_path, record_property):
    draw = random.Random(SEED)
    with Provider() as teacher:
        whole, killed = (new_run(tmp_path / name, teacher) for name in ("whole", "killed"))
        started = time.monotonic()
        ended = whole.go_on()
        longest_s = time.monotonic() - started
        assert ended.code == 0, ended.output
        n_killed = 0
        while n_killed < N_KILLS:
            with (tmp_path / "log").open("ab") as log:
                process = killed.start(stdout=log)
            time.sleep(draw.uniform(1.0, longest_s))
            process.send_signal(draw.choice(SIGNALS))
            code = process.wait(300)
            assert code in ENDS, f"kill {n_killed}"
            if code:
                n_killed += 1
            else:  # it came to its end before; killing goes on with a new one
                assert killed.result() == whole.result(), f"kill {n_killed}"
                shutil.rmtree(killed.folder)
        ended = killed.go_on()
        assert ended.code == 0, ended.output
        assert "Traceback" not in (tmp_path / "log").read_text(errors="replace")
        assert killed.result() == whole.result()
    record_property("tried", n_killed)
    record_property("survived", n_killed)
