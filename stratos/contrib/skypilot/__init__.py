"""Rented servers through SkyPilot: an executor, and the service file of a student."""

from stratos.core.extensions import Extension

_CLOUDS = ("aws", "azure", "gcp", "lambda", "nebius", "oci", "runpod", "vast")

EXTENSION = Extension(
    tagged="stratos.contrib.skypilot.servers:tagged_servers",
    service_files=dict.fromkeys(_CLOUDS, "stratos.contrib.skypilot.servers:service_file"),
)
