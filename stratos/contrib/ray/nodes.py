"""A Ray cluster as its dashboard tells it: how it is reached, its nodes, what jobs take of them."""

from __future__ import annotations

import importlib.util
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from stratos.catalog.cluster import Cluster
from stratos.core import extras
from stratos.core.errors import StratosError
from stratos.core.machine import Share, shares_of_node, together
from stratos.core.process import without
from stratos.core.reasons import Reason


class RayNotInstalled(Reason):
    """Ray cannot be imported."""

    def __str__(self) -> str:
        return f"synthesize.engine=ray: Ray is not installed. Type: {extras.install('ray')}"


class Unreachable(Reason):
    """No job can be submitted to the cluster."""

    error: str
    """What it lacks, with what to type."""

    says = "executor=ray: {error} Or type executor=here."


CLOUD = "ray"
"""Cloud of the offers that are nodes of Ray."""
REGION = "cluster"
"""Region of these offers: a cluster of Ray has no parts."""
GPU_TYPE = "accelerator_type:"
"""Begins the resource by which a node tells the type of its GPUs."""
VARIABLE, DEFAULT = "RAY_API_SERVER_ADDRESS", "http://127.0.0.1:8265"
_OTHERS = (VARIABLE, "RAY_ADDRESS")
"""Variables that Ray takes in place of any address that it is given."""
_OLDEST = (2, 40)
"""Version of a cluster: what older ones tell of jobs and nodes is less."""
_ANSWERS_S = 60.0
"""How long a request may take: submitting one starts an agent where there is none."""
_MIB = 2**20
_MIB_A_GIB = 1024


@dataclass(frozen=True)
class Node:
    """A node that is alive, and all that it has."""

    id: str
    ip: str
    resources: dict[str, float]
    gpu_gib: float | None = None
    """Memory of its smallest GPU; None where it is not told."""

    @property
    def gpu(self) -> str:
        """Type of its GPUs; "" where it tells none. Of A100 and A100-80G the second is it."""
        types = (name for name in self.resources if name.startswith(GPU_TYPE))
        return max(types, key=len, default="").removeprefix(GPU_TYPE)

    def has(self, request: dict[str, float]) -> bool:
        """Return whether it has what a job asks for, were it idle."""
        return all(self.resources.get(name, 0.0) >= amount for name, amount in request.items())


class Dashboard:
    """A cluster that answers.

    Args:
        address: of its dashboard.
        client: of Ray, which submits jobs.
    """

    def __init__(self, address: str, client: Any) -> None:
        self.address, self.client = address, client

    def get(self, path: str) -> dict[str, Any] | None:
        """Return what the dashboard answers; None where there is no such thing.

        Raises:
            OSError: it does not answer.
        """
        try:
            answer = self.client._do_request("GET", path)
            if answer.status_code == 404:
                return None
            if answer.status_code != 200:
                raise OSError(f"HTTP {answer.status_code}: {_first_line(answer.text)}")
            facts: dict[str, Any] = answer.json()
        except (ValueError, RuntimeError) as error:  # no JSON; a token that it refuses
            raise OSError(_first_line(str(error))) from error
        return facts

    def nodes(self) -> list[Node]:
        """Return the nodes that are alive.

        Raises:
            OSError: the dashboard does not answer.
        """
        facts = self.get("/api/v0/nodes?detail=1&limit=10000&timeout=30") or {}
        try:
            listed = facts["data"]["result"]["result"]
            alive = [
                Node(entry["node_id"], entry["node_ip"], entry["resources_total"])
                for entry in listed
                if entry["state"] == "ALIVE"
            ]
        except (KeyError, TypeError) as error:
            raise OSError(f"what it tells of its nodes is not understood ({error!r})") from error
        if not any(entry.gpu for entry in alive):
            return alive
        memory = self._gpu_memory()
        return [replace(entry, gpu_gib=memory.get(entry.id)) for entry in alive]

    def _gpu_memory(self) -> dict[str, float]:
        """Return the GiB of the smallest GPU of each node, by its id; what is not told, lacks."""
        memory = {}
        try:
            facts = self.get("/nodes?view=summary") or {}
            for entry in facts["data"]["summary"]:
                sizes = [float(gpu["memoryTotal"]) for gpu in entry.get("gpus") or ()]
                if sizes:
                    memory[entry["raylet"]["nodeId"]] = min(sizes) / _MIB_A_GIB
        except (OSError, KeyError, TypeError, ValueError):  # as another version tells it
            pass
        return memory

    def in_use(self) -> dict[str, tuple[float, float]]:
        """Return how much of each resource is in use, and of how much; what is not told, lacks."""
        try:
            facts = self.get("/api/cluster_status") or {}
            usage = facts["data"]["clusterStatus"]["loadMetricsReport"]["usage"]
            return {name: (float(used), float(whole)) for name, (used, whole) in usage.items()}
        except (OSError, KeyError, TypeError, ValueError):  # as another version tells it
            return {}


