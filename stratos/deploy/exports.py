"""Exports for another engine: made, served, and compared with the evaluation item by item.

A format is worth what it answers. Each is loaded by the engine that will serve it, and asked the
held-out questions that the evaluation asked; nothing is kept that loses more than is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from stratos.core.atomic_files import write_atomically
from stratos.core.context import Context
from stratos.core.errors import StratosError
from stratos.core.intervals import wilson
from stratos.core.machine import group_memory
from stratos.core.reasons import Because, Reason
from stratos.deploy.bundle_server import serving_bundle
from stratos.deploy.engines.base import EXPORTS, Engine, ExportError
from stratos.deploy.engines.known import engines, import_engines_of_run
from stratos.deploy.load_test import LoadTest, load_test
from stratos.deploy.manifest import N_KNOWN
from stratos.deploy.words import (
    FormatBreaksLimit,
    FormatLosesTooMuch,
    FormatNotMade,
    OtherFormat,
)
from stratos.evaluate.answer_files import KeptAnswer
from stratos.evaluate.format_verdict import Verdict, by_text, doubt, is_open_by_text, verdict
from stratos.evaluate.metrics import difference_interval, mcnemar_exact
from stratos.records import Export, Exports, Interval, ServingSetting, to_json
from stratos.tasks.base import Item, Message, Task

RECORD = "exports.json"
N_FIRST, N_ALONE, ALONE_SHARE = 8, 32, 0.2
"""Questions that are asked one at a time, for the time of an answer: first, and where these take
no more than a share of the time."""


def make_exports(
    bundle: Path,
    engine: Engine,
    kept: Sequence[KeptAnswer],
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
        kept: the questions, with what was answered in the evaluation.
        task: scores the answers.
        context: takes warnings and progress.
        max_tokens: longest answer, as in the evaluation.
        max_loss_points: points of accuracy that a format may lose.
        n_evaluated: items of the whole evaluation, of which `kept` may be a part; None takes
            those of `kept`.
        may_change: whether another format may be served where the one that was to be loses too
            much, or cannot be made; see `chosen_format`.
        least_accuracy: `limits.accuracy`; then all questions are asked.
        minutes: that one format is asked for, about; slow students are asked fewer questions.

    Raises:
        StratosError: the served format cannot be made or loses too much, or the engine fails.
    """
    must = "" if may_change else engine.served
    forms = []
    for form in engine.exports:
        if (why := engine.cannot_export(bundle, form)) is None:
            forms.append(form)
            continue
        if not engine.makes_files:
            told = f"{engine.title} cannot serve the student: {why}. Take deploy=auto."
            raise ExportError(told)
        told = f"The student cannot be exported as {form} for {engine.title}: {why}."
        if form == must:
            raise StratosError(f"{told} Choose another with deploy.engine.format=<format>.")
        context.warn(told)
    if not forms:
        return None
    context.tick(0, len(forms), "exports")
    chats = [one.messages for one in kept]
    note = "" if may_change else engine.export(bundle, forms, chats)
    seconds = math.inf if least_accuracy is not None else 60 * minutes
    found: list[Export] = []
    for form in forms:
        if may_change:
            note = engine.export(bundle, [form], chats)
        export, told = _measured(
            bundle, engine, form, kept, task, context, max_tokens, max_loss_points, seconds
        )
        note = note or told
        if verdict(export, max_loss_points) is Verdict.LOSES:
            if engine.makes_files:
                engine.file_of(bundle, form).unlink()
            export = replace(export, is_kept=False)
            _refuse(engine, export, max_loss_points, must, context)
        elif told := doubt(export, max_loss_points, len(kept), n_evaluated or len(kept)):
            context.warn(f"{engine.title}: {told}")
        found.append(export)
        context.log({f"{form}/exact": export.exact.mean, f"{form}/items": float(export.n_items)})
        keeps = least_accuracy is None or export.exact.mean >= least_accuracy
        if may_change and export.is_kept and keeps and not is_open_by_text(export):
            break
    exports = Exports(engine.kind, engine.version(), note, tuple(found))
    write_exports(bundle, exports)
    return exports


def write_exports(bundle: Path, exports: Exports) -> None:
    """Write down what a bundle holds for another engine."""
    write_atomically(bundle / EXPORTS / RECORD, to_json(exports))


def _measured(
    bundle: Path,
    engine: Engine,
    form: str,
    kept: Sequence[KeptAnswer],
    task: Task,
    context: Context,
    max_tokens: int,
    max_loss_points: float,
    seconds: float,
) -> tuple[Export, str]:
    """Serve one format, ask the questions alone and together, and compare the answers.

    Returns:
        What it showed, and what has to be known about its tokens.
    """
    run: ServingSetting = replace(engine.setting(), format=form)
    chats = [one.messages for one in kept]
    log_path = context.run_dir / "deploy" / f"{engine.kind}-{form}.log"
    with serving_bundle(bundle, run, log_path) as server:

        def ask(chats: Sequence[list[Message]], concurrency: int, how: str) -> LoadTest:
            return load_test(
                server,
                chats,
                max_tokens=max_tokens,
                concurrency=concurrency,
                tick=lambda done, total: context.tick(done, total, f"{form}, {how}"),
            )

        note = engine.compare_tokens(server.url, bundle, chats)
        alone = ask(chats[:N_FIRST], 1, "one at a time")
        n = max(N_FIRST, int(min(len(chats), seconds / alone.mean_seconds)))
        kept, chats = kept[:n], chats[:n]
        if N_ALONE * alone.mean_seconds < ALONE_SHARE * seconds:
            alone = ask(chats[:N_ALONE], 1, "one at a time")
        together = ask(chats, run.slots, f"{run.slots} at once")
        memory_mib = group_memory(server.process.pid) / 2**20
    texts = [answer.text for answer in together.answers]
    right = [_is_right(task, one, text) for one, text in zip(kept, texts, strict=True)]
    was_right = [one.score.exact >= 1 for one in kept]
    pairs = list(zip(was_right, right, strict=True))
    lost, won, n = pairs.count((True, False)), pairs.count((False, True)), len(kept)
    low, high = difference_interval(lost, won, n)
    export = Export(
        format=form,
        n_bytes=engine.n_bytes(bundle, form),
        n_items=n,
        n_equal=sum(one.text == text for one, text in zip(kept, texts, strict=True)),
        exact=wilson(sum(right), n),
        evaluated=wilson(sum(was_right), n),
        loss_points=Interval(100 * (lost - won) / n, 100 * low, 100 * high),
        p_value=mcnemar_exact(lost, won),
        latency_p50_ms=alone.latency_ms(0.5),
        latency_p95_ms=alone.latency_ms(0.95),
        requests_per_s=together.requests_per_s,
        at_once=run.slots,
        memory_mib=memory_mib,
        max_loss_points=max_loss_points,
        known=tuple(texts[:N_KNOWN]),
    )
    return export, note


