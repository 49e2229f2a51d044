"""Levenberg-Marquardt in numpy: a few positive constants, residuals in logarithms, priors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def solve(residuals: Callable[[Array], Array], start: Array, n_steps: int = 60) -> Array:
    """Return the parameters that minimise the sum of squared residuals.

    Args:
        residuals: parameters to residuals.
        start: parameters to start from.
        n_steps: most steps; it ends earlier where no step helps.
    """
    x, damping = start.copy(), 1e-2
    r = residuals(x)
    for _ in range(n_steps):
        jacobian = np.stack(
            [(residuals(x + step) - r) / 1e-5 for step in 1e-5 * np.eye(len(x))], axis=1
        )
        normal, gradient = jacobian.T @ jacobian, jacobian.T @ r
        for _ in range(12):
            step = np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-9), -gradient)
            other = residuals(x + step)
            if other @ other < r @ r:
                break
            damping *= 4
        else:
            return x
        gain = (r @ r - other @ other) / (r @ r)
        x, r, damping = x + step, other, damping / 8
        if gain < 1e-8:
            break
    return x


def robust(residuals: Array, scale: float) -> Array:
    """Return residuals that grow like a root beyond `scale`: sum of squares is a soft L1 loss."""
    z = (residuals / scale) ** 2
    return np.sign(residuals) * scale * np.sqrt(2 * (np.sqrt(1 + z) - 1))
