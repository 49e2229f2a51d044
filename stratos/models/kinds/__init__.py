"""Kinds of student that are no language models: for labels, and for values that a text holds."""

from stratos.models.kinds.base import Prediction, Predictor, is_predictor, load_predictor, text_of

__all__ = ["Prediction", "Predictor", "is_predictor", "load_predictor", "text_of"]
