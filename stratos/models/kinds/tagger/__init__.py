"""A student for text to JSON whose values stand in the text."""

from stratos.models.kinds.tagger.fields import (
    ExtractionScore,
    extraction_scores,
    majority_object,
)
from stratos.models.kinds.tagger.fit import FieldFit, TaggerFit, cannot_tag, fit_again, fit_tagger
from stratos.models.kinds.tagger.tagger import Method, Tagger

__all__ = [
    "ExtractionScore",
    "FieldFit",
    "Method",
    "Tagger",
    "TaggerFit",
    "cannot_tag",
    "extraction_scores",
    "fit_again",
    "fit_tagger",
    "majority_object",
]
