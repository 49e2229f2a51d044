"""Offers of Stratos's catalog as SkyPilot's own: `skypilot_catalog.py HOME [ZONES.json]`.

SkyPilot reads ~/.sky/catalogs/v8/<cloud>/vms.csv, and fetches none that lies there without a digest
beside it. ZONES.json has the ids of AWS's zones; without it, zones are named a and b.
"""

import csv
import json
import sys
from collections import defaultdict
from pathlib import Path

OFFERS = Path(__file__).parents[3] / "stratos" / "catalog" / "offers.csv"
NAMES = {"aws": "AWS", "gcp": "GCP", "azure": "Azure", "lambda": "Lambda", "vast": "Vast"}
IMAGE = "ami-03cf127a"
"""One that moto knows."""
GPU = ("InstanceType", "AcceleratorName", "AcceleratorCount", "vCPUs", "MemoryGiB", "GpuInfo")
COLUMNS = (*GPU, "Price", "SpotPrice", "Region", "AvailabilityZone", "Arch", "Generation")


def write(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def lay_out(home, zones=()):
    """Write the catalogs of all clouds below a home."""
    root = Path(home) / ".sky" / "catalogs" / "v8"
    offers, cards = defaultdict(list), defaultdict(set)
    with OFFERS.open() as file:
        for one in csv.DictReader(file):
            offers[one["Cloud"]].append(one)
            if one["AcceleratorName"]:
                cards[one["AcceleratorName"]].add(NAMES[one["Cloud"]])
    for cloud, rows in offers.items():
        lines = []
        for one in rows:
            spot = one["SpotPrice"] or round(float(one["Price"]) * 0.4, 5)
            places = {"aws": list(zones) or [f"{one['Region']}{letter}" for letter in "ab"],
                      "gcp": [f"{one['Region']}-a"]}.get(cloud, [""])  # fmt: skip
            lines += [
                [
                    *(one[name] for name in GPU),
                    one["Price"],
                    spot,
                    one["Region"],
                    zone,
                    "x86_64",
                    "",
                ]
                for zone in places
            ]
        write(root / cloud / "vms.csv", COLUMNS, lines)
    images = [
        [f"skypilot:{tag}", one, "ubuntu", "22.04", IMAGE, "20250101", IMAGE]
        for tag in ("custom-cpu-ubuntu", "custom-gpu-ubuntu", "custom-gpu-ubuntu-cuda13")
        for one in sorted({row["Region"] for row in offers["aws"]})
    ]
    header = ["Tag", "Region", "OS", "OSVersion", "ImageId", "CreationDate", "BaseImageId"]
    write(root / "aws" / "images.csv", header, images)
    for cloud in ("gcp", "azure"):
        write(root / cloud / "images.csv", header, [])
    quotas = ["InstanceType", "OnDemandInstanceCode", "SpotInstanceCode", "Region"]
    write(root / "aws" / "instance_quota_mapping.csv", quotas, [])
    known = [[name, sorted(clouds)] for name, clouds in sorted(cards.items())]
    write(root / "common" / "accelerators.csv", ["AcceleratorName", "Clouds"], known)
    write(root / "common" / "metadata.csv", ["GPU", "MemoryGB", "Manufacturer"], [])


if __name__ == "__main__":
    lay_out(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()) if sys.argv[2:] else ())
