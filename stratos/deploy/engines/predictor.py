"""Students that answer with a prediction, served by Stratos itself.

These are all that are no language models, and language models of labels: `transformers serve` would
let them write what is no label.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from typing_extensions import override

from stratos.core.reasons import Because, Reason
from stratos.deploy.engines.base import Count, Engine
from stratos.deploy.engines.cost import ServingCost
from stratos.deploy.engines.direct import Direct
from stratos.deploy.engines.hugging_face import Transformers, TransformersBatching
from stratos.models.kinds.base import ENCODER, has_labels, is_predictor
from stratos.models.pretrained.bert import is_bert
from stratos.records import ModelCard, ServingSetting

_WRITE_FREELY = (Transformers.kind, TransformersBatching.kind, Direct.kind)


@dataclass(frozen=True)
class PredictorServer(Engine):
    """The server of a student without an encoder: `linear`, `static`, and a tagger over these.

    No choice of `deploy` names it: it is taken for such a bundle, which no other engine loads.
    """

    kind = "predictor"
    title = "the student's own server"
    packages: ClassVar[tuple[str, ...]] = (
        "httptools>=0.6",
        "httpx>=0.27",
        "jinja2>=3.1",
        "jsonschema>=4.21",
        "msgspec>=0.19",
        "numpy>=1.26",
        "psutil>=5.9",
        "safetensors>=0.4.5",
        "scikit-learn>=1.4",
        "scipy>=1.11",
        "starlette>=0.40",
        "tokenizers>=0.21",
        "typing-extensions>=4.5",
        "uvicorn>=0.30",
    )
    needs: ClassVar[tuple[str, ...]] = ("sklearn", "starlette", "uvicorn")
    program = "python -m stratos.deploy.engines.predictor_server"
    module = "stratos.deploy.engines.predictor_server"
    note = "Requests that wait together are answered together."
    wants = "a student that is no language model"
    measures = ("probability",)
    start_s = 60.0
    # CPU seconds of an answer alone, which `linear` and `static` do not quite take; of 16 together
    # each takes 0.3 ms (benchmarks/serving/predictor.py).
    # Its process has 0.20 to 0.24 GiB beside the student, and up to 0.04 of dictionaries of words.
    cost = ServingCost(slots=(16,), request_s=0.001, block=0.0, step=0.0, process_gib=0.3)

    at_once: Count = 16

    @override
    def cannot_serve(self, card: ModelCard) -> Reason | None:
        return Because(f"it is a language model, and {self.title} serves other students")

    def options(self, run: ServingSetting, n_devices: int, context: int) -> list[str]:
        """Return how many texts it answers together."""
        return ["--slots", str(run.slots)]


@dataclass(frozen=True)
class EncoderServer(PredictorServer):
    """The same for a student with a BERT as its encoder, which NumPy computes."""

    kind = "predictor-encoder"
    # The same with MiniLM, of 22 million parameters, at a text of 54 characters.
    cost = replace(PredictorServer.cost, request_s=0.011)


@dataclass(frozen=True)
class TorchEncoderServer(EncoderServer):
    """The same with an encoder that PyTorch runs."""

    kind = "predictor-torch"
    cost = replace(EncoderServer.cost, process_gib=ServingCost.process_gib)
    packages = (*PredictorServer.packages, "torch>=2.9", "transformers>=5.0")
    needs = (*PredictorServer.needs, "torch", "transformers")
    uses_torch = True
    start_s = 180.0


@dataclass(frozen=True)
class LabelServer(TorchEncoderServer):
    """The same for a language model of labels, each of which is scored."""

    kind = "labels"
    wants = "a language model that answers with labels"
    # A pass that scores the labels takes about what `generate` takes to write one.
    cost = replace(Transformers.cost, slots=(16,))

    @override
    def cannot_serve(self, card: ModelCard) -> Reason | None:
        return None


def server_of(bundle: Path) -> PredictorServer | None:
    """Return the engine of a bundle whose student is no language model; None for another."""
    if not is_predictor(bundle):
        return None
    if not (bundle / ENCODER).is_dir():
        return PredictorServer()
    return EncoderServer() if is_bert(bundle / ENCODER) else TorchEncoderServer()


def setting_of(bundle: Path, run: ServingSetting | None) -> ServingSetting | None:
    """Return how a bundle is served: as `run` says, unless its kind of student has its own engine.

    A language model of labels has one in place of what would let it write freely.

    Args:
        bundle: folder of the student.
        run: what was planned or asked for; None for transformers.
    """
    engine = server_of(bundle)
    if has_labels(bundle) and (run is None or run.engine in _WRITE_FREELY):
        engine = LabelServer()
    if engine is None or (run is not None and run.engine == engine.kind):
        return run
    return engine.setting()
