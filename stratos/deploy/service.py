"""The service file: what serves the bundle on the planned server."""

from __future__ import annotations

import json
import re
from pathlib import Path

from stratos.deploy.server import serve_command
from stratos.records import Offer, RoleChoice

_SKY_CLOUDS = frozenset(("aws", "azure", "gcp", "lambda", "nebius", "oci", "runpod", "vast"))
"""Clouds that SkyPilot knows by the same name; any other server is given a launch script."""


def service_file(choice: RoleChoice, name: str, bundle: Path) -> tuple[str, str]:
    """Return name and text of the service file for the server of a role.

    A SkyPilot task where SkyPilot knows the cloud, else a launch script for the server itself.

    Args:
        choice: of the role "serve".
        name: of the service.
        bundle: folder of the bundle; the script looks for it beside its own folder.
    """
    if choice.offer is not None and choice.offer.cloud in _SKY_CLOUDS:
        return "serve.sky.yaml", _sky_yaml(choice.offer, choice.spot, _service_name(name), bundle)
    return "serve.sh", _script(choice.offer, name, bundle)


def _service_name(name: str) -> str:
    """Return a name that clouds take: small letters, digits and hyphens, a letter first."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return plain if plain[:1].isalpha() else f"student-{plain}".rstrip("-")


def _sky_yaml(offer: Offer, spot: bool, name: str, bundle: Path) -> str:
    price = offer.usd_per_hour
    if spot and offer.usd_per_hour_spot is not None:
        price = offer.usd_per_hour_spot
    dated = f", price of {offer.price_date}" if offer.price_date else ""
    accelerators = ""
    if offer.accelerator is not None:
        accelerators = f"  accelerators: {offer.accelerator}:{offer.accelerator_count}\n"
    command = serve_command(".", host="127.0.0.1", port=8000)
    return f"""\
# Serves the student on {offer.name} at ${price:g} an hour{dated}.
#
#   sky launch -c {name} serve.sky.yaml       start the server
#   ssh -L 8000:localhost:8000 {name}         reach it at http://localhost:8000/v1
#   sky down {name}                           stop it, and the bill
#
# The server knows no keys, so it listens on its own machine alone. To open it to others, put a
# proxy that does know keys before it.
name: {name}
resources:
  infra: {offer.cloud}/{offer.region}
  instance_type: {offer.instance_type}
{accelerators}  use_spot: {str(spot).lower()}
file_mounts:
  ~/bundle: {json.dumps(str(bundle))}
setup: |
  pip install "transformers[serving]>=5.0"
run: |
  cd ~/bundle
  HF_HUB_OFFLINE=1 {command}
"""


def _script(offer: Offer | None, name: str, bundle: Path) -> str:
    where = offer.name if offer is not None else "any machine"
    command = serve_command(".", host="HOST", port=8000)
    command = command.replace("HOST", '"${HOST:-127.0.0.1}"').replace("8000", '"${PORT:-8000}"')
    return f"""\
#!/bin/sh
# Serves {name} on {where}.
#
#   pip install "transformers[serving]>=5.0"
#   sh serve.sh                            at http://127.0.0.1:8000/v1
#   HOST=127.0.0.1 PORT=9000 sh serve.sh   elsewhere
#
# The server knows no keys: do not let it listen on a network without a proxy that does.
set -eu
cd "$(dirname "$0")/../{bundle.name}"
export HF_HUB_OFFLINE=1
exec {command}
"""
