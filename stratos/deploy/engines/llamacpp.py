"""llama.cpp, which loads a GGUF file that is made of the bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from typing_extensions import override

from stratos.core.reasons import Because, Reason
from stratos.core.values import OneOf
from stratos.deploy.engines.base import Count, Engine, Message, export_path
from stratos.deploy.engines.cost import FORMATS, ServingCost
from stratos.records import ModelCard, ServingSetting

Format = Annotated[str, OneOf(FORMATS)]


@dataclass(frozen=True)
class LlamaCpp(Engine):
    """llama.cpp behind the bundle's own chat template and tokenizer.

    `deploy.engines.llama_server` turns a chat into token ids with the files of the bundle, and
    llama.cpp answers ids with ids. So any tokenizer is served exactly, also those that a GGUF file
    cannot express.
    """

    kind = "llamacpp"
    title = "llama.cpp"
    extra = "llamacpp"
    packages = ("xllamacpp>=2026.10",)
    uses_torch = True
    needs = ("xllamacpp", "gguf", "llguidance")
    program = "python -m stratos.deploy.engines.llama_server"
    module = "stratos.deploy.engines.llama_server"
    wants = "a server without GPU, and a model that GGUF can hold in one of the formats"
    devices = "cpu"
    weight_formats = tuple(FORMATS.values())
    serves_formats = True
    makes_files = True
    measures = ("probability", "agreement")
    # Rates are those of students of 0.3 to 31 million parameters on one EPYC core whose fp32
    # product reaches 120 GFLOP/s (benchmarks/serving/estimate.py); one thread answers, and one more
    # hands requests on.
    cost = ServingCost(
        slots=(1, 8),
        request_s=0.006,
        block=0.035,
        step=0.0,
        row=0.06,
        front_s=0.002,
        least_context=2048,
        prompt_tokens=512,
        token_bytes=3000.0,  # 2.8 kB: SmolLM2-135M with 49,152 tokens and with 713, under load
        process_gib=0.1,  # 0.08 to 0.11 with students of 0.3 to 4 MB (format_loss.json)
        is_compiled=True,
    )

    at_once: Count = 8
    formats: tuple[Format, ...] = ("f32", "q8_0")
    """GGUF files that are made and compared with the evaluation."""
    format: Format = "q8_0"
    """The one that is served."""

    @property
    def exports(self) -> tuple[str, ...]:
        """Return the formats that are made, the served one among them."""
        return tuple(dict.fromkeys((*self.formats, self.format)))

    @property
    @override
    def served(self) -> str:
        return self.format

    def as_planned(self, run: ServingSetting) -> LlamaCpp:
        """Return it with the plan's format, and f32, which is made if that one breaks a limit."""
        return replace(super().as_planned(run), format=run.format, formats=(run.format, "f32"))

    @override
    def cannot_serve(self, card: ModelCard) -> Reason | None:
        return None if card.is_gguf else Because("a GGUF file cannot hold it")

    @override
    def cannot_export(self, bundle: Path, form: str) -> Reason | None:
        from stratos.deploy.engines.gguf_file import cannot_export

        return cannot_export(bundle, form)

    def export(self, bundle: Path, forms: Sequence[str], chats: Sequence[list[Message]]) -> str:
        """Write GGUF files; return who can load them."""
        from stratos.deploy.engines.gguf_file import export

        return export(bundle, forms, chats)

    @override
    def write_settings(self, bundle: Path, form: str, chats: Sequence[list[Message]]) -> str:
        from stratos.deploy.engines.gguf_file import has_tokenizer
        from stratos.deploy.engines.ollama import MODELFILE, write_modelfile

        if not has_tokenizer(self.file_of(bundle, form)):
            return ""
        loads = f"llama-server and LM Studio load {form}.gguf alone"
        if write_modelfile(bundle, form, chats):
            return f"{loads}; Ollama takes {MODELFILE}."
        return f"{loads}. Ollama does not: its templates cannot write these chats."

    @override
    def file_of(self, bundle: Path, form: str) -> Path:
        return export_path(bundle, f"{form}.gguf")

    def options(self, run: ServingSetting, n_devices: int, context: int) -> list[str]:
        """Return format, slots and the context of each."""
        return ["--format", run.format, "--slots", str(run.slots), "--context", str(context)]
