"""What this room adds: variants of training rows for tasks of mathematics."""

from stratos.core.extensions import Extension

EXTENSION = Extension(variants="stratos.contrib.variants.exchanged:exchanged")
