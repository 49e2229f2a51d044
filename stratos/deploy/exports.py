"""Exports for another engine: made, served, and compared with the evaluation item by item.

A format is worth what it answers. Each is loaded by the engine that will serve it, and asked the
held-out questions that the evaluation asked; nothing stays that loses more than is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from stratos.core.atomic_files import write_atomically
from stratos.core.context import Context
from stratos.core.errors import StratosError
from stratos.core.intervals import wilson
from stratos.core.machine import group_memory
from stratos.core.pairs import difference_interval, mcnemar_exact
from stratos.deploy.bundle_server import serving_bundle
from stratos.deploy.engines.base import EXPORTS, Engine, ExportError, engines, import_engines_of_run
from stratos.deploy.load_test import LoadTest, load_test
from stratos.deploy.manifest import N_KNOWN
from stratos.evaluate.answers import KeptAnswer
from stratos.evaluate.verdict import FormatVerdict, by_text, doubt, format_verdict, is_open_by_text
from stratos.records import Export, Exports, Interval, to_json
from stratos.tasks.base import Item, Task

RECORD = "exports.json"
N_ALONE = 24
"""Questions that are asked one at a time, for the time of an answer."""


@dataclass(frozen=True)
class _Evaluated:
    """What formats are compared with, and how they are asked."""

    answers: Sequence[KeptAnswer]
    task: Task
    context: Context
    max_tokens: int
    max_loss_points: float
    seconds: float
    """That one format is asked for, about."""


def make_exports(
    bundle: Path,
    engine: Engine,
    answers: Sequence[KeptAnswer],
    task: Task,
    context: Context,
    *,
    max_tokens: int,
    max_loss_points: float,
    n_evaluated: int | None = None,
    may_change: bool = False,
    least_accuracy: float | None = None,
    minutes: float = math.inf,
) -> Exports | None:
    """Make the exports that an engine serves, and measure each; None where it needs none.

    Where another format may be served, those behind the first that keeps all limits are not made.

    Args:
        bundle: folder that they are put into.
        engine: names the formats.
        answers: those of the evaluation, with their questions.
        task: scores the answers.
        context: takes warnings and progress.
        max_tokens: longest answer, as in the evaluation.
        max_loss_points: points of accuracy that a format may lose.
        n_evaluated: items of the whole evaluation, of which `answers` may be a part; None takes
            those of `answers`.
        may_change: whether another format may be served where the one that was to be loses too
            much, or cannot be made; see `chosen_format`.
        least_accuracy: `limits.accuracy`; then all questions are asked.
        minutes: that one format is asked for, about; slow students are asked fewer questions.

    Raises:
        StratosError: the served format cannot be made or loses too much, or the engine fails.
    """
    must = "" if may_change else engine.served
    forms = _possible(bundle, engine, must, context)
    if not forms:
        return None
    context.tick(0, len(forms), "exports")
    chats = [answer.messages for answer in answers]
    note = "" if may_change else engine.export(bundle, forms, chats)
    seconds = math.inf if least_accuracy is not None else 60 * minutes
    evaluated = _Evaluated(answers, task, context, max_tokens, max_loss_points, seconds)
    exports: list[Export] = []
    for form in forms:
        if may_change:
            note = engine.export(bundle, [form], chats)
        export, tokens = _measured(bundle, engine, form, evaluated)
        note = note or tokens
        if format_verdict(export, max_loss_points) is FormatVerdict.LOSES:
            if engine.makes_files:
                engine.file_of(bundle, form).unlink()
            export = replace(export, is_kept=False)
            _refuse(engine, export, max_loss_points, must, context)
        elif why := doubt(export, max_loss_points, len(answers), n_evaluated or len(answers)):
            context.warn(f"{engine.title}: {why}")
        exports.append(export)
        context.log({f"{form}/exact": export.exact.mean, f"{form}/items": float(export.n_items)})
        is_enough = export.is_kept and _keeps(export, least_accuracy)
        if may_change and is_enough and not is_open_by_text(export):
            break
    made = Exports(engine.kind, engine.version(), note, tuple(exports))
    write_exports(bundle, made)
    return made


def _possible(bundle: Path, engine: Engine, must: str, context: Context) -> list[str]:
    """Return the formats of an engine that a bundle can be exported in.

    Raises:
        StratosError: one that has to be served is not among them.
    """
    forms = []
    for form in engine.exports:
        if (why := engine.cannot_export(bundle, form)) is None:
            forms.append(form)
            continue
        if not engine.makes_files:
            raise ExportError(f"{engine.title} cannot serve the student: {why}. Take deploy=auto.")
        refusal = f"The student cannot be exported as {form} for {engine.title}: {why}."
        if form == must:
            raise StratosError(f"{refusal} Choose another with deploy.engine.format=<format>.")
        context.warn(refusal)
    return forms


def write_exports(bundle: Path, exports: Exports) -> None:
    """Write down what a bundle holds for another engine."""
    write_atomically(bundle / EXPORTS / RECORD, to_json(exports))


def _measured(bundle: Path, engine: Engine, form: str, evaluated: _Evaluated) -> tuple[Export, str]:
    """Serve one format, ask the questions alone and together, and compare the answers.

    Returns:
        What it showed, and what has to be known about its tokens.
    """
    context, answers = evaluated.context, evaluated.answers
    run = replace(engine.setting(), format=form)
    chats = [answer.messages for answer in answers]
    log_path = context.run_dir / "deploy" / f"{engine.kind}-{form}.log"
    with serving_bundle(bundle, run, log_path) as server:

        def ask(n: int, concurrency: int, how: str) -> LoadTest:
            return load_test(
                server,
                chats[:n],
                max_tokens=evaluated.max_tokens,
                concurrency=concurrency,
                tick=lambda done, total: context.tick(done, total, f"{form}, {how}"),
            )

        note = engine.compare_tokens(server.url, bundle, chats)
        alone = ask(N_ALONE, 1, "one at a time")
        n = max(N_ALONE, int(min(len(chats), evaluated.seconds / alone.mean_seconds)))
        together = ask(n, run.slots, f"{run.slots} at once")
        memory_mib = group_memory(server.process.pid) / 2**20
    texts = [answer.text for answer in together.answers]
    answers = answers[: len(texts)]
    was_right = [answer.score.exact >= 1 for answer in answers]
    is_right = [
        _is_right(evaluated.task, answer, text) for answer, text in zip(answers, texts, strict=True)
    ]
    pairs = list(zip(was_right, is_right, strict=True))
    lost, won, n = pairs.count((True, False)), pairs.count((False, True)), len(pairs)
    low, high = difference_interval(lost, won, n)
    export = Export(
        format=form,
        n_bytes=engine.n_bytes(bundle, form),
        n_items=n,
        n_equal=sum(answer.text == text for answer, text in zip(answers, texts, strict=True)),
        exact=wilson(sum(is_right), n),
        evaluated=wilson(sum(was_right), n),
        loss_points=Interval(100 * (lost - won) / n, 100 * low, 100 * high),
        p_value=mcnemar_exact(lost, won),
        latency_p50_ms=alone.latency_ms(0.5),
        latency_p95_ms=alone.latency_ms(0.95),
        requests_per_s=together.requests_per_s,
        at_once=run.slots,
        memory_mib=memory_mib,
        max_loss_points=evaluated.max_loss_points,
        known=tuple(texts[:N_KNOWN]),
    )
    return export, note


def _is_right(task: Task, answer: KeptAnswer, text: str) -> bool:
    """Score a text by an item's gold answer; the text of the evaluation has the same score."""
    if text == answer.text:
        return answer.score.exact >= 1
    item = Item(answer.id, answer.slice, answer.question, answer.gold, origin=answer.origin)
    return task.score(text, item).exact >= 1