def _is_right(task: Task, one: KeptAnswer, text: str) -> bool:
    """Score an answer by the gold answer that was kept; the same text has the same score."""
    if text == one.text:
        return one.score.exact >= 1
    item = Item(
        id=one.id, slice=one.slice, question=one.question, answer=one.gold, origin=one.origin
    )
    return task.score(text, item).exact >= 1


def _refuse(engine: Engine, export: Export, most: float, must: str, context: Context) -> None:
    """Say that a format lost too much.

    Raises:
        StratosError: it is the one that has to be served.
    """
    loss = export.loss_points
    told = (
        f"{export.format} for {engine.title} loses {loss.mean:.1f} points of accuracy (95% "
        f"interval {loss.low:.1f} to {loss.high:.1f}) on {export.n_items:,} held-out items, more "
        f"than deploy.max_loss_points={most:g}"
    )
    if export.format == must:
        raise StratosError(
            f"{told}. Serve another with deploy.engine.format=f32, or allow it with "
            f"deploy.max_loss_points={loss.mean:.1f}."
        )
    context.warn(f"{told}: it is left out of the bundle.")


def read_exports(bundle: Path) -> Exports | None:
    """Return what a bundle holds for another engine; None where it holds nothing.

    Raises:
        StratosError: the record is damaged.
    """
    path = bundle / EXPORTS / RECORD
    try:
        held = msgspec.json.decode(path.read_bytes(), type=Exports)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, RecursionError) as error:
        raise StratosError(f"{path} cannot be read ({error}).") from error
    if held.engine not in engines():
        import_engines_of_run(bundle.parent)
    if held.engine not in engines():
        raise StratosError(
            f"{path} names the engine {held.engine!r}, which is none of "
            f"{', '.join(sorted(engines()))}: it was changed, or a later version made it. Give the "
            "command of its run again."
        )
    return held


def exported(bundle: Path, engine: Engine, form: str) -> Export:
    """Return an export of a bundle by its format.

    Raises:
        StratosError: the bundle does not hold it.
    """
    held = read_exports(bundle)
    formats = held.formats if held is not None and held.engine == engine.kind else ()
    kept = [one for one in formats if one.is_kept]
    for one in kept:
        if one.format == form:
            return one
    has = f"it has {', '.join(one.format for one in kept)}" if kept else "it has none"
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
    may_change: bool = True,
) -> str | None:
    """Return the format to serve; None for the bundle's own weights, which transformers serves.

    Args:
        engine: names the format that was to be served.
        exports: what each format answered.
        context: takes a warning where another is served.
        least_accuracy: `limits.accuracy`.
        may_change: whether another may be served.

    Raises:
        StratosError: another one has to be served, and may not.
    """
    kept = sorted((one for one in exports.formats if one.is_kept), key=lambda one: one.n_bytes)
    keeps = [one for one in kept if _keeps(one.exact.mean, least_accuracy)]
    whole = exports.formats[0].evaluated.mean
    if not keeps and kept and not _keeps(whole, least_accuracy):
        keeps = kept  # the student itself falls short: no format mends that
    served = next((one for one in keeps if one.format == engine.served), None)
    if served is not None:
        if not (may_change and is_open_by_text(served)):
            return served.format
        # Accuracy cannot tell: the one whose texts are most often those of the evaluation.
        nearest = max(keeps, key=lambda one: (one.n_equal / one.n_items, -one.n_bytes))
        if nearest is served:
            return served.format
        keeps = [nearest]
    chosen = keeps[0].format if keeps else None
    why: Reason
    why = Because(by_text(served)) if served is not None else _why(engine, exports, least_accuracy)
    if not may_change:
        typed = f"deploy.engine.format={chosen}" if chosen else "deploy=transformers"
        raise StratosError(f"{why} Serve another with {typed}.")
    context.warn(str(OtherFormat(why, chosen or "")))
    return chosen


def _keeps(accuracy: float, least: float | None) -> bool:
    return least is None or accuracy >= least


def _why(engine: Engine, exports: Exports, least: float | None) -> Reason:
    """Return what keeps the format from being served that was to be."""
    export = next((one for one in exports.formats if one.format == engine.served), None)
    if export is None:
        return FormatNotMade(engine.served, engine.title)
    if not export.is_kept:
        return FormatLosesTooMuch(engine.served, engine.title)
    assert least is not None, "else it is served"
    return FormatBreaksLimit(export, least)
