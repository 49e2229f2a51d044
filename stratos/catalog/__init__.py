"""Server offers: read from catalogs in the SkyPilot schema, cleaned, and selected."""

from stratos.catalog.gpus import Gpu, find_gpu, use_gpu_file
from stratos.catalog.offers import Catalog, load_catalog, rows_of
from stratos.catalog.table import UNLIMITED, Table, Words

__all__ = [
    "UNLIMITED",
    "Catalog",
    "Gpu",
    "Table",
    "Words",
    "find_gpu",
    "load_catalog",
    "rows_of",
    "use_gpu_file",
]
