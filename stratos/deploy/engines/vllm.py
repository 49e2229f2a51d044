"""vLLM, which loads the bundle as it is."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Literal

from typing_extensions import override

from stratos.core.machine import has_gpu
from stratos.core.reasons import Because, Reason
from stratos.deploy.engines.base import (
    Count,
    Engine,
    ExportError,
    Message,
    NotInstalled,
    facts_in,
)
from stratos.deploy.engines.cost import ServingCost
from stratos.models.pretrained import read_tensors
from stratos.records import ModelCard, ServingSetting

Format = Literal["bf16", "f16", "f32"]

OWN_ENVIRONMENT = "STRATOS_VLLM"
"""Variable with the virtual environment that has vLLM, if it is not that of Stratos: vLLM wants one
version of PyTorch, and a machine without GPU a build of its own."""
DTYPES = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}
"""Formats by the names that vLLM has for them."""
BYTES = {"bf16": 2, "f16": 2, "f32": 4}
LEAST_HEAD, MOST_HEAD, HEAD_MULTIPLE = 32, 256, 8
"""Widths of an attention head that vLLM has kernels for on everything that it runs on, where they
are multiples of 8 (its Triton and flash attention backends)."""
_TOKENS_S = 60.0


@dataclass(frozen=True)
class Vllm(Engine):
    """`vllm serve`: several requests at once, on GPUs; a build of it for CPUs serves here, too."""

    kind = "vllm"
    title = "vLLM"
    extra = "vllm"
    packages = ("vllm>=0.11",)
    measures = ("probability", "agreement")
    needs = ("vllm",)
    program = "vllm"
    module = "vllm.entrypoints.cli.main"
    wants = "a GPU from compute capability 7.0 on, and attention heads of 32 to 256"
    devices = "gpu"
    serves_formats = True
    # Its wheel does not run on those older than CUDA's compute capability 7.0, nor on AMD's.
    unsupported_gpus = ("M60", "P4", "P100", "MI25", "MI300X", "MI325X", "MI355X")
    start_s = 600.0
    # Continuous batching, steps that are compiled and captured in graphs. Beside the model a step
    # takes 2.5 ms of the host (scheduler, sampler, detokenizer): 2.7 ms a token of a model that
    # needs none, one at a time on one EPYC core; before version 0.6 it was 8 ms of a Llama 3 8B's
    # 13 on an H100 (vLLM blog, 2024-09-05).
    cost = ServingCost(slots=(1, 4, 16, 64, 256), all_devices=True, block=0.0, step=3.6)

    at_once: Count = 16
    formats: tuple[Format, ...] = ()
    """Precisions that are compared with the evaluation; none leaves it to vLLM."""
    format: Format = "bf16"
    """The one that is served, where precisions are named."""

    @property
    def exports(self) -> tuple[str, ...]:
        """Return the precisions that are compared, the served one among them."""
        return tuple(dict.fromkeys((*self.formats, self.format))) if self.formats else ()

    @property
    @override
    def served(self) -> str:
        return self.format if self.formats else ""

    def as_planned(self, run: ServingSetting) -> Vllm:
        """Return it with the plan's answers at once, compared as it is served here."""
        return replace(super().as_planned(run), formats=("bf16",), format="bf16")

    @property
    @override
    def python(self) -> str:
        folder = os.environ.get(OWN_ENVIRONMENT)
        return str(Path(folder).expanduser() / "bin" / "python") if folder else super().python

    @property
    def environment(self) -> dict[str, str]:
        """Return variables that keep it from calling home, and its cache small on a CPU."""
        quiet = {"VLLM_NO_USAGE_STATS": "1"}
        return quiet if has_gpu() else {**quiet, "VLLM_CPU_KVCACHE_SPACE": "1"}

    @override
    def unusable(self) -> Reason | None:
        folder = os.environ.get(OWN_ENVIRONMENT)
        if not folder:
            why = super().unusable()
            return replace(why, variable=OWN_ENVIRONMENT) if isinstance(why, NotInstalled) else why
        if any((path / "vllm" / "__init__.py").is_file() for path in _packages(folder)):
            return None
        return Because(
            f"{OWN_ENVIRONMENT}={folder} is no virtual environment with {self.title}. Type: "
            f'{folder}/bin/pip install "{self.packages[0]}"'
        )

    @override
    def version(self) -> str:
        if not (folder := os.environ.get(OWN_ENVIRONMENT)):
            return super().version()
        packages = metadata.distributions(name="vllm", path=[*map(str, _packages(folder))])
        return next((f"vllm {package.version}" for package in packages), "vllm")

    @override
    def cannot_serve(self, card: ModelCard) -> Reason | None:
        return self._no_kernel(card.head_size or card.hidden_size // card.n_heads)

    @override
    def cannot_export(self, bundle: Path, form: str) -> Reason | None:
        facts = facts_in(bundle, "config.json")
        size, heads = facts.get("hidden_size", 0), facts.get("num_attention_heads", 1)
        head = facts.get("head_dim") or size // heads
        return self._no_kernel(int(head)) if head else None

    def _no_kernel(self, head: int) -> Reason | None:
        """Return why it serves no model of an attention head's width; None if it does."""
        if head % HEAD_MULTIPLE == 0 and LEAST_HEAD <= head <= MOST_HEAD:
            return None
        return Because(
            f"its attention heads are {head} wide, and {self.title} has kernels for {LEAST_HEAD} "
            f"to {MOST_HEAD}, where {HEAD_MULTIPLE} divides them"
        )

    @override
    def n_bytes(self, bundle: Path, form: str) -> int:
        files = bundle.glob("*.safetensors")
        return BYTES[form] * sum(
            tensor.n_elements for file in files for tensor in read_tensors(file)
        )

    @override
    def compare_tokens(self, url: str, bundle: Path, chats: Sequence[list[Message]]) -> str:
        from stratos.deploy.engines.chat_ids import ChatIds, by_transformers, first_difference

        ids = [self._tokens(url, bundle, chat) for chat in chats]
        if where := first_difference(by_transformers(bundle, chats), ids, ChatIds(bundle)):
            raise ExportError(
                f"{bundle} cannot be served by vLLM: it makes other tokens of a question "
                f"({where}). Serve it with deploy=transformers."
            )
        return f"vLLM's tokens are those of transformers for all {len(chats):,} questions."

    @staticmethod
    def _tokens(url: str, bundle: Path, chat: list[Message]) -> list[int]:
        import httpx

        request = {"model": str(bundle.absolute()), "messages": chat, "add_generation_prompt": True}
        try:
            # Not by the proxy of the environment.
            with httpx.Client(trust_env=False, timeout=_TOKENS_S) as client:
                answer = client.post(f"{url}/tokenize", json=request)
            return [int(token) for token in answer.json()["tokens"]]
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise ExportError(f"vLLM does not tell how it cuts a chat ({error}).") from error

    def options(self, run: ServingSetting, n_devices: int, context: int) -> list[str]:
        """Return how it fills the GPUs of its server; with none it compiles nothing."""
        replicas = max(1, n_devices // run.tensor_parallel)
        options = ["--max-num-seqs", str(run.slots), "--max-model-len", str(context)]
        if run.format:
            options += ["--dtype", DTYPES[run.format]]
        if run.tensor_parallel > 1:
            options += ["--tensor-parallel-size", str(run.tensor_parallel)]
        if replicas > 1:
            options += ["--data-parallel-size", str(replicas)]
        if not n_devices:
            options.append("--enforce-eager")
        # Greedy where a request says nothing else: vLLM's own default would draw at temperature 1.
        return [*options, "--override-generation-config", json.dumps({"temperature": 0})]


def _packages(folder: str) -> list[Path]:
    """Return where the packages of a virtual environment lie."""
    return list(Path(folder).expanduser().glob("lib/python3*/site-packages"))
