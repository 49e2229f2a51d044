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
from stratos.executors.job import TaggedServer, TaggedServers

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