def _refuse(engine: Engine, export: Export, most: float, must: str, context: Context) -> None:
    """Say that a format lost too much.

    Raises:
        StratosError: it is the one that has to be served.
    """
    loss = export.loss_points
    what = (
        f"{export.format} for {engine.title} loses {loss.mean:.1f} points of accuracy (95% "
        f"interval {loss.low:.1f} to {loss.high:.1f}) on {export.n_items:,} held-out items, more "
        f"than deploy.max_loss_points={most:g}"
    )
    if export.format == must:
        raise StratosError(
            f"{what}. Serve another with deploy.engine.format=f32, or allow it with "
            f"deploy.max_loss_points={loss.mean:.1f}."
        )
    context.warn(f"{what}: it is left out of the bundle.")


def read_exports(bundle: Path) -> Exports | None:
    """Return what a bundle holds for another engine; None where it holds nothing.

    Raises:
        StratosError: the record is damaged.
    """
    path = bundle / EXPORTS / RECORD
    try:
        exports = msgspec.json.decode(path.read_bytes(), type=Exports)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, RecursionError) as error:
        raise StratosError(f"{path} cannot be read ({error}).") from error
    if exports.engine not in engines():
        import_engines_of_run(bundle.parent)
    if exports.engine not in engines():
        raise StratosError(
            f"{path} names the engine {exports.engine!r}, which is none of "
            f"{', '.join(sorted(engines()))}: it was changed, or a later version made it. Give the "
            "command of its run again."
        )
    return exports


