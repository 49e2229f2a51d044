"""The table of exports on the model card."""

from __future__ import annotations

from stratos.deploy.engines.base import EXPORTS
from stratos.deploy.engines.known import engine_named
from stratos.evaluate.format_verdict import said
from stratos.records import Export, Exports

HEADING = "## Exports"


def with_exports(card: str, exports: Exports | None) -> str:
    """Return the model card with the table of exports, before its limits."""
    if exports is None:
        return card
    lines = [
        HEADING,
        "",
        f"{_what(exports)} ({exports.version}). Each was served and asked questions of the "
        "evaluation. Loss is in points of accuracy against the answers of the evaluation, with its "
        "95% interval (Tango) and McNemar's exact test. The capacity is that of a closed loop, to "
        "compare formats; a rate that the server keeps up with is under Speed.",
        "",
        "| format | MB | right | loss | shown | p | same text | p50, p95 alone | capacity "
        "| memory |",
        "|---|---:|---:|---:|---|---:|---:|---:|---:|---:|",
        *(_row(one) for one in exports.formats),
        "",
        exports.note,
        "",
        *_how_to_serve(exports),
    ]
    before, limits, after = card.partition("## Limits")
    return f"{before}{chr(10).join(lines)}{limits}{after}"


def _what(exports: Exports) -> str:
    engine = engine_named(exports.engine)
    if engine.makes_files:
        return f"Files in `{EXPORTS}/` for {exports.engine}"
    return f"Precisions that {engine.title} makes of the weights when it loads this folder"


def _how_to_serve(exports: Exports) -> list[str]:
    """Return the command that serves one of the files; none where all lost too much."""
    kept = [one.format for one in exports.formats if one.is_kept]
    if not kept:
        return []
    form = exports.served or kept[-1]
    return [f"    stratos serve . --engine {exports.engine} --format {form}", "", ""]


def _row(one: Export) -> str:
    name = one.format if one.is_kept else f"{one.format} (left out)"
    loss = one.loss_points
    return (
        f"| {name} | {one.n_bytes / 1e6:.1f} | {one.exact.mean:.1%} of {one.n_items:,} "
        f"| {loss.mean:.1f} [{loss.low:.1f}, {loss.high:.1f}] | {said(one)} | {one.p_value:.2g} "
        f"| {one.n_equal:,} | {one.latency_p50_ms:.0f}, {one.latency_p95_ms:.0f} ms "
        f"| {one.requests_per_s:.1f}/s, {one.at_once} in flight | {one.memory_mib:.0f} MiB |"
    )
