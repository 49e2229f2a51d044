"""Kinds of student for labels that need no language model: their features, and one head."""
