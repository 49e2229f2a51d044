"""Planned servers whose service files several tests write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tiny_run import SERVER

from stratos.deploy.service import service_files
from stratos.records import RoleChoice, ServingSetting

BUNDLE = Path("/runs/one of many/bundle")
WHEELS = Path("/runs/one of many/deploy/stratos")
GPU = replace(
    SERVER,
    cloud="gcp",
    region="us-central1",
    instance_type="g2-standard-4",
    accelerator="L4",
    accelerator_count=1,
    usd_per_hour=0.7069,
    usd_per_hour_spot=0.2121,
)
VLLM = ServingSetting("vllm", slots=16, tensor_parallel=2, utilisation=0.7)
LLAMA_CPP = ServingSetting("llamacpp", slots=8, format="q8_0", utilisation=0.7)
BATCHING = ServingSetting("transformers-batching", slots=4, utilisation=0.7)
HOSTILE = "x\nsetup: touch made\n# $(touch made) `touch made` \x1b[31m\u202e"


def service_file(choice: RoleChoice, name: str, bundle: Path) -> tuple[str, str]:
    """Return name and text of the file of servers of one kind."""
    [found] = service_files([choice], name, bundle, WHEELS)
    return found


def role(offer, spot: bool = False, run: ServingSetting | None = None) -> RoleChoice:
    return RoleChoice("serve", offer, 1, spot, 24.0, 1.0, run=run)
