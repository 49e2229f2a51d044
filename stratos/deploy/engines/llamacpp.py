"""llama.cpp, which loads a GGUF file that is made of the bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from typing_extensions import override

from stratos.deploy.engines.base import Count, Engine, Message, export_path
from stratos.records import ServingSetting

Format = Literal["f32", "f16", "q8_0", "q4_k_m"]


@dataclass(frozen=True)
class LlamaCpp(Engine):
    """llama.cpp behind the bundle's own chat template and tokenizer.

    `deploy.engines.llama_server` turns a chat into token ids with the files of the bundle, and
    llama.cpp answers ids with ids. So any tokenizer is served exactly, also those that a GGUF file
    cannot express.
    """

    kind = "llamacpp"
    title = "llama.cpp"
    requirement = ""
    extra = "llamacpp"
    packages = ("xllamacpp>=2026.10",)
    uses_torch = True
    needs = ("xllamacpp", "gguf")
    program = "python -m stratos.deploy.engines.llama_server"
    module = "stratos.deploy.engines.llama_server"
    note = "It answers several requests at once."
    wants = "a server without GPU, and a model that GGUF can hold in one of the formats"
    makes_files = True
    measures = ("probability", "agreement")

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
        formats: tuple[Format, ...] = (run.format, "f32")  # type: ignore[assignment]
        return replace(super().as_planned(run), format=formats[0], formats=formats)

    @override
    def cannot_export(self, bundle: Path, form: str) -> str | None:
        from stratos.deploy.engines.gguf_file import cannot_export

        return cannot_export(bundle, form)

    def export(self, bundle: Path, forms: Sequence[str], chats: Sequence[list[Message]]) -> str:
        """Write GGUF files; return who can load them."""
        from stratos.deploy.engines.gguf_export import export

        return export(bundle, forms, chats)

    @override
    def file_of(self, bundle: Path, form: str) -> Path:
        return export_path(bundle, f"{form}.gguf")

    def options(self, run: ServingSetting, n_devices: int, context: int) -> list[str]:
        """Return format, slots and the context of each."""
        return ["--format", run.format, "--slots", str(run.slots), "--context", str(context)]
