"""A job ends itself at its limit."""

from __future__ import annotations

import os
import subprocess
import sys

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


def test_a_job_ends_at_its_limit_as_behind_ctrl_c() -> None:
    env = {**os.environ, "STRATOS_JOB_SECONDS": "0.5"}
    done = subprocess.run(
        [sys.executable, "-c", JOB], env=env, capture_output=True, text=True, timeout=25, check=True
    )
    assert done.stdout == "settled 143\n"
