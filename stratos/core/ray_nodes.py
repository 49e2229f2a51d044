"""A Ray cluster as its dashboard tells it: how it is reached, its nodes, what jobs take of them."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from stratos.core.environment import without
from stratos.core.errors import StratosError
from stratos.core.shares import Share, shares_of_node, together

CLOUD = "ray"
"""Cloud of the offers that are nodes of Ray."""
REGION = "cluster"
"""Region of these offers: a cluster of Ray has no parts."""
GPU_TYPE = "accelerator_type:"
"""Begins the resource by which a node tells the type of its GPUs."""
VARIABLE, DEFAULT = "RAY_API_SERVER_ADDRESS", "http://127.0.0.1:8265"
NOT_INSTALLED = (
    "a Ray cluster is reached by ray[default], which is not installed. Type: pip install "
    "'stratos-llm[ray]'."
)
_OTHERS = (VARIABLE, "RAY_ADDRESS")
"""Variables that Ray takes in place of any address that it is given."""
_OLDEST = (2, 40)
"""Version of a cluster: what older ones tell of jobs and nodes is less."""
_ANSWERS_S = 60.0
"""How long a request may take: submitting one starts an agent where there is none."""
_MIB = 2**20


@dataclass(frozen=True)
class Node:
    """A node that is alive, and all that it has."""

    id: str
    ip: str
    resources: dict[str, float]

    @property
    def gpu(self) -> str:
        """Type of its GPUs; "" where it tells none."""
        found = (one for one in self.resources if one.startswith(GPU_TYPE))
        return next(found, "").removeprefix(GPU_TYPE)

    def has(self, wanted: dict[str, float]) -> bool:
        """Return whether it has what a job asks for, were it idle."""
        return all(self.resources.get(name, 0.0) >= amount for name, amount in wanted.items())


class Dashboard:
    """A cluster that answers.

    Args:
        address: of its dashboard.
        client: of Ray, which submits jobs.
    """

    def __init__(self, address: str, client: Any) -> None:
        """Remember it."""
        self.address, self.client = address, client

    def told(self, path: str) -> dict[str, Any] | None:
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
            found: dict[str, Any] = answer.json()
        except (ValueError, RuntimeError) as error:  # no JSON; a token that it refuses
            raise OSError(_first_line(str(error))) from error
        return found

    def nodes(self) -> list[Node]:
        """Return the nodes that are alive.

        Raises:
            OSError: the dashboard does not answer.
        """
        told = self.told("/api/v0/nodes?detail=1&limit=10000&timeout=30") or {}
        try:
            listed = told["data"]["result"]["result"]
            return [
                Node(one["node_id"], one["node_ip"], one["resources_total"])
                for one in listed
                if one["state"] == "ALIVE"
            ]
        except (KeyError, TypeError) as error:
            raise OSError(f"what it tells of its nodes is not understood ({error!r})") from error

    def in_use(self) -> dict[str, tuple[float, float]]:
        """Return how much of each resource is in use, and of how much; what is not told, lacks."""
        try:
            told = self.told("/api/cluster_status") or {}
            found = told["data"]["clusterStatus"]["loadMetricsReport"]["usage"]
            return {name: (float(used), float(whole)) for name, (used, whole) in found.items()}
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
        raise StratosError(NOT_INSTALLED)
    found = address or os.environ.get(VARIABLE) or DEFAULT
    if not re.match(r"https?://", found):
        raise StratosError(
            f"{found} is no address of a dashboard. Type {setting}=http://<head>:8265, as ray "
            "start prints it on the head node."
        )
    try:
        dashboard = Dashboard(found, _client(found.rstrip("/")))
        told = dashboard.told("/api/version") or {}
        version = str(told.get("ray_version", ""))
        if (numbers := re.match(r"(\d+)\.(\d+)", version)) is None:
            raise OSError("what answers there is no Ray")
    except OSError as error:
        raise StratosError(_silent(found, error, setting)) from error
    if (int(numbers[1]), int(numbers[2])) < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        raise StratosError(
            f"the cluster at {found} runs Ray {version}, and {oldest} is the oldest that is known "
            f"to work. Start it with Ray {oldest} or newer."
        )
    return dashboard


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


def shares(nodes: list[Node]) -> list[Share]:
    """Return what jobs may take of nodes; those without a CPU run none."""
    return together(_shares(nodes))


def _shares(nodes: list[Node]) -> Iterator[Share]:
    for one in nodes:
        cpus, gpus = int(one.resources.get("CPU", 0)), int(one.resources.get("GPU", 0))
        if cpus:
            memory = int(one.resources.get("memory", 0)) // _MIB
            yield from shares_of_node(REGION, cpus, memory, [(one.gpu, gpus)] if gpus else [])


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
            raise StratosError(NOT_INSTALLED) from error
        raise OSError(_first_line(str(error))) from error


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0][:200].rstrip(".") if lines else "it says nothing"
