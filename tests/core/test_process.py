"""A job ends itself at its limit, and a process at a signal, whenever that comes."""

import os
import subprocess
import sys

import pytest

JOB = """
import time
from stratos.core.process import Terminated, end_as_by_ctrl_c, end_at_limit
end_as_by_ctrl_c()
end_at_limit()
try:
    time.sleep(30)
except Terminated as told:
    print("settled", told.exit_code)
"""


def test_a_job_ends_at_its_limit_as_behind_ctrl_c():
    env = {**os.environ, "STRATOS_JOB_SECONDS": "0.5"}
    done = subprocess.run(
        [sys.executable, "-c", JOB], env=env, capture_output=True, text=True, timeout=25, check=True
    )
    assert done.stdout == "settled 143\n"


CALLED_BACK = """
import os, signal, sys, time, weakref
from stratos.core.process import Terminated, end_as_by_ctrl_c

class Held:
    pass

signal.signal(signal.SIGINT, signal.default_int_handler)  # else ignored behind `&`
end_as_by_ctrl_c()
held = Held()
# The callback runs inside of `del`, where Python drops what is raised.
reference = weakref.ref(held, lambda _: os.kill(os.getpid(), getattr(signal, sys.argv[1])))
try:
    del held
    time.sleep(20)
except KeyboardInterrupt as told:
    print(type(told).__name__)
"""


@pytest.mark.parametrize(
    ("name", "raised"), [("SIGTERM", "Terminated"), ("SIGINT", "KeyboardInterrupt")]
)
def test_a_signal_in_a_callback_that_drops_errors_still_ends_the_process(name, raised):
    done = subprocess.run(
        [sys.executable, "-c", CALLED_BACK, name], capture_output=True, text=True, timeout=25,
        check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (f"{raised}\n", "")
