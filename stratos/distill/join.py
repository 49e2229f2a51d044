"""A server that trains with others: `python -m stratos.distill.join <file> <which server>`.

The first server calls the others by a file (`distill.meeting`) when it has all that they need.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from stratos.distill.meeting import await_call


def main() -> None:
    """Wait for the first server, and become the launcher of this one."""
    meeting = await_call(Path(sys.argv[1]))
    if meeting is None:
        return
    command = [sys.executable, "-m", "torch.distributed.run", *meeting.words(int(sys.argv[2]))]
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
