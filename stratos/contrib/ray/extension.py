"""What Ray adds: its nodes as offers of `cloud=ray`, its workers for `synthesize.engine=ray`."""

from stratos.core.extensions import Extension

EXTENSION = Extension(
    clusters={"ray": "stratos.contrib.ray.nodes:RayNodes"},
    chunk_engines={"ray": "stratos.contrib.ray.engine:RayEngine"},
)
