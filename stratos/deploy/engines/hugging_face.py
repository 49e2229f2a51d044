"""`transformers serve`, which loads the bundle as it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from typing_extensions import override

from stratos.deploy.engines.base import Count, Engine
from stratos.records import ServingSetting

PAGE_TOKENS = 256
"""Tokens of a block of the cache of transformers' continuous batching."""


@dataclass(frozen=True)
class Transformers(Engine):
    """`transformers serve`: one request after another."""

    kind = "transformers"
    title = "transformers serve"
    requirement = "transformers[serving]>=5.0"
    packages = (requirement,)
    uses_torch = True
    needs = ("transformers", "fastapi", "uvicorn")
    program = "transformers"
    module = "transformers.cli.transformers"
    note = "It answers one request after another: a second one waits."

    @override
    def options(self, run: ServingSetting, n_devices: int, context: int) -> list[str]:
        return []


@dataclass(frozen=True)
class TransformersBatching(Transformers):
    """`transformers serve --continuous-batching`: several requests at once."""

    kind = "transformers-batching"
    requirement = "transformers[serving]>=5.17"
    packages = (requirement,)
    note = (
        "It answers several requests at once; sampling options of the first request hold for all."
    )
    measures = ()

    at_once: Count = 4

    def options(self, run: ServingSetting, n_devices: int, context: int) -> list[str]:
        """Return the size of its cache: unbounded it stalls."""
        # One page more for each answer, so that a request that comes finds room before one has
        # ended.
        pages = run.slots * (math.ceil(context / PAGE_TOKENS) + 1)
        return ["--continuous-batching", "--cb-num-blocks", str(pages)]
