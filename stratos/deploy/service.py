"""The service file that serves the bundle on the planned server."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import yaml

from stratos.core.printable import visible
from stratos.deploy.commands import context_of, engine_of, environment_of, serve_command
from stratos.records import Offer, RoleChoice

_SKY_CLOUDS = frozenset(("aws", "azure", "gcp", "lambda", "nebius", "oci", "runpod", "vast"))
"""Clouds that SkyPilot knows by the same name; any other server is given a launch script."""

_FROM_ENVIRONMENT = '--host "${HOST:-127.0.0.1}" --port "${PORT:-8000}"'


def service_file(choice: RoleChoice, name: str, bundle: Path) -> tuple[str, str]:
    """Return name and text of the service file for the server of a role.

    A SkyPilot task where SkyPilot knows the cloud, else a launch script for the server itself. It
    starts the engine that the plan counted on, at its setting.

    Args:
        choice: of the role "serve".
        name: of the service.
        bundle: folder of the bundle; the script looks for it beside its own folder.
    """
    if choice.offer is not None and choice.offer.cloud in _SKY_CLOUDS:
        return "serve.sky.yaml", _sky_yaml(choice, choice.offer, _service_name(name), bundle)
    return "serve.sh", _script(choice, name, bundle)


def _service_name(name: str) -> str:
    """Return a name that clouds take: small letters, digits and hyphens, a letter first."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return plain if plain[:1].isalpha() else f"student-{plain}".rstrip("-")


def _sky_yaml(choice: RoleChoice, offer: Offer, name: str, bundle: Path) -> str:
    price = offer.usd_per_hour
    if choice.spot and offer.usd_per_hour_spot is not None:
        price = offer.usd_per_hour_spot
    dated = f", price of {offer.price_date}" if offer.price_date else ""
    accelerators = ""
    if offer.accelerator is not None:
        card = f"{offer.accelerator}:{offer.accelerator_count}"
        accelerators = f"  accelerators: {_scalar(card)}\n"
    engine = engine_of(choice.run)
    command = _command(choice, bundle, host="127.0.0.1", port=8000)
    return f"""\
# {_comment(f"Serves the student on {offer.name} at ${price:g} an hour{dated}.")}
# {engine.note}
#
#   sky launch -c {name} serve.sky.yaml       start the server
#   ssh -L 8000:localhost:8000 {name}         reach it at http://localhost:8000/v1
#   sky down {name}                           stop it, and the bill
#
# The server has no authentication, so it listens on localhost only. To expose it, put an
# proxy that does know keys before it.
name: {_scalar(name)}
resources:
  infra: {_scalar(f"{offer.cloud}/{offer.region}")}
  instance_type: {_scalar(offer.instance_type)}
{accelerators}  use_spot: {str(choice.spot).lower()}
file_mounts:
  ~/bundle: {_scalar(str(bundle))}
setup: |
  pip install "{engine.requirement}"
run: |
  cd ~/bundle
  export {_exported(bundle)}
  {command}
"""


def _scalar(text: str) -> str:
    """Return a text as YAML writes it, on one line whatever is in it."""
    written: str = yaml.safe_dump(text, default_style=None, width=float("inf"), allow_unicode=False)
    line = written.removesuffix("...\n").strip()
    return line if "\n" not in line else json.dumps(text)


def _comment(text: str) -> str:
    """Return a text that ends no comment: one line, without characters that nobody can see."""
    return " ".join(visible(text).split())


def _command(choice: RoleChoice, bundle: Path, host: str, port: int) -> str:
    """Return the command that serves the bundle from within its folder."""
    n_devices = choice.offer.accelerator_count if choice.offer is not None else 0
    return serve_command(".", host, port, choice.run, max(1, n_devices), context_of(bundle))


def _exported(bundle: Path) -> str:
    return " ".join(f"{name}={value}" for name, value in environment_of(bundle).items())


def _script(choice: RoleChoice, name: str, bundle: Path) -> str:
    where = choice.offer.name if choice.offer is not None else "any machine"
    engine = engine_of(choice.run)
    command = _command(choice, bundle, host="HOST", port=8000)
    command = command.replace("--host HOST --port 8000", _FROM_ENVIRONMENT)
    return f"""\
#!/bin/sh
# {_comment(f"Serves {name} on {where}.")}
# {engine.note}
#
#   pip install "{engine.requirement}"
#   sh serve.sh                            at http://127.0.0.1:8000/v1
#   HOST=127.0.0.1 PORT=9000 sh serve.sh   elsewhere
#
# The server has no authentication: do not expose it without an authenticating proxy.
set -eu
cd "$(dirname "$0")"/../{shlex.quote(bundle.name)}
export {_exported(bundle)}
exec {command}
"""
