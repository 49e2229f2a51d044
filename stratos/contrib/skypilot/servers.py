"""Servers in a cloud account: those of runs, by their tags; and the SkyServe service of a student.

    sky serve up -n NAME serve.sky.yaml --secret STRATOS_KEY

SkyServe keeps `replicas` servers running behind one address and replaces those that end. A server
is ready when it has answered a question of the bundle. The engine listens on the loopback address
of each server. What is reached from outside is nginx, which asks for the key.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from stratos.contrib.nginx_config import Limits, script
from stratos.contrib.skypilot.cluster import (
    JOB,
    ROLE,
    RUN,
    cluster_name,
    last_words,
    resources_of,
    run_program,
    slug,
)
from stratos.core.errors import StratosError
from stratos.core.extensions import filled
from stratos.core.extras import python_version
from stratos.deploy.bundle_server import context_of, engine_of, serve_command
from stratos.deploy.engines.base import Engine
from stratos.deploy.manifest import read_known
from stratos.deploy.service import WHEELS, Servers, exported, installs, plain
from stratos.executors.job import TaggedServer, TaggedServers
from stratos.records import Offer, RoleChoice

_ANSWERS_S = 60.0
_AT_ONCE = 8
_DENIED = ("AccessDenied", "UnauthorizedOperation", "AuthFailure", "OptInRequired", "explicit deny")
"""Of these the answer has one where a region is denied."""
_WHO = "aws sts get-caller-identity, which says whether your credentials are right."


def tagged_servers(known: Collection[str]) -> TaggedServers:
    """Return the servers with the tags of a run that no listed job has.

    A policy may deny a region: it is left out, and named.

    Args:
        known: names of the jobs that are listed on this machine.

    Raises:
        StratosError: AWS cannot be asked, or no region of it answers.
    """
    program = shutil.which("aws")
    if program is None:
        raise StratosError(
            "--account asks AWS by its program aws, which is not on the PATH. It is beside sky: "
            "type PATH=$PWD/sky/bin:$PATH stratos servers --account."
        )
    clusters = {cluster_name(name) for name in known}
    regions = _regions(program)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = list(pool.map(partial(_in_region, program), regions))
    left_out = {
        f"aws/{region}": str(answer)
        for region, answer in zip(regions, answers, strict=True)
        if isinstance(answer, _Denied)
    }
    if left_out and len(left_out) == len(regions):
        why = left_out[f"aws/{regions[0]}"]
        raise StratosError(f"AWS does not say what runs: {why} Type {_WHO}")
    return TaggedServers(
        tuple(server for answer in answers if not isinstance(answer, _Denied)
              for cluster, server in answer if cluster not in clusters),
        left_out,
    )  # fmt: skip


class _Denied(Exception):
    """AWS does not answer; the text is what it says instead."""


def _regions(program: str) -> list[str]:
    """Return the regions that the account may use.

    Raises:
        StratosError: AWS does not say.
    """
    # The region of the user's own settings first: a policy may deny all others.
    for region in ("", "us-east-1"):
        try:
            listing = _asked(program, region, "describe-regions")
            return sorted(each["RegionName"] for each in listing["Regions"])
        except _Denied as error:
            why = error
    raise StratosError(
        f"AWS does not say which regions the account may use: {why} Type {_WHO} Where a policy "
        "denies us-east-1, type export AWS_DEFAULT_REGION=<a region that it allows> before."
    )


def _in_region(program: str, region: str) -> list[tuple[str, TaggedServer]] | _Denied:
    """Return the servers of a region, each behind the name of its cluster, or who denies it.

    Raises:
        StratosError: it does not answer for another reason.
    """
    filters = ("--filters", f"Name=tag-key,Values={RUN}",
               "Name=instance-state-name,Values=pending,running")  # fmt: skip
    try:
        return list(_servers(_asked(program, region, "describe-instances", *filters), region))
    except _Denied as error:
        if any(code in str(error) for code in _DENIED):
            return error
        raise StratosError(
            f"AWS does not say what runs in {region}, so that servers may be missing: {error} "
            "Type the same command again."
        ) from error


def _asked(program: str, region: str, *words: str) -> dict[str, Any]:
    """Ask EC2 in a region; "" is that of the user's settings.

    Raises:
        _Denied: it does not answer.
    """
    where = ("--region", region) if region else ()
    answer = run_program([program, "ec2", *words, *where, "--output", "json"], _ANSWERS_S)
    if answer.returncode:
        raise _Denied(last_words(answer.stderr))
    facts: dict[str, Any] = json.loads(answer.stdout or "{}")
    return facts


def _servers(answer: dict[str, Any], region: str) -> Iterator[tuple[str, TaggedServer]]:
    for reservation in answer["Reservations"]:
        for instance in reservation["Instances"]:
            tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
            id = instance["InstanceId"]
            spot = ", spot" if instance.get("InstanceLifecycle") == "spot" else ""
            yield (
                tags.get(JOB, ""),
                TaggedServer(
                    name=tags.get(JOB, id),
                    run=tags[RUN],
                    role=tags.get(ROLE, ""),
                    server=f"aws/{region} {instance['InstanceType']}{spot}",
                    since=datetime.fromisoformat(instance["LaunchTime"]).timestamp(),
                    end=f"aws ec2 terminate-instances --region {region} --instance-ids {id}",
                ),
            )


KEY = "STRATOS_KEY"
"""Variable with the key that every request has to have."""
PORT, ENGINE_PORT, INNER_PORT = 8000, 8001, 8002
"""Of the door, of the engine behind it, and where the door hands on to itself."""
START_S = 1200
"""Seconds from the order of a server to its first answer, at most."""
PROBE_S = 60
"""Seconds that the answer to the probe may take."""
WAITING, LEAST_OPEN = 4, 32
"""Requests that are answered or wait at once, for each answer at once, and at least; more get 429,
for the load balancer to send elsewhere."""
MODEL = "."
"""Name of the model in requests: the engine starts in the folder of the bundle."""


def service_file(servers: Servers, offer: Offer) -> tuple[str, str]:
    """Return name and text of a service: a comment with its commands, then SkyPilot's YAML.

    Args:
        servers: what is served, and on what.
        offer: of the servers.
    """
    choice, bundle, wheels = servers.choice, servers.bundle, servers.wheels
    name, file = service_name(f"{servers.name}{servers.mark}"), f"serve{servers.mark}.sky.yaml"
    task: dict[str, Any] = {
        "name": name,
        "resources": {**resources_of(offer, choice.spot), "ports": PORT},
        "secrets": {KEY: None},
        "file_mounts": _mounts(choice, bundle, wheels),
        "service": _service(choice, bundle),
        "setup": _Block(_setup(engine_of(choice.run), offer)),
        "run": _Block(_run(choice, bundle)),
    }
    return file, _comment(choice, offer, name, file) + yaml.dump(
        task, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=False
    )


def service_name(name: str) -> str:
    """Return a name that clouds take: small letters, digits and hyphens, a letter first."""
    words = slug(name)
    return words if words[:1].isalpha() else f"student-{words}".rstrip("-")


def _mounts(choice: RoleChoice, bundle: Path, wheels: Path) -> dict[str, str]:
    mounts = {"~/bundle": str(bundle)}
    return mounts | {f"~/{WHEELS}": str(wheels)} if engine_of(choice.run).is_ours else mounts


def _service(choice: RoleChoice, bundle: Path) -> dict[str, Any]:
    """Return SkyServe's part: when a server is ready, and how many there are."""
    known = read_known(bundle)
    messages = known[0].messages if known else [{"role": "user", "content": "Hello"}]
    policy: dict[str, Any] = {"min_replicas": choice.count, "max_replicas": choice.count}
    if choice.spot:  # a server on demand stands in for one that was taken back
        policy["dynamic_ondemand_fallback"] = True
    return {
        "readiness_probe": {
            "path": "/v1/chat/completions",
            "initial_delay_seconds": START_S,
            "timeout_seconds": PROBE_S,
            "headers": {"Authorization": f"Bearer ${KEY}"},
            "post_data": {"model": MODEL, "messages": list(messages), "max_tokens": 8},
        },
        "replica_policy": policy,
    }


