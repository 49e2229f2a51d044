"""The stage: bundle the student, serve it here, ask it over HTTP, and write its service file."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from stratos import records
from stratos.config import Config
from stratos.context import Context
from stratos.deploy.bundle import make_bundle
from stratos.deploy.card import card_name, model_card
from stratos.deploy.load import load_test
from stratos.deploy.server import HOST, free_port, serve_arguments, serve_command, serving
from stratos.deploy.service import service_file
from stratos.evaluate.files import read_answers
from stratos.records import Corpus, Deployment, Plan, Scorecard, Student, write_atomically
from stratos.words import counted


def deploy(
    config: Config, plan: Plan, scorecard: Scorecard, student: Student, context: Context
) -> Deployment | None:
    """Make the bundle, load-test it on a server here, and write the planned server's service file.

    Returns:
        What the server showed; None for `deploy=none`.

    Raises:
        StratosError: the student cannot be bundled, or the server does not start or answer.
    """
    if config.deploy.name == "none":
        return None
    started = time.perf_counter()
    bundle = context.run_dir / "bundle"
    kept = read_answers(context.run_dir)
    asked = kept[: config.deploy.n_requests]

    context.tick(0, len(asked), "bundle")
    card = model_card(config, plan, scorecard, student, _corpus(context.run_dir), asked[0])
    n_bytes = make_bundle(
        Path(student.path), bundle, card=card, max_new_tokens=config.evaluate.max_new_tokens
    )
    file_name, text = service_file(
        plan.role("serve"), card_name(config, student), bundle.absolute()
    )
    service = context.run_dir / "deploy" / file_name
    write_atomically(service, text.encode())

    context.tick(0, len(asked), "server starts")
    port = config.deploy.port or free_port()
    with serving(
        serve_arguments(str(bundle.absolute()), HOST, port),
        port=port,
        log_path=context.run_dir / "deploy" / "server.log",
    ) as server:
        test = load_test(
            server,
            [answer.messages for answer in asked],
            max_tokens=config.evaluate.max_new_tokens,
            concurrency=config.deploy.concurrency,
            tick=lambda done, total: context.tick(done, total, "requests"),
        )

    p95_ms, limit_ms = test.latency_ms(0.95), config.limits.latency_ms
    deployment = Deployment(
        bundle_path=str(bundle),
        server=serve_command(str(bundle)),
        n_requests=len(asked),
        n_equal=sum(
            served.text == answer.text for served, answer in zip(test.answers, asked, strict=True)
        ),
        latency_p50_ms=test.latency_ms(0.5),
        latency_p95_ms=p95_ms,
        tokens_per_s=test.tokens_per_s,
        service_path=str(service),
        bundle_bytes=n_bytes,
        seconds=time.perf_counter() - started,
        meets_latency_limit=None if limit_ms is None else p95_ms <= limit_ms,
    )
    _warn(deployment, limit_ms, context)
    context.log(
        {
            "deploy/latency_p50_ms": deployment.latency_p50_ms,
            "deploy/latency_p95_ms": p95_ms,
            "deploy/tokens_per_s": deployment.tokens_per_s,
            "deploy/equal": deployment.n_equal / deployment.n_requests,
        }
    )
    return deployment


def _corpus(run_dir: Path) -> Corpus | None:
    """Return the record of the training data, for the card; None where it is not at hand."""
    try:
        return records.load(run_dir / "synthesize.json", None, Corpus)
    except (OSError, msgspec.DecodeError):
        return None


def _warn(deployment: Deployment, limit_ms: float | None, context: Context) -> None:
    n_other = deployment.n_requests - deployment.n_equal
    if n_other:
        context.warn(
            f"{n_other} of {counted(deployment.n_requests, 'answer')} of the server "
            f"{'differs from that' if n_other == 1 else 'differ from those'} of the evaluation. "
            "A few may: rounding differs with the size of a batch."
        )
    if limit_ms is not None and not deployment.meets_latency_limit:
        context.warn(
            f"The server on this machine took {deployment.latency_p95_ms:.0f} ms for one answer "
            f"(p95), above limits.latency_ms={limit_ms:g}. The planned server may be faster; a "
            "smaller student is."
        )
