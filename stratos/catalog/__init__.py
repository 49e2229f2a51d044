"""Offers of servers: read from the SkyPilot-catalog schema, cleaned by stated rules, selected."""

from stratos.catalog.gpus import Gpu, find_gpu
from stratos.catalog.load import Catalog, load_catalog

__all__ = ["Catalog", "Gpu", "find_gpu", "load_catalog"]
