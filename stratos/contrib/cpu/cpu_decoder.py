"""The decoder of small Llamas on a CPU: compiled, or by torch where there is no C compiler."""

from __future__ import annotations

from typing import Any

from stratos.contrib.cpu import kernel
from stratos.contrib.cpu.compiled import Rolling
from stratos.contrib.cpu.direct import Direct, DirectDecoder
from stratos.models.decode.decoder import Call, FastDecoder


def decoder(model: Any, call: Call) -> FastDecoder | None:
    """Return what decodes in place of a model's modules; None for a model of another kind."""
    if not Direct.can_decode(model):
        return None
    library = kernel.load()
    return DirectDecoder(model, call) if library is None else Rolling(library, model, call)
