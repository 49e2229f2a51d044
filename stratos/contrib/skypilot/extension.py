"""What SkyPilot adds: the service file of servers on the clouds that it knows by the same name."""

from stratos.core.extensions import Extension

_CLOUDS = ("aws", "azure", "gcp", "lambda", "nebius", "oci", "runpod", "vast")

EXTENSION = Extension(
    service_files=dict.fromkeys(_CLOUDS, "stratos.contrib.skypilot.service:service_file")
)
