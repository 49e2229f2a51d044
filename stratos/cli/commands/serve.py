"""`stratos serve FOLDER`: host a student on this machine until it is stopped."""

from __future__ import annotations

import argparse
import shlex
import socket
import sys
from dataclasses import replace
from pathlib import Path

from stratos.core.errors import StratosError, UsageError, did_you_mean
from stratos.core.formats import listed
from stratos.core.output import add_flag, count, port_number
from stratos.deploy.engines.base import (
    Engine,
    engine_named,
    engines,
    import_engines,
    import_engines_of_run,
)
from stratos.deploy.engines.predictor import server_of, setting_of
from stratos.deploy.hosted_server import (
    FrontProgram,
    Hosted,
    cache_of_user,
    disk_of_served,
    fronts,
    hosted_bundle,
    hosted_here,
    starting,
    state_of,
)
from stratos.deploy.hosted_status import standings
from stratos.deploy.hosting import (
    KEY,
    Address,
    again,
    beside,
    can_start,
    described,
    known_answers,
    make_room,
    prepare,
    restart,
    setting_here,
    start,
    stop,
    swap,
)
from stratos.deploy.manifest import bundle_in, changed_files
from stratos.deploy.server import HOST, check_free, free_port
from stratos.deploy.supervisor import supervise
from stratos.deploy.units import SYSTEMS, unit
from stratos.records import ServingSetting


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.usage = "stratos serve [status|stop|start|unit] [FOLDER] [options]"
    parser.description = (
        "Host the student of a run on this machine, as an OpenAI-compatible server."
    )
    parser.epilog = (
        "stratos serve outputs/<run>: starts it; it stays until it is stopped. stratos serve "
        "status: what runs. stratos serve stop outputs/<run>, or --all: ends it. stratos serve "
        "start <name>, or --all: starts again what ran before a reboot. stratos serve unit "
        "outputs/<run>: prints what starts it at boot."
    )
    parser.add_argument("words", nargs="*", metavar="FOLDER", help="run folder, or a bundle")
    parser.add_argument(
        "--port", type=port_number, default=0, help="where it listens (default: any free)"
    )
    parser.add_argument(
        "--host", default="",
        help="address of this machine (default: 127.0.0.1); any other asks for a key, that of "
        f"${KEY} or one that is made",
    )  # fmt: skip
    parser.add_argument("--name", default="", help="of the model (default: the run's folder)")
    parser.add_argument(
        "--replace", type=Path, metavar="NAME",
        help="name or folder of a student that runs: have this one answer in its place, without a "
        "lost request, if stratos gate finds it no worse",
    )  # fmt: skip
    parser.add_argument(
        "--force", action="store_true", help="with --replace: also if it is worse, or not known"
    )
    at_once = ", ".join(f"{engine.at_once} of {kind}" for kind, engine in engines().items())
    parser.add_argument(
        "--engine",
        help="what serves it (default: that of the run, or the one that makes files of a format "
        f"that is named); one of {', '.join(engines())}, or of the run's own",
    )
    parser.add_argument("--format", help="export that is served, such as q8_0")
    parser.add_argument(
        "--at-once",
        type=count,
        help=f"requests that are answered at once (default: {at_once})",
    )
    parser.add_argument(
        "--config-dir", type=Path, help="folder of choices of your own, with deploy/<engine>.yaml"
    )
    parser.add_argument(
        "--restart",
        action="store_true",
        help="start the server that runs anew, as the options say; at another --port or --host, "
        "and with --cascade before and after, that cuts answers that are under way",
    )
    parser.add_argument(
        "--foreground", action="store_true", help="serve in this process, until Ctrl-C"
    )
    parser.add_argument(
        "--page", action="store_true", help="show a page to try it in a browser, until Ctrl-C"
    )
    parser.add_argument(
        "--page-port",
        type=port_number,
        default=0,
        help="where the page listens (default: any free)",
    )
    for front in fronts():
        front.add_options(parser)
    parser.add_argument("--start-seconds", type=float, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--all", action="store_true", help="with stop and start: all there is")
    parser.add_argument(
        "--for", dest="system", choices=SYSTEMS, default=SYSTEMS[0],
        help="with unit: what is printed (default: %(default)s)",
    )  # fmt: skip
    add_flag(parser, "with status: one JSON object per line")


def run(args: argparse.Namespace) -> int:
    """Start a server that stays, show what runs, or stop it; return its own code in foreground.

    Raises:
        UsageError: words or options do not go together.
        StratosError: it cannot be done.
    """
    command = args.words[0] if args.words and args.words[0] in _COMMANDS else ""
    folders = [Path(word) for word in args.words[bool(command) :]]
    is_missing = not command and folders and not folders[0].exists()
    if is_missing and (near := did_you_mean(args.words[0], _COMMANDS)):
        raise UsageError(f"{folders[0]}: there is no such folder, and no such command.{near}")
    if (not command and len(folders) != 1) or len(folders) > 1:
        raise UsageError("name one folder: stratos serve outputs/<run>")
    if args.page and (command or args.foreground):
        raise UsageError("--page goes with a start, and not with --foreground")
    if args.json and command != "status":
        raise UsageError("--json goes with status")
    if args.force and args.replace is None:
        raise UsageError("--force goes with --replace")
    cache_dir = cache_of_user()
    with disk_of_served(cache_dir):
        return _COMMANDS.get(command, _start)(cache_dir, folders, args)


def _start(cache_dir: Path, folders: list[Path], args: argparse.Namespace) -> int:
    (folder,) = folders
    bundle = bundle_in(folder)
    import_engines_of_run(bundle.parent)
    if args.config_dir is not None:
        import_engines(args.config_dir)
    if args.replace is not None:
        return _replace(cache_dir, bundle, args)
    address = Address(args.port, args.host, args.name)
    before = Hosted.read(state_of(bundle, cache_dir))
    if before is not None and before.runs and (args.restart or before.is_outdated):
        for front in fronts():
            front.keep_options(args, before)
    program, run = _program(cache_dir, bundle, args, before)
    with starting(bundle, cache_dir):
        state = state_of(bundle, cache_dir)
        before = Hosted.read(state)
        goes_on = before is not None and before.runs and not args.restart and not before.is_outdated
        if before is not None and goes_on:
            hosted = before
        elif before is not None and before.runs and not args.foreground:
            why = "" if args.restart else ": its bundle was made anew since it was started"
            print(f"Starting the server at {before.url} anew{why} …", flush=True)
            hosted = restart(state, before, address, run, program, args.start_seconds)
            _warn_of_changes(hosted)
        else:
            if before is not None and before.runs:
                address = make_room(state, before, address, run)
            state, hosted = prepare(bundle, cache_dir, address=address, run=run, front=program)
            _warn_of_changes(hosted)
            if not args.foreground:
                print(f"Starting {bundle} …", flush=True)
                hosted = start(state, args.start_seconds)
    if before is not None and goes_on:
        _check_as_asked(before, args, run)
        print(f"{bundle} is served at {before.url}/v1 ({before.served_by}) since {before.since}.")
    elif args.foreground:
        return _in_foreground(state, hosted)
    else:
        print(f"Ready at {hosted.url}/v1: {hosted.served_by}. {known_answers(hosted)}")
    print(_how_to_use(hosted))
    if args.page:
        _show_page(bundle, hosted, args.page_port)
    return 0


def _warn_of_changes(hosted: Hosted) -> None:
    """Say which files that are served are not as their run made them."""
    try:
        changed = changed_files(Path(hosted.bundle), hosted.format)
    except StratosError as error:  # nothing says how they were made
        print(f"Warning: {error}", file=sys.stderr)
        return
    if changed:
        print(
            f"Warning: not as it was made: {listed(changed)} of {hosted.bundle}. To see what else "
            f"is, type: stratos verify {shlex.quote(hosted.bundle)}",
            file=sys.stderr,
        )


def _program(
    cache_dir: Path, bundle: Path, args: argparse.Namespace, before: Hosted | None
) -> tuple[FrontProgram | None, ServingSetting | None]:
    """Return what is started in place of the engine, and how the engine is run."""
    programs = (front.program(args, bundle, cache_dir, before) for front in fronts())
    program = next((candidate for candidate in programs if candidate is not None), None)
    if program is not None:
        return program, program.run
    run = _setting(args, bundle, before if before is not None and before.runs else None)
    return None, setting_of(bundle, run)


def _replace(cache_dir: Path, bundle: Path, args: argparse.Namespace) -> int:
    """Have a bundle answer in place of a student that runs."""
    if any((args.port, args.host, args.name, args.foreground, args.restart, args.page)):
        raise UsageError("--replace keeps address and name: leave the other options out")
    state = state_of(hosted_bundle(args.replace, cache_dir), cache_dir)
    before = Hosted.read(state)
    if before is None or not before.runs:
        raise StratosError(
            f"{args.replace} does not run. Type stratos serve status to see what does."
        )
    own = state_of(bundle, cache_dir)
    if own == state:
        raise UsageError(
            f"{bundle} is what answers there. To start it anew, type: stratos serve "
            f"{shlex.quote(str(bundle))} --restart"
        )
    if (there := Hosted.read(own)) is not None and there.runs:
        raise StratosError(f"{bundle} is served already, at {there.url}/v1.")
    program, run = _program(cache_dir, bundle, args, None)
    known = can_start(bundle, 0, run)
    for front in fronts():
        try:
            print(front.compare(bundle, Path(before.bundle)), end="", flush=True)
        except StratosError as error:
            if not args.force:
                raise StratosError(f"{error}\nTo switch all the same, add --force.") from error
            print(error)
    with starting(Path(before.bundle), cache_dir):
        planned = beside(before, described(bundle, known, run, program))
        print(f"Starting {bundle} beside {before.bundle} …", flush=True)
        _warn_of_changes(planned)
        hosted = swap(state, planned, is_forced=args.force, start_seconds=args.start_seconds)
    print(
        f"{bundle} answers now at {hosted.url}/v1 as {hosted.name}: {hosted.served_by}.\n"
        f"  back:   stratos serve {shlex.quote(before.bundle)} --replace {shlex.quote(hosted.name)}"
        " --force"
    )
    return 0


def _start_again(cache_dir: Path, folders: list[Path], args: argparse.Namespace) -> int:
    """Start what ran before, such as before a reboot; return 1 where something does not start."""
    if bool(folders) == args.all:
        raise UsageError("name what to start: stratos serve start <name>, or --all")
    bundles = [hosted_bundle(folder, cache_dir) for folder in folders]
    states = [
        (state, hosted)
        for state, hosted in hosted_here(cache_dir)
        if args.all or Path(hosted.bundle) in bundles
    ]
    if not states:
        raise StratosError(
            "Nothing was served, or it was stopped, which forgets it. Type: stratos serve "
            "outputs/<run>"
        )
    if args.foreground and len(states) > 1:
        raise UsageError("--foreground goes with one student")
    n_failed = 0
    for state, hosted in states:
        if hosted.runs:
            print(f"{hosted.bundle} is served at {hosted.url}/v1.")
            continue
        try:
            with starting(Path(hosted.bundle), cache_dir):
                hosted, why_other = again(state, hosted)
                print(why_other, end="\n" * bool(why_other))
                _warn_of_changes(hosted)
                if not args.foreground:
                    hosted = start(state, args.start_seconds, keeps_state=True)
        except StratosError as error:
            print(f"{hosted.bundle} is not started. {error}", file=sys.stderr)
            n_failed += 1
            continue
        if args.foreground:
            return _in_foreground(state, hosted)
        print(f"{hosted.bundle}: ready at {hosted.url}/v1: {hosted.served_by}.")
    return int(n_failed > 0)


def _in_foreground(state: Path, hosted: Hosted) -> int:
    print(f"Serving {hosted.bundle} at {hosted.url}/v1 until Ctrl-C. Log: {hosted.log}", flush=True)
    return supervise(state)


def _unit(cache_dir: Path, folders: list[Path], args: argparse.Namespace) -> int:
    """Print what has a system start the student."""
    if not folders:
        raise UsageError("name one folder: stratos serve unit outputs/<run>")
    bundle = hosted_bundle(folders[0], cache_dir)
    hosted = Hosted.read(state_of(bundle, cache_dir))
    print(unit(args.system, bundle, hosted, args.port, cache_dir, args.name), end="")
    return 0


def _check_as_asked(before: Hosted, args: argparse.Namespace, run: ServingSetting | None) -> None:
    """Check that a server runs as the options of a start say.

    Raises:
        StratosError: it runs otherwise.
    """
    if differing_options := _not_applied(before, args, run):
        raise StratosError(
            f"{before.bundle} is served at {before.url}/v1 ({before.served_by}), and not with "
            f"{' '.join(differing_options)}. To start it anew so, "
            f"type: stratos serve {shlex.quote(before.bundle)} {' '.join(differing_options)} "
            "--restart"
        )


def _not_applied(before: Hosted, args: argparse.Namespace, run: ServingSetting | None) -> list[str]:
    """Return which options of a start differ from what runs."""
    differing_options = []
    if not before.is_at(args.port):
        differing_options.append(f"--port {args.port}")
    if args.host not in ("", before.host):
        differing_options.append(f"--host {args.host}")
    if args.name not in ("", before.name):
        differing_options.append(f"--name {args.name}")
    if (args.engine or args.format) and not before.serves(run):
        differing_options.append(f"--engine {args.engine}" if args.engine else "")
        differing_options.append(f"--format {args.format}" if args.format else "")
    if args.at_once and args.at_once != before.at_once:
        differing_options.append(f"--at-once {args.at_once}")
    if args.foreground:
        differing_options.append("--foreground")
    for front in fronts():
        differing_options += front.differing(before, args)
    return [option for option in differing_options if option]


def _how_to_use(hosted: Hosted) -> str:
    """Return what is typed to ask, watch and stop a server."""
    name = shlex.quote(hosted.bundle)
    key = f'-H "Authorization: Bearer $(cat {hosted.key_file})" ' if hosted.key_file else ""
    return (
        f"  ask:    curl {hosted.url}/v1/chat/completions {key}-H 'Content-Type: application/json' "
        f"-d {hosted.example_data}\n"
        f"  watch:  stratos serve status {name}; tail -f {shlex.quote(hosted.log)}\n"
        f"  stop:   stratos serve stop {name}\n"
        + (
            f"Others reach it with the key in {hosted.key_file}, which travels in plain text."
            if hosted.key_file
            else "It listens on this machine alone, and asks for no key."
        )
    )


def _show_page(bundle: Path, hosted: Hosted, port: int) -> None:
    from stratos.deploy.page.app import origin_of, serve_page

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


def _setting(
    args: argparse.Namespace, bundle: Path, running: Hosted | None = None
) -> ServingSetting | None:
    """Return the engine that was asked for, else the one that runs, else that of the run.

    None is one request at a time by transformers.

    Raises:
        StratosError: there is no such engine, or it has no such format.
    """
    form, at_once = args.format, args.at_once
    if (own := server_of(bundle)) is not None:
        if args.engine not in (None, own.kind) or form:
            raise StratosError(
                f"{bundle} holds no language model: {own.title} alone serves it. Leave --engine "
                "and --format out."
            )
        return running.setting if running is not None and not at_once else own.setting(at_once)
    if args.engine is not None:
        return _setting_of(engine_named(args.engine), form, at_once)
    if form:
        return _setting_of(_engine_of_format(form), form, at_once)
    if running is not None and running.setting is not None:
        now = running.setting
        if now.format or not at_once:
            return replace(now, slots=at_once or now.slots)
        return engine_named(now.engine).setting(at_once)
    setting, why_other = setting_here(bundle, at_once)
    if why_other:
        print(why_other)
    return setting


def _setting_of(engine: Engine, form: str | None, at_once: int | None) -> ServingSetting:
    """Return how an engine is run in a format; None is its own.

    Raises:
        StratosError: it serves the bundle as it is.
    """
    setting = engine.setting(at_once)
    if not form:
        return setting
    if not engine.serves_formats:
        raise StratosError(
            f"--format {form}: {engine.kind} serves the bundle as it is. Add --engine "
            f"{_engine_of_format(form).kind}, or leave the format out."
        )
    return replace(setting, format=form)


def _engine_of_format(form: str) -> Engine:
    """Return the engine whose files have a format; the first that makes files, if none has."""
    makers = [engine for engine in engines().values() if engine.makes_files]
    have = [maker for maker in makers if maker.weight_format(form).name == form]
    return (have or makers)[0]


def _status(cache_dir: Path, folders: list[Path], args: argparse.Namespace) -> int:
    servers = list(standings(cache_dir, folders))
    for standing in servers:
        print(standing.json if args.json else standing.text)
    if not servers and not args.json:
        print("Nothing is served." if not folders else _not_served(folders[0], cache_dir))
    return 0


def _stop(cache_dir: Path, folders: list[Path], args: argparse.Namespace) -> int:
    if not folders and not args.all:
        raise StratosError("Name what to stop: stratos serve stop outputs/<run>, or --all")
    named = [state_of(_named(folder, cache_dir), cache_dir) for folder in folders]
    hosted = [(s, server) for s, server in hosted_here(cache_dir) if args.all or s in named]
    for state, server in hosted:
        ran = stop(state, server)
        print(f"{server.bundle}: {'stopped' if ran else 'was not running any more'}.")
    if not hosted:
        print("Nothing is served." if args.all else _not_served(folders[0], cache_dir))
    return int(not hosted and not args.all and not folders[0].exists())


def _not_served(folder: Path, cache_dir: Path) -> str:
    """Return that a folder is not served, and what is: another student may have its place."""
    served = [f"{hosted.name} ({hosted.bundle})" for _, hosted in hosted_here(cache_dir)]
    return f"{folder} is not served." + (f" Served by name: {listed(served)}." if served else "")


def _named(folder: Path, cache_dir: Path) -> Path:
    """Return the bundle of a folder, also where it is gone by now."""
    try:
        return hosted_bundle(folder, cache_dir)
    except StratosError:
        return folder.resolve()


_COMMANDS = {"status": _status, "stop": _stop, "start": _start_again, "unit": _unit}
