"""The service files that serve the bundle on the planned servers."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from stratos.core.atomic_files import remove
from stratos.core.extensions import extensions, load
from stratos.core.extras import pins, write_wheel
from stratos.core.formats import visible
from stratos.deploy.bundle_server import context_of, engine_of, environment_of, serve_command
from stratos.deploy.engines.base import Engine
from stratos.records import Offer, RoleChoice

WHEELS, PINS = "stratos", "pins.txt"
"""Folder with the wheel of this version of Stratos, and in it the versions of what it needs."""
CPU_TORCH = "https://download.pytorch.org/whl/cpu"
"""Where PyTorch is without CUDA, which a server without GPU has no use for."""
_FROM_ENVIRONMENT = '--host "${HOST:-127.0.0.1}" --port "${PORT:-8000}"'


@dataclass(frozen=True)
class Servers:
    """Servers of one kind that serve a bundle."""

    choice: RoleChoice
    """Of the role "serve"."""
    name: str
    """Of the service."""
    mark: str
    """Stands in the name of the file where the plan mixes servers, such as "-2"; else ""."""
    bundle: Path
    """Folder of the bundle; a script looks for it beside its own folder."""
    wheels: Path
    """Folder with the wheel of Stratos, see `write_wheels`; a script looks for it in its own."""


ServiceFile = Callable[[Servers, Offer], tuple[str, str]]
"""Of servers and their offer, returns name and text of the file that serves on them."""


def service_files(
    choices: Sequence[RoleChoice], name: str, bundle: Path, wheels: Path
) -> Iterator[tuple[str, str]]:
    """Yield name and text of the service file for each choice of the role "serve".

    It is what a package of contrib writes for the cloud, else a launch script for the server.
    It starts the engine that the plan counted on, at its setting. A mix of servers has a file for
    each kind.

    Args:
        choices: of the role "serve".
        name: of the service.
        bundle: folder of the bundle.
        wheels: folder with the wheel of Stratos, see `write_wheels`.
    """
    writers = {cloud: file for room in extensions() for cloud, file in room.service_files.items()}
    for number, choice in enumerate(choices, 1):
        mark = f"-{number}" if len(choices) > 1 else ""
        if choice.offer is not None and choice.offer.cloud in writers:
            write: ServiceFile = load(writers[choice.offer.cloud])
            yield write(Servers(choice, name, mark, bundle, wheels), choice.offer)
        else:
            yield f"serve{mark}.sh", _script(choice, name, f"serve{mark}.sh", bundle)


def write_wheels(choices: Sequence[RoleChoice], folder: Path) -> None:
    """Write this version of Stratos for the servers that need it, with the versions of the rest.

    Args:
        choices: of the role "serve".
        folder: is replaced.

    Raises:
        StratosError: it was not installed, so that nobody knows what it needs.
    """
    remove(folder)
    if any(engine_of(choice.run).is_ours for choice in choices):
        folder.mkdir(parents=True)
        write_wheel(folder)
        (folder / PINS).write_text("".join(f"{pin}\n" for pin in pins()))


def _script(choice: RoleChoice, name: str, file: str, bundle: Path) -> str:
    where = choice.offer.name if choice.offer is not None else "any machine"
    times = f" It runs on each of {choice.count}." if choice.count > 1 else ""
    engine = engine_of(choice.run)
    n_devices = choice.offer.accelerator_count if choice.offer is not None else 0
    command = serve_command(".", "HOST", 8000, choice.run, max(1, n_devices), context_of(bundle))
    command = command.replace("--host HOST --port 8000", _FROM_ENVIRONMENT)
    install = "".join(f"#   {line}\n" for line in installs(engine, choice.offer))
    return f"""\
#!/bin/sh
# {plain(f"Serves {name} on {where}.{times}")}
# {engine.note}
#
{install}#   sh {file}                            at http://127.0.0.1:8000/v1
#   HOST=127.0.0.1 PORT=9000 sh {file}   elsewhere
#
# The server has no authentication: do not expose it without an authenticating proxy.
set -eu
cd "$(dirname "$0")"/../{shlex.quote(bundle.name)}
export {exported(bundle)}
exec {command}
"""


def installs(
    engine: Engine, offer: Offer | None, wheels: str = WHEELS, pip: str = "pip"
) -> tuple[str, ...]:
    """Return the commands that install an engine on a server, at the versions of this machine.

    Args:
        engine: the engine; one that Stratos runs is installed from the wheel of this version.
        offer: the server; None for any.
        wheels: folder with that wheel, as the shell there has it.
        pip: the installer.
    """
    commands = [f"sudo {command}" for command in system_installs(engine)]
    is_cpu = offer is not None and offer.accelerator is None
    if is_cpu and engine.uses_torch:
        commands.append(f'{pip} install "{pinned("torch")}" --index-url {CPU_TORCH}')
    packages = [f'"{pinned(package)}"' for package in engine.packages]
    if engine.is_ours:
        wheel = f"$(ls {wheels}/*.whl)"
        if engine.extra:
            packages.insert(0, f'"{wheel}[{engine.extra}]"')
        else:  # what Stratos needs to train is left out
            commands.append(f'{pip} install --no-deps "{wheel}"')
        packages.append(f"-c {wheels}/{PINS}")
    return (*commands, " ".join([pip, "install", *packages]))


def system_installs(engine: Engine) -> tuple[str, ...]:
    """Return the commands by which root installs what an engine needs of the system."""
    if not engine.system_packages:
        return ()
    packages = " ".join(engine.system_packages)
    return "apt-get update", f"apt-get install -y --no-install-recommends {packages}"


def pinned(requirement: str) -> str:
    """Return a requirement at the version that is installed here, else as it is."""
    name = requirement.partition(">=")[0]
    try:
        return f"{name}=={version(name.partition('[')[0]).partition('+')[0]}"
    except PackageNotFoundError:
        return requirement


def exported(bundle: Path) -> str:
    """Return what is exported before a bundle's server starts."""
    return " ".join(f"{name}={value}" for name, value in environment_of(bundle).items())


def plain(text: str) -> str:
    """Return a text that ends no comment: one line, without characters that nobody can see."""
    return " ".join(visible(text).split())
