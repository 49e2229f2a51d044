"""The errors that ship: what was held out, and how wide an interval follows for what is unseen.

See `stratos.estimate.fitted` for the formula; `coverage.py` tries it on what it had not
seen.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as students_t

sys.path.insert(0, str(Path(__file__).parent))

from campaign import is_saturated, predict
from fitting import ServeFit, fit_inference, fit_training, serving_ratios, tokens_per_s
from measured_rows import ServeRow, TrainRow

from stratos.estimate.fitted import TRAINER, Errors, Factor, Known, Setting, Unseen
from stratos.records import Interval

Array = NDArray[np.float64]

QUANTITIES = ("first_token", "output_token")

OLD_HOST_MS = 8.0
"""Milliseconds of a step that an engine's host has taken at most, as far as is published: vLLM
before its version 0.6, 8 of the 13 of a Llama 3 8B on an H100 (vLLM blog, 2024-09-05)."""


def setting_of(row: ServeRow) -> Setting:
    """Return engine, GPU and precision of a row."""
    return Setting(row.backend, row.device.name, row.weight_bits)


@cache
def fit_of(rows: tuple[ServeRow, ...]) -> ServeFit:
    """Return the fit to some rows."""
    return fit_inference(rows)


def logs_held_out(rows: Sequence[ServeRow], level: Callable[[ServeRow], str]) -> Array:
    """Return log(measured / predicted) of each row by a fit without the rows of its level.

    NaN where there is no other level.
    """
    logs = np.full((len(rows), 2), np.nan)
    levels = np.array([level(row) for row in rows])
    for value in np.unique(levels):
        out = levels == value
        if not out.all():
            rest = tuple(row for row, is_out in zip(rows, out, strict=True) if not is_out)
            chosen = [row for row, is_out in zip(rows, out, strict=True) if is_out]
            logs[out] = -np.log(serving_ratios(chosen, fit_of(rest)))
    return logs


def serving_errors(rows: Sequence[ServeRow]) -> dict[str, Errors]:
    """Return the errors of time to first token and per output token."""
    by_model = logs_held_out(rows, lambda row: row.card.name)
    factors = {
        factor: logs_held_out(rows, lambda row, f=factor: setting_of(row).of(f))
        for factor in Factor
    }
    settings = [setting_of(row) for row in rows]
    calm = np.array([not is_saturated(row) for row in rows])
    errors = {}
    for i, quantity in enumerate(QUANTITIES):
        counted = calm if quantity == "first_token" else np.ones(len(rows), bool)
        some = [setting for setting, is_in in zip(settings, counted, strict=True) if is_in]
        errors[quantity] = errors_of(
            some,
            some,
            by_model[counted, i],
            {factor: logs[counted, i] for factor, logs in factors.items()},
        )
    return errors


def training_errors(rows: Sequence[TrainRow]) -> Errors:
    """Return the errors of training in bf16, by GPU."""
    bf16 = [row for row in rows if not row.setup.fp8]
    of_size = _training_logs(bf16, lambda row: row.size)
    of_gpu = _training_logs(bf16, lambda row: row.device.name)
    settings = [Setting(TRAINER, row.device.name) for row in bf16]
    groups = [(row.device.name, row.size) for row in bf16]
    return errors_of(settings, groups, of_size, {Factor.GPU: of_gpu})


def _training_logs(rows: Sequence[TrainRow], level: Callable[[TrainRow], str]) -> Array:
    logs = np.full(len(rows), np.nan)
    for value in {level(row) for row in rows}:
        fit = fit_training([row for row in rows if level(row) != value])
        for i, row in enumerate(rows):
            if level(row) == value:
                logs[i] = np.log(tokens_per_s(row, fit) / row.tokens_per_s)
    return logs


def errors_of(
    settings: Sequence[Setting],
    groups: Sequence[Hashable],
    by_model: Array,
    held_out: dict[Factor, Array],
) -> Errors:
    """Return the errors of one quantity.

    Args:
        settings: of each row.
        groups: of each row: what has a median of its own.
        by_model: log(measured / predicted) of each row, its model held out; NaN where the others
            leave nothing to fit to.
        held_out: the same with the row's level of a factor held out.
    """
    names = sorted(set(settings), key=str)
    of = {name: np.array([setting == name for setting in settings]) for name in names}
    parts = [np.array([group == name for group in groups]) for name in sorted(set(groups), key=str)]
    finest = held_out.get(Factor.COMBINATION, held_out[Factor.GPU])
    about = np.concatenate([finest[rows] - np.median(finest[rows]) for rows in parts])
    within = float(np.quantile(np.abs(about), 0.95))
    known = []
    for setting, rows in of.items():
        logs = by_model[rows]
        logs = finest[rows] if np.isnan(logs).any() else logs
        low, high = np.quantile(logs, [0.025, 0.975]).tolist()
        low, high = np.exp([min(low, -within), max(high, within)]).tolist()
        known.append(Known(setting, low, high, mape(logs)))
    unseen = {}
    for factor, logs in held_out.items():
        n_levels = len({setting.of(factor) for setting in names})
        # One level alone cannot be held out: its settings say how far a median may lie.
        logs = finest if np.isnan(logs).any() else logs
        medians = np.array([np.median(logs[rows]) for rows in parts])
        t = float(students_t.ppf(0.975, n_levels))
        unseen[factor] = Unseen(t * float(np.sqrt((medians**2).mean())), mape(logs))
    return Errors(tuple(known), unseen, within)


def mape(logs: Array) -> float:
    """Return the mean absolute percentage error of predictions, of log(measured / predicted)."""
    return float(np.abs(np.exp(-logs) - 1).mean())


def intervals(
    row: ServeRow, fit: ServeFit, errors: dict[str, Errors], fitted_to: Sequence[ServeRow]
) -> tuple[Interval, Interval]:
    """Return milliseconds to the first token and per output token, each with its interval.

    Args:
        row: what was measured, whose measurements are not looked at.
        fit: constants.
        errors: of both quantities.
        fitted_to: rows that the constants know.
    """
    predicted, setting = predict(row, fit.inference, fit.campaign), setting_of(row)
    hidden = (
        OLD_HOST_MS if predicted.output < shortest_ms(row.backend, row.batch, fitted_to) else 0.0
    )
    output = errors["output_token"].interval(setting, predicted.output, hidden)
    request = 1000 * fit.inference.first_token_s
    first = errors["first_token"].interval(setting, predicted.first, spared=request)
    if is_saturated(row):
        served = predicted.first - predicted.queue
        low = errors["first_token"].interval(setting, served, spared=request).low
        high = first.high + row.answer * output.high
        first = Interval(predicted.first, low, high, f"{first.source}; a saturated queue")
    return first, output


def shortest_ms(engine: str, batch: int, rows: Sequence[ServeRow]) -> float:
    """Return the shortest output token of an engine with as many in flight or more.

    What its host may take at that batch shows in no row below it.
    """
    steps = [row.tpot_ms for row in rows if row.backend == engine and row.batch >= batch]
    return min(steps, default=np.inf)
