"""Serving speed on this machine, as sentences for report and card."""

from __future__ import annotations

from collections.abc import Callable

from stratos.core.counted import counted, listed
from stratos.records import Deployment, LoadResult, Prediction

HEADING = "## Speed"


def sentences(deployment: Deployment) -> list[str]:
    """Return what was measured beside what was predicted; nothing for records without it."""
    found, busy = [], deployment.was_busy
    answer = deployment.answer_ms
    if answer is not None:
        found.append(
            f"One request at a time: {_ms(answer.measured)} an answer (mean of "
            f"{deployment.n_requests:,}); {_predicted(answer, _ms, busy)}."
        )
    if busy and deployment.others_cores is not None:
        found.append(
            f"Other work used {deployment.others_cores:.1f} cores of this machine during the test "
            "and left none idle, so that what is slower than predicted is not judged. On an idle "
            "machine the server is faster."
        )
    if deployment.load is not None:
        found += [_capacity(deployment, deployment.load), *_under_load(deployment.load, busy)]
    elif deployment.load_note:
        found.append(f"No load test with random arrivals: {deployment.load_note}")
    return found


def _capacity(deployment: Deployment, load: LoadResult) -> str:
    """Say what the server gives at most, and what that number is for."""
    slots = deployment.run.slots
    told = (
        f"Capacity, {counted(slots, 'request')} in flight (closed loop): {load.capacity_per_s:.3g} "
        "a second"
    )
    if load.capacity is not None:
        told += f"; {_predicted(load.capacity, _rate, deployment.was_busy)}"
    told += ". The plan's rate is judged by requests with random arrivals, below."
    if (served := deployment.served) is not None:
        told += (
            f" In the table of formats {served.format} has {served.requests_per_s:.3g}, measured "
            "when it was exported: that one compares formats."
        )
    return told


def _under_load(load: LoadResult, busy: bool) -> list[str]:
    queue = "" if load.queue_p95_ms is None else (
        f" From the measured answers, the queue model predicts {_ms(load.queue_p95_ms)}."
    )  # fmt: skip
    predicted = "by the estimate, the queue grows without end at this rate"
    if load.p95_ms is not None:
        predicted = _predicted(load.p95_ms, _ms, busy)
    lines = [
        f"Requests with random arrivals, {load.requests_per_s:.3g} a second ({load.n_requests:,} "
        f"in {load.seconds:.0f} s): p95 {_ms(load.latency_p95_ms)} with the wait; "
        f"{predicted}.{queue}"
    ]
    if load.n_errors:
        lines.append(f"{load.n_errors:,} requests failed.")
    if load.first_token_ms and load.token_ms:
        lines.append(
            f"Streamed at that rate: the first token after {_each(load.first_token_ms)}, each "
            f"further token after {_each(load.token_ms)} (p50, p95, p99). Whole answers, not "
            f"streamed: p50 {_ms(load.latency_p50_ms)}, p99 {_ms(load.latency_p99_ms or 0.0)}, "
            f"{load.tokens_per_s:,.0f} tokens a second."
        )
    if load.stream_kept_up is False:
        lines.append(
            "Streamed, it did not keep up with that rate: the first token's times hold a queue "
            "that grew, and are longer in a longer test."
        )
    if load.usd_per_1000 is not None:
        planned = load.planned_usd_per_1000
        beside = "" if planned is None else f"; the plan has ${planned:.3g}"
        lines.append(
            f"1,000 answers at that rate cost ${load.usd_per_1000:.3g} by the planned server's "
            f"price{beside}."
        )
    lines += _broken(load)
    if not load.is_sure:
        lines.append(
            "So few requests leave it open whether it keeps up in the long run: "
            "deploy.load_seconds=60 asks longer."
        )
    lines += _holding(load)
    if load.planned_per_s is not None:
        lines.append(
            f"The plan has {load.planned_per_s:.3g} requests a second for one server; "
            f"{_beside_plan(load, load.planned_per_s)}."
        )
    return lines


def _beside_plan(load: LoadResult, planned: float) -> str:
    """Say how the rate that was tested stands to the plan's."""
    if load.requests_per_s >= planned * 0.999:
        if load.kept_up and load.holds_limit:
            return "this machine keeps up with that"
        return "this machine does not hold that"
    if load.capacity_per_s <= planned:
        return (
            f"the capacity of this machine is {load.capacity_per_s:.3g}, and it was tested at "
            f"{load.requests_per_s:.3g}"
        )
    return f"this machine was tested at {load.requests_per_s:.3g}"


def _broken(load: LoadResult) -> list[str]:
    """Say at which rates the server did not hold, and what broke."""
    lines = []
    for one in load.tries:
        why = [] if one.kept_up else ["it did not keep up"]
        if one.n_errors:
            why.append(f"{one.n_errors:,} of {one.n_requests:,} requests failed")
        if load.limit_ms is not None and one.latency_p95_ms > load.limit_ms:
            why.append(
                f"p95 {_ms(one.latency_p95_ms)} is above limits.latency_ms={load.limit_ms:g}"
            )
        if why:
            lines.append(f"At {one.requests_per_s:.3g} a second it did not hold: {listed(why)}.")
    return lines


def _holding(load: LoadResult) -> list[str]:
    """Say what holds the plan's rate where this machine does not."""
    planned = load.planned_per_s
    if planned is None or load.servers_here is None or load.requests_per_s >= planned * 0.999:
        return []
    there = ""
    if load.servers_planned is not None:
        there = f", or {load.servers_planned} of the planned server by its estimate,"
    return [f"{load.servers_here} servers like this machine{there} hold the plan's rate."]


def _each(quantiles: tuple[float, ...]) -> str:
    return ", ".join(_ms(one) if one >= 10 else f"{one:.2g} ms" for one in quantiles)


def with_speed(card: str, deployment: Deployment) -> str:
    """Return the model card with what the server showed, before its limits."""
    said = sentences(deployment)
    if not said:
        return card
    section = "\n".join(
        [HEADING, "", "Served on the machine of the run; other machines may differ.", "",
         *(f"- {one}" for one in said), "", ""]
    )  # fmt: skip
    before, limits, after = card.partition("## Limits")
    return f"{before}{section}{limits}{after}"


def _predicted(one: Prediction, written: Callable[[float], str], busy: bool) -> str:
    low, high = written(one.predicted.low), written(one.predicted.high)
    verdict = "as predicted" if one.is_inside else "NOT as predicted"
    return f"{'predicted' if busy else verdict}: {low} to {high} ({one.predicted.source})"


def _ms(milliseconds: float) -> str:
    return f"{milliseconds / 1000:.3g} s" if milliseconds >= 1000 else f"{milliseconds:.0f} ms"


def _rate(per_s: float) -> str:
    return f"{per_s:.3g}"
