"""A Ray cluster: its nodes as offers, its jobs as an executor, its workers for chunks of work."""

from stratos.core.extensions import Extension

EXTENSION = Extension(
    clusters={"ray": "stratos.contrib.ray.nodes:RayNodes"},
    chunk_engines={"ray": "stratos.contrib.ray.engine:RayEngine"},
)
