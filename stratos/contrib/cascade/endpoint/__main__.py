"""`python -m stratos.contrib.cascade.endpoint RUN`: the student's server and its endpoint.

`stratos serve RUN --cascade` starts it and keeps it running. If the student's server
ends, this process does, so that both are started again.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path
from subprocess import Popen
from typing import TYPE_CHECKING

from stratos.config import Config
from stratos.contrib.cascade.config import settings
from stratos.contrib.cascade.endpoint.escalator import escalator
from stratos.contrib.cascade.endpoint.front import (
    Cascading,
    OwnConnections,
    application,
    leave_out_of_log,
)
from stratos.contrib.cascade.endpoint.meter import Meter, cascade_in, counting
from stratos.contrib.cascade.record import Cascade
from stratos.contrib.cascade.threshold import Judge, sampling_of
from stratos.contrib.cascade.verdict import threshold_of
from stratos.core.errors import StratosError
from stratos.core.values import named
from stratos.deploy.bundle_server import arguments_here, engine_of, environment_of
from stratos.deploy.engines.http_api import NoOtherSite, allow_open_files
from stratos.deploy.server import HOST, free_port, start_process, stop_process
from stratos.records import Probe, load
from stratos.teachers.prompting import with_repaired_prompts

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette

_LOOK_S = 0.5
_ANSWER_S = 600.0


def main() -> None:
    """Serve until the process, or the student's server, ends; exit with 1 where it cannot be."""
    parser = argparse.ArgumentParser(prog="python -m stratos.contrib.cascade.endpoint")
    parser.add_argument("run", type=Path, help="folder of a run with a cascade")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument(
        "--cache", type=Path, required=True, help="folder in which dollars are counted"
    )
    parser.add_argument("--usd-per-day", type=float)
    parser.add_argument("--usd-per-month", type=float)
    parser.add_argument("--teacher-seconds", type=float)
    parser.add_argument("--if-unavailable", choices=("student", "error"))
    args = parser.parse_args()
    try:
        code = _serve(args)
    except StratosError as error:
        print(error, file=sys.stderr, flush=True)
        sys.exit(1)
    sys.exit(code)


def _serve(args: argparse.Namespace) -> int:
    run = args.run.absolute()
    made = cascade_in(run)
    with counting(run / "bundle", args.cache.absolute()) as meter_path:
        return _serve_counting(args, run, made, meter_path)


def _serve_counting(args: argparse.Namespace, run: Path, made: Cascade, meter_path: Path) -> int:
    import uvicorn

    from stratos.run.stored_config import config_of

    config = config_of(run)
    bundle, port = run / "bundle", free_port()
    assert made.endpoint is not None
    engine = engine_of(made.endpoint.run)
    process = start_process(
        engine.module,
        arguments_here(bundle, port, made.endpoint.run),
        sys.stderr.buffer,
        environment_of(bundle) | engine.environment,
        engine.python,
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    leave_out_of_log()
    allow_open_files()
    # uvicorn raises the signal again after its shutdown: the student's server ends before.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        app = _application(args, config, made, bundle, port, meter_path)
        server = uvicorn.Server(
            uvicorn.Config(
                NoOtherSite(app, HOST), host=HOST, port=args.port, log_level="error",
                access_log=False, timeout_graceful_shutdown=10,
            )
        )  # fmt: skip
        asyncio.run(_until_either_ends(server, process))
        return 1  # the student's server has ended
    finally:
        stop_process(process)


def _application(
    args: argparse.Namespace, config: Config, made: Cascade, bundle: Path, port: int, path: Path
) -> Starlette:
    import httpx

    endpoint, options = made.endpoint, settings(config)
    assert endpoint is not None
    meter = Meter(
        path,
        options.usd_per_day if args.usd_per_day is None else args.usd_per_day,
        options.usd_per_month if args.usd_per_month is None else args.usd_per_month,
    )
    probe = load(bundle.parent / "probe.json", None, Probe)
    config = with_repaired_prompts(config, probe)
    judge = Judge(
        config.task, "", endpoint.measure, endpoint.n_samples,
        sampling_of(bundle, endpoint.run.engine),
    )  # fmt: skip
    cascading = Cascading(
        name=bundle.parent.name,
        task=config.task,
        judge=judge,
        endpoint=endpoint,
        threshold=threshold_of(made),
        is_error=(args.if_unavailable or options.if_unavailable) == "error",
    )
    return application(
        cascading,
        # A connection each: servers close those that are kept, maybe just as one is used.
        httpx.AsyncClient(
            base_url=f"http://{HOST}:{port}",
            timeout=_ANSWER_S,
            trust_env=False,
            transport=OwnConnections(),
        ),
        escalator(
            named(config.teachers, endpoint.teacher),
            meter,
            endpoint.teacher_tokens,
            options.teacher_seconds if args.teacher_seconds is None else args.teacher_seconds,
        ),
        meter,
    )


async def _until_either_ends(server: uvicorn.Server, process: Popen[bytes]) -> None:
    """Serve until a signal comes, or the student's server ends."""

    async def look() -> None:
        while process.poll() is None:
            await asyncio.sleep(_LOOK_S)
        server.should_exit = True

    looking = asyncio.create_task(look())
    try:
        await server.serve()
    finally:
        looking.cancel()


if __name__ == "__main__":
    main()
