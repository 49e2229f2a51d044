"""Run a module as a subprocess that ends, with its children, when its parent is gone.

    python -P guard.py MODULE [ARGUMENT …]

The starter holds the other end of standard input: it closes even when the starter is killed. The
program has to be the leader of a process group of its own. This file is run by its path and
imports nothing of Stratos.
"""

import os
import runpy
import signal
import sys
import threading


def _end_with_starter() -> None:
    while os.read(0, 1024):
        pass
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Watch standard input, and run the module."""
    threading.Thread(target=_end_with_starter, daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
