"""Seconds of a product in bfloat16 on one core, by torch.

`python -m stratos.estimate.bf16_product 1024` prints them: planning need not import torch itself.
"""

from __future__ import annotations

import sys
import time

import torch

SECONDS = 0.4
"""CPU seconds that the measurement may take."""


def seconds(size: int) -> float:
    """Return the CPU seconds of the quickest product; the first, which prepares, never is.

    Args:
        size: rows and columns of both matrices.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        a, b = torch.randn(2, size, size).bfloat16()
        best, end = float("inf"), time.process_time() + SECONDS
        while (start := time.process_time()) < end:
            torch.mm(a, b)
            best = min(best, time.process_time() - start)
        return best
    finally:
        torch.set_num_threads(n_threads)


if __name__ == "__main__":
    print(seconds(int(sys.argv[1])))
