"""Stratos' own decoder, which serves small students in float32 as the evaluation asked them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from typing_extensions import override

from stratos.core import extras
from stratos.core.errors import StratosError
from stratos.core.extensions import extensions
from stratos.core.machine import c_compiler
from stratos.core.reasons import Because, Reason
from stratos.deploy.engines.base import Count, Engine, facts_in
from stratos.deploy.engines.cost import ServingCost, WeightFormat
from stratos.records import ModelCard, ServingSetting

MOST_PARAMETERS = 20_000_000
"""Of a larger student, llama.cpp reads a quarter of the bytes (q8_0), which decides there."""
_TRIED = 64
"""Tokens of the context that a bundle is tried with."""
_WANTED = {
    "model_type": ("llama",),
    "dtype": ("float32",),
    "hidden_act": ("silu",),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "quantization_config": (None,),
}
"""Values in the config.json of a bundle that it decodes."""


@dataclass(frozen=True)
class Direct(Engine):
    """The decoder of the evaluation: requests join between tokens, and no file is exported."""

    kind = "direct"
    title = "Stratos' own decoder"
    extra = extras.TRAIN
    packages = ("torch>=2.9", "transformers>=5.0")
    system_packages = ("gcc", "libc6-dev")
    uses_torch = True
    needs = ("torch", "transformers", "starlette", "uvicorn", "llguidance")
    program = "python -m stratos.deploy.engines.direct_server"
    module = "stratos.deploy.engines.direct_server"
    wants = f"a server without GPU, and a Llama of up to {MOST_PARAMETERS // 10**6}M parameters"
    devices = "cpu"
    measures = ("probability", "agreement")
    # Fitted to load tests of 1 to 8 answers at once by students of 0.3, 1 and 2 million parameters
    # on two quiet cores of a Xeon with 2 MiB of second cache: 0.87 to 1.24 of what they took.
    weight_formats = (WeightFormat("", weight_bytes=4.0, cache_bytes=4.0, alone=0.6, batch=0.6),)
    cost = ServingCost(
        slots=(1, 8),
        request_s=0.003,
        block=0.0,
        step=0.0,
        sequence=0.054,
        front_s=0.001,
        # 0.44 with a student of 1 MB. Weights lie twice, in the file's pages and its own order: of
        # MOST_PARAMETERS these are 0.08 more.
        process_gib=0.6,
        cache_bytes=1.7e6,
        is_compiled=True,
    )

    at_once: Count = 8

    @property
    @override
    def why_left_out(self) -> Reason | None:
        return self.unusable()

    @override
    def unusable(self) -> Reason | None:
        if (why := super().unusable()) is not None:
            return why
        if not any(extension.slots for extension in extensions()):
            return Because("This copy of Stratos has no stratos/contrib/cpu.")
        if c_compiler() is None:
            return Because(f"{self.title} needs a C compiler: install gcc or clang.")
        return None

    @override
    def cannot_serve(self, card: ModelCard) -> Reason | None:
        if card.n_params <= MOST_PARAMETERS and card.is_gguf:
            return None
        return Because(f"it is no Llama of up to {MOST_PARAMETERS:,} parameters")

    @override
    def cannot_export(self, bundle: Path, form: str) -> Reason | None:
        """Return why it does not decode a bundle here, whatever the format; None if it does."""
        files = sorted(bundle.glob("*.safetensors"))
        return self.cannot_read(bundle) or _why_not_decoded(
            bundle, tuple(file.stat().st_mtime_ns for file in files), c_compiler()
        )

    def cannot_read(self, bundle: Path) -> Reason | None:
        """Return why its files say that it decodes a bundle nowhere; None if they do not."""
        facts: dict[str, Any] = facts_in(bundle, "config.json")
        rope = facts.get("rope_parameters") or facts.get("rope_scaling") or {}
        facts = {"dtype": facts.get("torch_dtype"), **facts}
        for name, values in _WANTED.items():
            if facts.get(name) not in values:
                return Because(f"its {name} is {facts.get(name)}, and not {values[0]}")
        if (rope_type := rope.get("rope_type", "default")) != "default":
            return Because(f"its rotary embedding is scaled ({rope_type})")
        if self.n_bytes(bundle, "") > 4 * MOST_PARAMETERS:
            return Because(f"it has more than {MOST_PARAMETERS:,} parameters")
        return None

    @override
    def n_bytes(self, bundle: Path, form: str) -> int:
        return sum(file.stat().st_size for file in bundle.glob("*.safetensors"))

    def options(self, run: ServingSetting, n_devices: int, context: int) -> list[str]:
        """Return slots and the context of each."""
        return ["--slots", str(run.slots), "--context", str(context)]


@lru_cache(maxsize=8)
def _why_not_decoded(
    bundle: Path, written_ns: tuple[int, ...], compiler: str | None
) -> Reason | None:
    """Return what keeps the decoder from a bundle: a compiler may fail, and logits may differ.

    The model is loaded for it: once for files of these times and this compiler, though engines are
    asked again.
    """
    del written_ns, compiler
    from stratos.models.decode.decoder import slot_decoder
    from stratos.models.pretrained import load_model

    try:
        slot_decoder(load_model(bundle, dtype="auto").eval(), 1, _TRIED)
    except StratosError as error:
        return Because(str(error).rstrip("."))
    return None
