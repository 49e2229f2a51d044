"""Servers of runs in an account of AWS, by their tags: also those that another machine started."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Any

from stratos.contrib.skypilot.cluster import JOB, ROLE, RUN, cluster_name, last_words, run_program
from stratos.core.errors import StratosError
from stratos.executors.job import TaggedServer

_ANSWERS_S = 60.0
_AT_ONCE = 8


def tagged_servers(known: Collection[str]) -> list[TaggedServer]:
    """Return the servers with the tags of a run that no listed job has.

    Args:
        known: names of the jobs that are listed on this machine.

    Raises:
        StratosError: AWS cannot be asked.
    """
    program = shutil.which("aws")
    if program is None:
        raise StratosError(
            "--account asks AWS by its program aws, which is not on the PATH. It is beside sky: "
            "type PATH=$PWD/sky/bin:$PATH stratos servers --account."
        )
    clusters = {cluster_name(name) for name in known}
    listing = _asked(program, "us-east-1", "describe-regions")  # those that the account may use
    regions = sorted(region["RegionName"] for region in listing["Regions"])
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        by_region = list(pool.map(partial(_in_region, program), regions))
    return [server for servers in by_region for cluster, server in servers
            if cluster not in clusters]  # fmt: skip


def _in_region(program: str, region: str) -> list[tuple[str, TaggedServer]]:
    """Return the servers of a region, each behind the name of its cluster."""
    filters = ("--filters", f"Name=tag-key,Values={RUN}",
               "Name=instance-state-name,Values=pending,running")  # fmt: skip
    return list(_servers(_asked(program, region, "describe-instances", *filters), region))


def _asked(program: str, region: str, *words: str) -> dict[str, Any]:
    """Ask EC2 in a region.

    Raises:
        StratosError: it does not answer.
    """
    answer = run_program(
        [program, "ec2", *words, "--region", region, "--output", "json"], _ANSWERS_S
    )
    if answer.returncode:
        raise StratosError(
            f"AWS does not say what runs in {region}: {last_words(answer.stderr)} Type aws sts "
            "get-caller-identity, which says whether your credentials are right."
        )
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
