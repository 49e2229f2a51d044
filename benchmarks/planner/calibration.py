r"""How often the interval of a predicted accuracy holds what really comes out.

    python benchmarks/planner/calibration.py --seeds 200 --keep

Simulated: learning curves drawn from a wide family (a power law of the hazard with a floor, whose
exponent changes at a quarter of the planned length, seeds that move it, items of unequal
difficulty), seen through binomial noise.
Trained: small learners that are really trained, in NumPy, on tasks drawn anew for every seed: no
power law is put into them, and some of them have none. Their sizes are those of toys; what they
share with a student is that accuracy grows with data and has to be guessed from less of it.
Each is predicted from a pilot (three trainings, the longest 1/4 or 1/16 of the planned one, on 128
validation items each), from finished runs of the same length, and from one of another length; runs
are measured on 512 validation items, the same for all. The interval is checked against the accuracy
itself and, widened by what so few show (`on_items`), against what 1,000 and 60 test items measure.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import record

from stratos.core.intervals import on_items
from stratos.plan.accuracy.learning_curve import Measured, extrapolate, on_same_items
from stratos.records import Interval

N_PILOT, N_VALIDATION, N_TEST, N_FEW = 128, 512, 1000, 60
PILOT_PARTS = (0.25, 0.5, 1.0)
Trained = Callable[[int, int, np.ndarray], np.ndarray]
"""(examples, seed, items) -> which items are right, of one training."""


@dataclass(frozen=True)
class Learner:
    """A task with a way to train on it."""

    right: Trained
    items: Callable[[np.random.Generator, int], np.ndarray]
    planned: int
    """Examples of the planned training."""


# --- simulated ------------------------------------------------------------------------------------


def simulated(rng: np.random.Generator) -> Learner:
    """Return a learner that is nothing but a curve and chance."""
    exponent = np.exp(rng.uniform(np.log(0.2), np.log(5.0)))
    ceiling = 1 - 0.4 * rng.random() ** 2
    bend = np.exp(0.5 * rng.standard_normal())
    at_planned = -np.log(rng.uniform(0.3, 0.99))
    spread = np.exp(rng.uniform(np.log(0.05), np.log(0.4)))
    planned = 1_000_000

    def right(examples: int, seed: int, items: np.ndarray) -> np.ndarray:
        own = np.random.default_rng([seed, examples])
        part = examples / planned
        fallen = max(part, 0.25) ** -exponent * (min(part, 0.25) / 0.25) ** (-exponent * bend)
        hazard = -np.log(ceiling) + at_planned * fallen
        moved = hazard * np.exp(spread * own.standard_normal())
        return own.random(len(items)) < np.exp(-moved * items)

    # Difficulties with mean 1: an item that is hard once is hard for every training.
    return Learner(right, lambda own, n: own.gamma(4.0, 0.25, n), planned)


# --- trained --------------------------------------------------------------------------------------


def softmax_regression(rng: np.random.Generator, steps_of_answer: int = 1) -> Learner:
    """Return a linear classifier of Gaussian clouds; an answer may need several of its verdicts."""
    n_classes, width = 10, 20
    centres = rng.standard_normal((n_classes, width)) * rng.uniform(0.5, 1.2)
    planned = int(rng.integers(8, 33)) * 1000

    def draw(own: np.random.Generator, n: int) -> np.ndarray:
        labels = own.integers(n_classes, size=(n, steps_of_answer, 1))
        points = centres[labels[..., 0]] + own.standard_normal((n, steps_of_answer, width))
        return np.concatenate([points, labels], axis=2)

    def right(examples: int, seed: int, items: np.ndarray) -> np.ndarray:
        own = np.random.default_rng([seed, examples])
        rows = draw(own, max(1, examples // steps_of_answer)).reshape(-1, width + 1)
        weights = np.zeros((width + 1, n_classes))
        for batch, rate in _batches(rows, 0.5):
            inputs = np.c_[batch[:, :-1], np.ones(len(batch))]
            error = _softmax(inputs @ weights)
            error[np.arange(len(batch)), batch[:, -1].astype(int)] -= 1
            weights -= rate * inputs.T @ error / len(batch)
        inputs = np.concatenate([items[..., :-1], np.ones((*items.shape[:2], 1))], axis=2)
        answers = (inputs @ weights).argmax(axis=2)
        return (answers == items[..., -1]).all(axis=1)

    return Learner(right, draw, planned)


def many_steps(rng: np.random.Generator) -> Learner:
    """Return a classifier whose answer is right only if all of its four to eight verdicts are."""
    return softmax_regression(rng, int(rng.integers(4, 9)))


def network(rng: np.random.Generator) -> Learner:
    """Return a network with one hidden layer that imitates another one, fixed and random."""
    width, hidden, n_classes = 8, 64, int(rng.integers(2, 6))
    first = rng.standard_normal((width, 12))
    second = rng.standard_normal((12, n_classes))
    planned = int(rng.integers(8, 33)) * 1000

    def draw(own: np.random.Generator, n: int) -> np.ndarray:
        points = own.standard_normal((n, width))
        return np.c_[points, (np.tanh(points @ first) @ second).argmax(axis=1)]

    def right(examples: int, seed: int, items: np.ndarray) -> np.ndarray:
        own = np.random.default_rng([seed, examples])
        w1 = own.standard_normal((width, hidden)) / np.sqrt(width)
        w2 = own.standard_normal((hidden, n_classes)) / np.sqrt(hidden)
        for batch, rate in _batches(draw(own, examples), 0.3):
            inside = np.tanh(batch[:, :-1] @ w1)
            error = _softmax(inside @ w2)
            error[np.arange(len(batch)), batch[:, -1].astype(int)] -= 1
            back = error @ w2.T * (1 - inside**2)
            w2 -= rate * inside.T @ error / len(batch)
            w1 -= rate * batch[:, :-1].T @ back / len(batch)
        answers = (np.tanh(items[:, :-1] @ w1) @ w2).argmax(axis=1)
        return answers == items[:, -1]

    return Learner(right, draw, planned)


def memory(rng: np.random.Generator) -> Learner:
    """Return a nearest neighbour: it remembers all that it saw."""
    width = int(rng.integers(2, 6))
    waves = rng.standard_normal((width, 4)) * rng.uniform(1.0, 4.0)
    planned = int(rng.integers(4, 17)) * 250

    def draw(own: np.random.Generator, n: int) -> np.ndarray:
        points = own.random((n, width))
        return np.c_[points, np.sin(points @ waves).argmax(axis=1)]

    def right(examples: int, seed: int, items: np.ndarray) -> np.ndarray:
        seen = draw(np.random.default_rng([seed, examples]), examples)
        norms = (seen[:, :-1] ** 2).sum(axis=1)
        nearest = [
            (norms - 2 * some[:, :-1] @ seen[:, :-1].T).argmin(axis=1)
            for some in np.array_split(items, max(1, len(items) // 1000))
        ]
        right: np.ndarray = seen[np.concatenate(nearest), -1] == items[:, -1]
        return right

    return Learner(right, draw, planned)


def _batches(rows: np.ndarray, peak: float, size: int = 32) -> list[tuple[np.ndarray, float]]:
    """Return batches with their learning rates: a cosine to zero, as the students have it."""
    n_steps = max(1, len(rows) // size)
    rates = peak * 0.5 * (1 + np.cos(np.pi * np.arange(n_steps) / n_steps))
    return [(rows[i * size : (i + 1) * size], rate) for i, rate in enumerate(rates)]


def _softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    share: np.ndarray = raised / raised.sum(axis=1, keepdims=True)
    return share


# --- coverage -------------------------------------------------------------------------------------


def evidence(learner: Learner, seed: int) -> dict[str, tuple[Measured, ...]]:
    """Return what a prediction of the planned training might rest on."""
    rng = np.random.default_rng([seed, 1])
    validation = learner.items(rng, N_VALIDATION)

    def seen(part: float, n_items: int, training_seed: int) -> Measured:
        examples = max(1, round(part * learner.planned))
        right = learner.right(examples, training_seed, validation[:n_items])
        return Measured(examples, float(right.sum()), n_items)

    def runs(n: int, part: float = 1.0) -> tuple[Measured, ...]:
        return on_same_items([seen(part, N_VALIDATION, seed + 2 + i) for i in range(n)])

    return {
        "pilot, to 4 times its length": on_same_items(
            [seen(p / 4, N_PILOT, seed + 1) for p in PILOT_PARTS]
        ),
        "pilot, to 16 times": on_same_items([seen(p / 16, N_PILOT, seed + 1) for p in PILOT_PARTS]),
        "1 run of the same length": runs(1),
        "3 runs of the same length": runs(3),
        "run of twice the length": runs(1, 2.0),
        "run of a quarter": runs(1, 0.25),
    }


def coverage(make: Callable[[np.random.Generator], Learner], n_seeds: int) -> dict[str, Any]:
    """Return how often the intervals hold the accuracy of the planned training."""
    rows: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for seed in range(n_seeds):
        learner = make(np.random.default_rng([seed, 0]))
        many = learner.items(np.random.default_rng([seed, 2]), 5 * N_TEST)
        right = learner.right(learner.planned, seed + 1000, many)
        for name, trainings in evidence(learner, seed).items():
            rows[name].append(judged(trainings, learner.planned, right))
    names = ("in_95", "in_80", "width_95", "mean_error", "mean_absolute_error",
             "in_95_of_1000_items", "in_95_of_60_items")  # fmt: skip
    return {
        name: dict(zip(names, np.mean(judgements, axis=0).tolist(), strict=True))
        for name, judgements in rows.items()
    }


def judged(trainings: Sequence[Measured], planned: int, right: np.ndarray) -> tuple[float, ...]:
    """Return whether the intervals hold, the width of the wider one, and its error."""
    truth = float(right.mean())
    wide, narrow = (extrapolate(trainings, planned, share) for share in (0.95, 0.8))
    shown = [(on_items(Interval(wide.mean, wide.low, wide.high), n), n) for n in (N_TEST, N_FEW)]
    error = wide.mean - truth
    return (
        wide.low <= truth <= wide.high,
        narrow.low <= truth <= narrow.high,
        wide.high - wide.low,
        error,
        abs(error),
        *(interval.low <= float(right[:n].mean()) <= interval.high for interval, n in shown),
    )


LEARNERS = (simulated, softmax_regression, many_steps, network, memory)


def main() -> None:
    """Measure coverage by learner and by evidence."""
    parser = record.arguments(__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    options = parser.parse_args()
    start = time.process_time()
    result: dict[str, Any] = {"n_seeds": options.seeds}
    result |= {make.__name__: coverage(make, options.seeds) for make in LEARNERS}
    result["cpu_seconds"] = round(time.process_time() - start)
    record.finish("planner/accuracy", result, options, seed=0)


if __name__ == "__main__":
    main()