def connect(address: str | None, setting: str = "cloud.ray_address") -> Dashboard:
    """Return the cluster at an address, once it has answered.

    Args:
        address: of its dashboard; None for that of the environment.
        setting: in which it was given, for messages.

    Raises:
        StratosError: Ray is not installed, nothing answers, or it is not what is needed.
    """
    if importlib.util.find_spec("ray") is None:
        raise StratosError(_not_installed())
    url = address or os.environ.get(VARIABLE) or DEFAULT
    if not re.match(r"https?://", url):
        raise StratosError(
            f"{url} is no address of a dashboard. Type {setting}=http://<head>:8265, as ray "
            "start prints it on the head node."
        )
    try:
        dashboard = Dashboard(url, _client(url.rstrip("/")))
        facts = dashboard.get("/api/version") or {}
        version = str(facts.get("ray_version", ""))
        if (numbers := re.match(r"(\d+)\.(\d+)", version)) is None:
            raise OSError("what answers there is no Ray")
    except OSError as error:
        raise StratosError(_silent(url, error, setting)) from error
    if (int(numbers[1]), int(numbers[2])) < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        raise StratosError(
            f"the cluster at {url} runs Ray {version}, and {oldest} is the oldest that is known "
            f"to work. Start it with Ray {oldest} or newer."
        )
    return dashboard


def _not_installed() -> str:
    return (
        "a Ray cluster is reached by ray[default], which is not installed. Type: "
        f"{extras.install('ray')}."
    )


def shares_of_cluster(address: str | None) -> list[Share]:
    """Ask a cluster what jobs may take of its nodes.

    Raises:
        StratosError: it does not answer.
    """
    dashboard = connect(address)
    try:
        return shares(dashboard.nodes())
    except OSError as error:
        raise StratosError(_silent(dashboard.address, error, "cloud.ray_address")) from error


def expected_waits(
    address: str | None, shares: list[Share]
) -> tuple[dict[tuple[str, str], float], str]:
    """Return which shares are free now, at 0 hours, and why the wait of others is not known."""
    try:
        return free_now(connect(address).in_use(), shares)
    except StratosError as error:
        return {}, str(error).rstrip(".")


def free_now(
    used: dict[str, tuple[float, float]], shares: list[Share]
) -> tuple[dict[tuple[str, str], float], str]:
    """Return which shares are free, at 0 hours, and why the wait of others is not known.

    Ray foretells nothing: a job that what is free has no room for waits until others have ended.

    Args:
        used: how much of each resource is in use, and of how much.
        shares: what jobs may take.
    """
    if not used:
        return {}, "Ray does not tell what is in use"
    free = {name: whole - in_use for name, (in_use, whole) in used.items()}
    waits = {
        (share.partition, share.name): 0.0
        for share in shares
        if free.get("CPU", 0.0) >= share.cpus and free.get("GPU", 0.0) >= share.n_gpus
    }
    names = [name for name in ("CPU", "GPU") if name in used]
    busy = " and ".join(f"{used[name][0]:g} of {used[name][1]:g} {name}" for name in names)
    return waits, f"{busy} are in use now"


def shares(nodes: list[Node]) -> list[Share]:
    """Return what jobs may take of nodes; those without a CPU run none."""
    return together(_shares(nodes))


def _shares(nodes: list[Node]) -> Iterator[Share]:
    # A job that asks for a type may get any node of it: it can count on the smallest memory.
    sizes: defaultdict[str, list[float | None]] = defaultdict(list)
    for entry in nodes:
        sizes[entry.gpu].append(entry.gpu_gib)
    memory = {
        gpu: None if None in gpu_sizes else min(entry for entry in gpu_sizes if entry is not None)
        for gpu, gpu_sizes in sizes.items()
    }
    for entry in nodes:
        cpus, gpus = int(entry.resources.get("CPU", 0)), int(entry.resources.get("GPU", 0))
        if cpus:
            mib = int(entry.resources.get("memory", 0)) // _MIB
            cards = [(entry.gpu, gpus)] if gpus else []
            for share in shares_of_node(REGION, cpus, mib, cards):
                yield replace(share, gpu_gib=memory[entry.gpu])


def _silent(address: str, error: OSError, setting: str) -> str:
    return (
        f"no Ray dashboard answers at {address} ({_first_line(str(error))}). Start the cluster "
        "with ray start --head, make its dashboard reachable (--dashboard-host, ssh -L), and type "
        f"{setting}=http://<head>:8265, or set {VARIABLE}."
    )


@lru_cache
def _client(address: str) -> Any:
    """Return Ray's client of jobs, no request of which waits without end.

    Raises:
        StratosError: a part of Ray is not installed.
        OSError: nothing answers.
    """
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):
        def _do_request(self, *args: Any, **more: Any) -> Any:
            return super()._do_request(*args, timeout=_ANSWERS_S, **more)

    try:
        with without(_OTHERS):
            return Client(address)
    except (RuntimeError, ValueError) as error:
        if "ray[default]" in str(error):
            raise StratosError(_not_installed()) from error
        raise OSError(_first_line(str(error))) from error


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0][:200].rstrip(".") if lines else "it says nothing"


class RayNodes(Cluster):
    """The cluster of `cloud.ray_address`."""

    cloud = CLOUD
    name = "Ray"
    types = "Ray's accelerator_type"
    nothing = "It has no node with a CPU: see ray status."
    source = "ray"

    def shares(self) -> list[Share]:
        """Ask the dashboard for the nodes."""
        return shares_of_cluster(self.config.ray_address)

    def waits(self, shares: list[Share]) -> tuple[dict[tuple[str, str], float], str]:
        """Return 0 hours for each share that is free, and why the others are not known."""
        return expected_waits(self.config.ray_address, shares)
