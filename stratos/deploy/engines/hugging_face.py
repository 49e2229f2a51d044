"""`transformers serve`, which loads the bundle as it is."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stratos.core import extras
from stratos.deploy.engines.base import Count, Engine
from stratos.deploy.engines.cost import UTILISATION, ServingCost
from stratos.records import ServingSetting

PAGE_TOKENS = 256
"""Tokens of a block of the cache of transformers' continuous batching."""
REQUEST_S = 0.010
"""Seconds of a request to `transformers serve` beside the model: HTTP, chat template, tokenizer. 6
to 17 ms of CPU time on one core (benchmarks/serving/cpu.py)."""


@dataclass(frozen=True)
class Transformers(Engine):
    """`transformers serve`: one thread, one `generate` after another. A second request waits."""

    kind = "transformers"
    title = "transformers serve"
    extra = extras.TRAIN
    packages = ("transformers[serving]>=5.0",)
    uses_torch = True
    needs = ("transformers", "fastapi", "uvicorn")
    program = "transformers"
    module = "transformers.cli.transformers"
    note = "It answers one request after another: a second one waits."
    is_fallback = True
    cost = ServingCost(
        slots=(1,),
        utilisations=(0.1, 0.3, 0.5, UTILISATION, 0.8),
        request_s=REQUEST_S,
        block=1.0,
        step=1.0,
    )

    def setting(self, slots: int | None = None) -> ServingSetting:
        """Return how it is run; asked for several answers at once, in batches."""
        if slots is None:
            return super().setting()
        engine = TransformersBatching if slots > 1 else Transformers
        return ServingSetting(engine.kind, slots=slots)

    def sampling(self, bundle: Path, temperature: float) -> dict[str, Any]:
        """Return the bundle's own settings, which are greedy, with those that draw."""
        facts = json.loads((bundle / "generation_config.json").read_text(encoding="utf-8"))
        own = {name: value for name, value in facts.items() if not name.startswith("_")}
        drawn = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        return {"generation_config": {**own, **drawn}}


@dataclass(frozen=True)
class TransformersBatching(Transformers):
    """`transformers serve --continuous-batching`: several requests at once."""

    kind = "transformers-batching"
    packages = ("transformers[serving]>=5.17",)
    note = (
        "It answers several requests at once; sampling options of the first request hold for all."
    )
    devices = "cpu"
    is_fallback = False
    measures = ()
    # Answers are those of the class above to the token; an answer alone takes it 1.4 times as long
    # (benchmarks/serving).
    cost = ServingCost(
        slots=(4, 16), request_s=REQUEST_S, block=1.2, step=1.5, sequence=0.3, row=0.2
    )

    at_once: Count = 4

    def options(self, run: ServingSetting, n_devices: int, context: int) -> list[str]:
        """Return the size of its cache: unbounded it stalls."""
        # One page more for each answer, so that a request that comes finds room before one has
        # ended.
        pages = run.slots * (math.ceil(context / PAGE_TOKENS) + 1)
        return ["--continuous-batching", "--cb-num-blocks", str(pages)]
