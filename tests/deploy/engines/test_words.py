"""The sentences of the reasons of engines, in one snapshot."""

from __future__ import annotations

from syrupy.assertion import SnapshotAssertion

from stratos.deploy.engines.words import (
    HeadWidth,
    NoGguf,
    NotInEnvironment,
    NotInstalled,
    ScaledRotary,
    SchemaTooLarge,
    UnevenRows,
    UnknownArchitecture,
)

REASONS = (
    NotInstalled("llama.cpp", "pip install stratos-llm[llamacpp]"),
    NotInstalled("vLLM", 'pip install "vllm>=0.11"', "STRATOS_VLLM"),
    NotInEnvironment("vLLM", "STRATOS_VLLM", "/opt/other", "vllm>=0.11"),
    HeadWidth("vLLM", 16, 32, 256, 8),
    NoGguf(),
    UnknownArchitecture("mamba", ("llama", "qwen3")),
    ScaledRotary("yarn"),
    UnevenRows("q8_0", 32, (100, 384), False),
    UnevenRows("q4_k_m", 256, (100, 384), True),
    SchemaTooLarge("values", 10_000),
    SchemaTooLarge("maxLength", 10_000, 1_000),
)


def test_sentences(snapshot: SnapshotAssertion) -> None:
    assert {repr(reason): str(reason) for reason in REASONS} == snapshot
