"""The service files that serve the bundle on the planned servers."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from stratos.contrib.skypilot.service import PINS, exported, installs, plain, sky_service
from stratos.core.atomic_files import remove
from stratos.core.wheel import pins, write_wheel
from stratos.deploy.commands import context_of, engine_of, serve_command
from stratos.records import RoleChoice

_SKY_CLOUDS = frozenset(("aws", "azure", "gcp", "lambda", "nebius", "oci", "runpod", "vast"))
"""Clouds that SkyPilot knows by the same name; any other server is given a launch script."""

_FROM_ENVIRONMENT = '--host "${HOST:-127.0.0.1}" --port "${PORT:-8000}"'


def service_files(
    choices: Sequence[RoleChoice], name: str, bundle: Path, wheels: Path
) -> Iterator[tuple[str, str]]:
    """Yield name and text of the service file for each choice of the role "serve".

    A SkyServe service where SkyPilot knows the cloud, else a launch script for the server itself.
    It starts the engine that the plan counted on, at its setting. A mix of servers has a file for
    each kind.

    Args:
        choices: of the role "serve".
        name: of the service.
        bundle: folder of the bundle; the script looks for it beside its own folder.
        wheels: folder with the wheel of Stratos, see `write_wheels`; the script looks for it in its
            own.
    """
    for number, choice in enumerate(choices, 1):
        mark = f"-{number}" if len(choices) > 1 else ""
        if choice.offer is not None and choice.offer.cloud in _SKY_CLOUDS:
            file = f"serve{mark}.sky.yaml"
            service = _service_name(f"{name}{mark}")
            yield file, sky_service(choice, choice.offer, service, file, bundle, wheels)
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
    if any(engine_of(choice.run).extra for choice in choices):
        folder.mkdir(parents=True)
        write_wheel(folder)
        (folder / PINS).write_text("".join(f"{one}\n" for one in pins()))


def _service_name(name: str) -> str:
    """Return a name that clouds take: small letters, digits and hyphens, a letter first."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return plain if plain[:1].isalpha() else f"student-{plain}".rstrip("-")


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