def _setup(engine: Engine, offer: Offer) -> str:
    lines = list(installs(engine, offer))
    if engine.is_ours:  # Stratos needs a Python that the server may not have
        lines = [
            "command -v uv >/dev/null || curl -LsSf https://astral.sh/uv/install.sh | sh",
            'export PATH="$HOME/.local/bin:$PATH" VIRTUAL_ENV="$HOME/venv"',
            f'uv venv --quiet --python {python_version()} "$VIRTUAL_ENV"',
            *installs(engine, offer, f"~/{WHEELS}", "uv pip"),
        ]
    lines.append("sudo apt-get update && sudo apt-get install -y nginx-light")
    return "\n".join(lines) + "\n"


def _run(choice: RoleChoice, bundle: Path) -> str:
    """Return the shell script that starts door and engine on a server."""
    n_devices = choice.offer.accelerator_count if choice.offer is not None else 0
    path = 'export PATH="$HOME/venv/bin:$PATH"\n' if engine_of(choice.run).is_ours else ""
    command = serve_command(
        MODEL, "127.0.0.1", ENGINE_PORT, choice.run, max(1, n_devices), context_of(bundle)
    )
    at_once = choice.run.slots if choice.run is not None else 1
    n_replicas = max(1, n_devices // (choice.run.tensor_parallel if choice.run else 1))
    most = max(LEAST_OPEN, WAITING * at_once * n_replicas)
    door = script(str(PORT), ENGINE_PORT, INNER_PORT, KEY, Limits(most, most))
    return f"{door}{path}cd ~/bundle\nexport {exported(bundle)}\n{command}\n"


def _comment(choice: RoleChoice, offer: Offer, name: str, file: str) -> str:
    price = offer.usd_per_hour
    if choice.spot and offer.usd_per_hour_spot is not None:
        price = offer.usd_per_hour_spot
    dated = f", price of {offer.price_date}" if offer.price_date else ""
    times, each = (f"{choice.count} × ", " each") if choice.count > 1 else ("", "")
    is_part = choice.traffic != (1.0,) * len(choice.traffic)
    text = filled(
        __file__,
        "service.comment.jinja",
        serves=plain(
            f"Serves the student on {times}{offer.name} at ${price:g} an hour{each}{dated}."
        ),
        note=engine_of(choice.run).note,
        shares=", ".join(f"{share:.0%}" for share in choice.traffic) if is_part else "",
        key=KEY,
        name=name,
        file=file,
    )
    return "".join(f"# {line}".rstrip() + "\n" for line in text.splitlines())


class _Block(str):
    """A text of several lines, written as such."""


class _Dumper(yaml.SafeDumper):
    """Writes blocks as blocks, and lists below their keys."""


def _block(dumper: yaml.SafeDumper, text: _Block) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style="|")


_Dumper.add_representer(_Block, _block)
