"""Answers that a JSON Schema describes: read and checked, compared field by field."""

from stratos.tasks.schema.answers import BySchema

__all__ = ["BySchema"]
