"""vLLM, which loads the bundle as it is."""

from __future__ import annotations

import json
from dataclasses import dataclass

from stratos.engines.base import Count, Engine
from stratos.records import ServingSetting


@dataclass(frozen=True)
class Vllm(Engine):
    """`vllm serve`: several requests at once, on GPUs."""

    kind = "vllm"
    title = "vLLM"
    requirement = "vllm>=0.11"
    packages = (requirement,)
    needs = ("vllm",)
    program = "vllm"
    module = "vllm.entrypoints.cli.main"
    note = "It answers several requests at once."
    wants = "a GPU from compute capability 7.0 on, and attention heads of 32 to 256"

    at_once: Count = 16

    def options(self, run: ServingSetting, n_devices: int, context: int) -> list[str]:
        """Return how it fills the GPUs of its server."""
        replicas = max(1, n_devices // run.tensor_parallel)
        cut = ["--tensor-parallel-size", str(run.tensor_parallel)]
        copies = ["--data-parallel-size", str(replicas)]
        # Greedy where a request says nothing else: vLLM's own default would draw at temperature 1.
        return [
            "--max-num-seqs",
            str(run.slots),
            "--max-model-len",
            str(context),
            *(cut if run.tensor_parallel > 1 else []),
            *(copies if replicas > 1 else []),
            "--override-generation-config",
            json.dumps({"temperature": 0}),
        ]
