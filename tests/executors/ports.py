"""Ports of this machine that nothing listens on."""

from __future__ import annotations

import contextlib
import os
import socket


def free_ports(n: int, first: int = 17600) -> int:
    """Return the first of so many ports in a row that nothing listens on."""
    # Below those that the kernel hands out, and elsewhere for each process.
    for start in range(first + os.getpid() % 1000 * 8, 32000, n):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(start, start + n):
                    one = stack.enter_context(socket.socket())
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    one.bind(("", port))
            except OSError:
                continue
            return start
    raise AssertionError("no port is free")
