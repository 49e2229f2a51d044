"""A dashboard that answers as others do: an old Ray, no Ray; and what jobs take of nodes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from stratos.contrib.ray.nodes import Dashboard, Node, connect, shares, shares_of_cluster
from stratos.core import extras
from stratos.core.errors import StratosError

SILENT = (
    "Start the cluster with ray start --head, make its dashboard reachable (--dashboard-host, ssh "
    "-L), and type cloud.ray_address=http://<head>:8265, or set RAY_API_SERVER_ADDRESS."
)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Serve answers by path, and return the address."""
    pytest.importorskip("ray")
    pytest.importorskip("aiohttp")
    monkeypatch.setenv("RAY_ADDRESS", "10.9.9.9:6379")  # which Ray takes in place of any other
    servers = []

    def serve(**answers: object) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.partition("?")[0].rpartition("/")[2]
                body = json.dumps(answers.get(name)).encode()
                self.send_response(200 if name in answers else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for one in servers:
        one.shutdown()
        one.server_close()


def why_not(address: str | None) -> str:
    with pytest.raises(StratosError) as refused:
        connect(address)
    return str(refused.value)


def test_the_address_is_a_dashboards(served, monkeypatch, snapshot):
    address = served(version={"version": "4", "ray_version": "2.60.0"})
    assert connect(address).address == address
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", address)
    assert connect(None).address == address
    assert why_not("10.0.0.1:6379") == snapshot


def test_what_answers_is_old_or_no_ray(served, snapshot):
    old = served(version={"version": "4", "ray_version": "2.9.3"})
    assert why_not(old).replace(str(old), "<old>") == snapshot
    other = served()
    assert why_not(other).startswith(f"no Ray dashboard answers at {other} (Version check returned")
    assert why_not(other).endswith(SILENT)


def test_a_part_of_ray_is_not_installed(served, monkeypatch, snapshot):
    monkeypatch.setattr("ray.dashboard.modules.job.sdk.requests", None)
    assert (
        why_not(served()).replace(str(extras.install("ray")), "<extras.install('ray')>") == snapshot
    )


def test_nodes_that_are_alive_give_what_they_have(served):
    gpus = {"CPU": 16.0, "GPU": 4.0, "memory": 64.0 * 2**30, "accelerator_type:H100": 1.0}
    told = [("a", "ALIVE", gpus), ("b", "ALIVE", gpus), ("c", "DEAD", gpus)]
    told += [
        ("head", "ALIVE", {"memory": 2.0**30}),
        ("d", "ALIVE", {"CPU": 2.0, "memory": 2.0**30}),
    ]
    nodes = [
        {"node_id": id, "node_ip": "10.0.0.1", "state": state, "resources_total": has}
        for id, state, has in told
    ]
    answer = {"data": {"result": {"result": nodes}}}
    address = served(version={"ray_version": "2.60.0"}, nodes=answer)
    assert [(one.name, one.count) for one in shares_of_cluster(address)] == [
        ("1cpu-512mib", 2), ("1xH100-4cpu-16gib", 8), ("2cpu-1gib", 1), ("2xH100-8cpu-32gib", 4),
        ("4xH100-16cpu-64gib", 2),
    ]  # fmt: skip
    broken = served(version={"ray_version": "2.60.0"}, nodes={"data": None})
    with pytest.raises(StratosError, match="what it tells of its nodes is not understood"):
        shares_of_cluster(broken)


def test_gpus_without_a_type_have_none():
    [share, _] = shares([Node("a", "10.0.0.1", {"CPU": 2.0, "GPU": 2.0})])
    assert (share.gpu, share.n_gpus, share.memory_mib) == ("", 1, 0)


def test_the_memory_of_gpus_is_that_of_the_smallest_where_the_dashboard_tells_it():
    a100 = {"CPU": 8.0, "GPU": 2.0, "accelerator_type:A100": 1.0, "memory": 2.0**34}
    nodes = [
        {"node_id": id, "node_ip": "10.0.0.1", "resources_total": a100, "state": "ALIVE"}
        for id in ("a", "b")
    ]
    gpus = [{"name": "NVIDIA A100-SXM4-80GB", "memoryTotal": mib} for mib in (81920, 81251)]
    summary = [{"raylet": {"nodeId": "a"}, "gpus": gpus}, {"raylet": {"nodeId": "b"}, "gpus": []}]

    class Told(Dashboard):
        def get(self, path: str) -> dict[str, Any]:
            if path.startswith("/nodes?"):
                return {"result": True, "data": {"summary": summary}}
            return {"data": {"result": {"result": nodes}}}

    found = Told("http://head:8265", None).nodes()
    assert [one.gpu_gib for one in found] == [81251 / 1024, None]
    summary.clear()
    assert [one.gpu_gib for one in Told("http://head:8265", None).nodes()] == [None, None]