def exported(bundle: Path, engine: Engine, form: str) -> Export:
    """Return an export of a bundle by its format.

    Raises:
        StratosError: the bundle does not hold it.
    """
    exports = read_exports(bundle)
    formats = exports.formats if exports is not None and exports.engine == engine.kind else ()
    by_format = {export.format: export for export in formats if export.is_kept}
    if form in by_format:
        return by_format[form]
    has = f"it has {', '.join(by_format)}" if by_format else "it has none"
    raise StratosError(
        f"{bundle} has no {form} export for {engine.title}: {has}. The command of its run makes "
        f"it, with deploy={engine.kind} deploy.engine.format={form} added."
    )


# Which format of a student is served: the one that was to be, unless another keeps what it breaks.
#
# What counts under `limits.accuracy` is what is served. So a format that falls short of it gives
# way to the smallest that keeps it, and the bundle's own weights come last. Where accuracy cannot
# tell, the format whose texts are most often those of the evaluation is served.


def chosen_format(
    engine: Engine,
    exports: Exports,
    context: Context,
    *,
    least_accuracy: float | None = None,
    most_mb: float | None = None,
    may_change: bool = True,
) -> str | None:
    """Return the format to serve; None for the bundle's own weights, which transformers serves.

    Args:
        engine: names the format that was to be served.
        exports: what each format answered.
        context: takes a warning where another is served.
        least_accuracy: `limits.accuracy`.
        most_mb: `limits.model_mb`, which another format has to keep; if none does, it bounds none.
        may_change: whether another may be served.

    Raises:
        StratosError: another one has to be served, and may not.
    """
    usable = sorted(
        (export for export in exports.formats if export.is_kept), key=lambda export: export.n_bytes
    )
    if most_mb is not None:  # what was planned stays: only what takes its place is bounded
        usable = [
            export
            for export in usable
            if export.n_bytes <= 1e6 * most_mb or export.format == engine.served
        ] or usable
    good = [export for export in usable if _keeps(export, least_accuracy)]
    whole = exports.formats[0].evaluated.mean
    if not good and least_accuracy is not None and whole < least_accuracy:
        good = usable  # the student itself falls short: no format mends that
    planned = next((export for export in good if export.format == engine.served), None)
    if planned is not None:
        # Where accuracy cannot tell: the one whose texts are most often those of the evaluation.
        nearest = max(good, key=lambda export: (export.n_equal / export.n_items, -export.n_bytes))
        if nearest is planned or not may_change or not is_open_by_text(planned):
            return planned.format
        good, why = [nearest], by_text(planned)
    else:
        why = _why_not(engine, exports, least_accuracy)
    chosen = good[0].format if good else None
    if not may_change:
        option = f"deploy.engine.format={chosen}" if chosen else "deploy=transformers"
        raise StratosError(f"{why} Serve another with {option}.")
    served = f"{chosen} is" if chosen else "The bundle's own weights, by transformers, are"
    context.warn(
        f"{served} served in place of {engine.served}: {why} Latency and requests per second are "
        "those of the load test, not of the plan."
    )
    return chosen


def _keeps(export: Export, least_accuracy: float | None) -> bool:
    return least_accuracy is None or export.exact.mean >= least_accuracy


def _why_not(engine: Engine, exports: Exports, least_accuracy: float | None) -> str:
    """Say why the format is not served that was to be."""
    export = next((export for export in exports.formats if export.format == engine.served), None)
    if export is None:
        return f"{engine.served} for {engine.title} cannot be made."
    if not export.is_kept:
        return f"{engine.served} for {engine.title} loses more than deploy.max_loss_points."
    return (
        f"As {export.format} the student has {export.exact.mean:.1%} of {export.n_items:,} test "
        f"items (95% interval {export.exact.low:.1%} to {export.exact.high:.1%}), in full "
        f"precision {export.evaluated.mean:.1%}, which breaks limits.accuracy={least_accuracy:g}."
    )
