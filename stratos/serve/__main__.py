"""`python -m stratos.serve FOLDER`: host a student on this machine until it is stopped."""

from __future__ import annotations

import argparse
import os
import shlex
import socket
import sys
from pathlib import Path

from stratos.core.counted import counted
from stratos.core.errors import StratosError
from stratos.deploy.commands import ENGINES
from stratos.deploy.exports import read_exports
from stratos.deploy.hosting import (
    CACHE,
    Hosted,
    ServedError,
    bundle_in,
    differing,
    hosted_bundle,
    hosted_here,
    is_looked_after,
    is_starting,
    prepare,
    start,
    starting,
    state_of,
    stop,
)
from stratos.deploy.server import HOST, check_free, free_port
from stratos.deploy.supervisor import supervise
from stratos.door.nginx import Door
from stratos.engines.hugging_face import TransformersBatching
from stratos.engines.llamacpp import LlamaCpp
from stratos.engines.vllm import Vllm
from stratos.records import ServingSetting


def main() -> None:
    """Start a server that stays, tell what runs, or stop it; exit with 1 where that fails."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m stratos.serve",
        usage="python -m stratos.serve [status|stop] [FOLDER] [options]",
        description="Host the student of a run on this machine, as an OpenAI-compatible server.",
        epilog="python -m stratos.serve outputs/<run>          starts it; it stays until it is "
        "stopped. python -m stratos.serve status: what runs. python -m stratos.serve stop "
        "outputs/<run>, or --all: ends it.",
    )
    parser.add_argument("words", nargs="*", metavar="FOLDER", help="run folder, or a bundle")
    parser.add_argument("--port", type=int, default=0, help="where it listens (default: any free)")
    parser.add_argument(
        "--engine",
        choices=("transformers", "llamacpp", "vllm"),
        help="what serves it (default: that of the run, or llamacpp where a format is named)",
    )
    parser.add_argument("--format", help="export that is served, such as q8_0")
    parser.add_argument(
        "--at-once",
        type=int,
        help="requests that are answered at once (default: 1 of transformers, 8 of llamacpp, 16 of "
        "vllm)",
    )
    parser.add_argument(
        "--foreground", action="store_true", help="serve in this process, until Ctrl-C"
    )
    parser.add_argument(
        "--page", action="store_true", help="show a page to try it in a browser, until Ctrl-C"
    )
    parser.add_argument(
        "--page-port", type=int, default=0, help="where the page listens (default: any free)"
    )
    parser.add_argument("--start-seconds", type=float, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--all", action="store_true", help="with stop: all that runs")
    told = parser.parse_args()
    command = told.words[0] if told.words and told.words[0] in ("status", "stop") else ""
    folders = [Path(word) for word in told.words[bool(command) :]]
    if (not command and len(folders) != 1) or len(folders) > 1:
        parser.error("name one folder: python -m stratos.serve outputs/<run>")
    cache_dir = Path(os.environ.get(CACHE) or "~/.cache/stratos").expanduser()
    if told.page and (command or told.foreground):
        parser.error("--page goes with a start, and not with --foreground")
    try:
        if command == "status":
            _status(cache_dir, folders)
        elif command == "stop":
            _stop(cache_dir, folders, told.all)
        else:
            _start(cache_dir, folders[0], told)
    except (StratosError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(1)


def _start(cache_dir: Path, folder: Path, told: argparse.Namespace) -> None:
    bundle = bundle_in(folder)
    run = _setting(told, bundle)
    try:
        with starting(bundle, cache_dir):
            state, hosted = prepare(bundle, cache_dir, port=told.port, run=run)
            if not told.foreground:
                print(f"Starting {bundle} …", flush=True)
                hosted = start(state, told.start_seconds)
    except ServedError as served:
        print(served)
        before = Hosted.read(state_of(bundle, cache_dir))
        if before is not None and (other := _not_applied(before, told, run)):
            print(f"It goes on as it was started: after a stop, {' and '.join(other)} will count.")
        if told.page and (running := Hosted.read(state_of(bundle, cache_dir))) is not None:
            _show_page(bundle, running, told.page_port)
        return
    if told.foreground:
        print(f"Serving {bundle} at {hosted.url}/v1 until Ctrl-C. Log: {hosted.log}", flush=True)
        sys.exit(supervise(state))
    print(f"Ready at {hosted.url}/v1. {_as_measured(hosted)}")
    name = shlex.quote(str(bundle))
    asked = hosted.asked[0].messages if hosted.asked else [{"role": "user", "content": "…"}]
    question = asked[-1]["content"].replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    body = (
        f'{{"model": "{bundle}", "max_tokens": {hosted.max_tokens or 256}, "temperature": 0, '
        f'"messages": [{{"role": "user", "content": "{question}"}}]}}'
    )
    print(
        f"  ask:    curl {hosted.url}/v1/chat/completions -H 'Content-Type: application/json' "
        f"-d {shlex.quote(body)}\n"
        f"  watch:  python -m stratos.serve status {name}; tail -f {shlex.quote(hosted.log)}\n"
        f"  stop:   python -m stratos.serve stop {name}\n"
        "It listens on this machine alone, and asks for no key."
    )
    if told.page:
        _show_page(bundle, hosted, told.page_port)


def _not_applied(before: Hosted, told: argparse.Namespace, run: ServingSetting | None) -> list[str]:
    """Return which options of a start differ from what runs."""
    other = []
    if told.port and told.port != before.port:
        other.append(f"--port {told.port}")
    if (told.engine or told.format) and not before.serves(run):
        other.append(f"--engine {told.engine}" if told.engine else "")
        other.append(f"--format {told.format}" if told.format else "")
    return [one for one in other if one]


def _show_page(bundle: Path, hosted: Hosted, port: int) -> None:
    from stratos.serve.origin import origin_of
    from stratos.serve.page import serve_page

    if port:
        check_free(port, "--page-port <number>", "--page-port 0")
    port = port or free_port()
    origin = origin_of(bundle)
    print(
        f"The page is at http://{HOST}:{port} until Ctrl-C; the student's server stays. From "
        f"another machine: ssh -L {port}:{HOST}:{port} {socket.gethostname()}",
        flush=True,
    )
    serve_page(hosted, origin, port)


def _setting(told: argparse.Namespace, bundle: Path) -> ServingSetting | None:
    """Return the engine that was asked for, else that of the run, if it is installed.

    None is one request at a time by transformers.

    Raises:
        StratosError: the engine has no formats.
    """
    form, engine = told.format, told.engine
    held = read_exports(bundle)
    if engine is None and not form and held is not None and held.served:
        engine, form = held.engine, held.served
        if (why := ENGINES[engine].unusable()) is not None:
            print(f"The run served it as {form}. {why}\nUntil then transformers serves it.")
            engine = form = None
    if engine == Vllm.kind:
        return ServingSetting(engine, told.at_once or Vllm().at_once, format=form or "")
    if engine == LlamaCpp.kind or (engine is None and form):
        own = LlamaCpp()
        return ServingSetting(own.kind, told.at_once or own.at_once, format=form or own.format)
    if form:
        raise StratosError(
            f"--format {form}: transformers serves the bundle as it is. Add --engine "
            "llamacpp, or leave the format out."
        )
    if (told.at_once or 1) > 1:
        return ServingSetting(TransformersBatching.kind, slots=told.at_once)
    return None


def _as_measured(hosted: Hosted) -> str:
    """Say whether it answers as the evaluation, or its export, was measured."""
    if not hosted.asked:
        return "Its bundle holds no known answers to compare with."
    n = len(hosted.asked)
    if n_other := differing(hosted):
        then = f"{hosted.format} when it was exported" if hosted.format else "the evaluation"
        return (
            f"Warning: of {counted(n, 'known question')}, {counted(n_other, 'answer')} "
            f"{'is' if n_other == 1 else 'are'} not that of {then}: python -m stratos.verify "
            f"{shlex.quote(hosted.bundle)} tells whether the bundle is whole."
        )
    if not hosted.format:
        return f"It answers {counted(n, 'known question')} as in the evaluation."
    n_same = hosted.n_as_evaluated
    return (
        f"It answers {counted(n, 'known question')} as {hosted.format} did when it was exported; "
        f"{n_same} of {counted(n, 'answer')} {'is that' if n_same == 1 else 'are those'} of the "
        "evaluation."
    )


def _status(cache_dir: Path, folders: list[Path]) -> None:
    wanted = [state_of(hosted_bundle(folder, cache_dir), cache_dir) for folder in folders]
    found = [(s, one) for s, one in hosted_here(cache_dir) if not wanted or s in wanted]
    for state, one in found:
        print(f"{one.bundle}\n  {_state(state, one)}\n  log: {one.log}")
        if (door := Door(state.with_suffix(".door"))).opened is not None:
            print(f"  door: {door.told()}")
    if not found:
        print("Nothing is served." if not folders else f"{folders[0]} is not served.")


def _state(state: Path, one: Hosted) -> str:
    times = f", started again {counted(one.n_restarts, 'time')}" if one.n_restarts else ""
    if one.is_given_up:
        return f"given up{times}: it ended each time (last with code {one.exit_code})"
    if one.supervisor is not None and not one.supervisor.is_of_this_machine:
        return f"was started on {one.supervisor.host}, which cannot be seen from here"
    if one.supervisor is None:
        is_at_it = is_starting(state) or is_looked_after(state)
        return "is starting" if is_at_it else "its start was cut short"
    if not one.runs:
        return f"gone: the process that kept it running has ended{times}"
    try:
        n_other = differing(one)
    except StratosError:
        return f"does not answer at {one.url}{times} (process {one.server_pid})"
    if one.is_bundle_gone:
        times += "; its bundle is gone (moved or deleted): it cannot be started again from there"
    elif one.is_outdated:
        times += "; its bundle was made anew since: stop it and start it again"
    as_measured = f"; {n_other} of {len(one.asked)} known answers differ" if n_other else ""
    return f"answers at {one.url}/v1 since {one.since}{times}{as_measured}"


def _stop(cache_dir: Path, folders: list[Path], is_all: bool) -> None:
    if not folders and not is_all:
        raise StratosError(
            "Name what to stop: python -m stratos.serve stop outputs/<run>, or --all"
        )
    wanted = [state_of(_named(folder, cache_dir), cache_dir) for folder in folders]
    found = [(s, one) for s, one in hosted_here(cache_dir) if is_all or s in wanted]
    for state, one in found:
        # A door left open would let its clients in to whatever takes the port next.
        was_open = Door(state.with_suffix(".door")).stop()
        ran = stop(state, one)
        door = ", and its door is closed" if was_open else ""
        print(f"{one.bundle}: {'stopped' if ran else 'was not running any more'}{door}.")
    if not found:
        print("Nothing is served." if is_all else f"{folders[0]} is not served.")


def _named(folder: Path, cache_dir: Path) -> Path:
    """Return the bundle of a folder, also where it is gone by now."""
    try:
        return hosted_bundle(folder, cache_dir)
    except StratosError:
        return folder.resolve()


if __name__ == "__main__":
    main()
