"""The formats of GGUF files: their size, their rates on a CPU, and what they lose.

Of f32 and f16 every text was that of the evaluation; what the others lose is the most of the
students in benchmarks/results/serving/format_loss.json.
"""

from __future__ import annotations

from stratos.deploy.engines.cost import WeightFormat

_ALL = (
    WeightFormat("f32", weight_bytes=4.0, cache_bytes=4.0, alone=0.165, batch=0.154),
    WeightFormat("f16", weight_bytes=2.0, alone=0.38, batch=0.216),
    WeightFormat(
        "q8_0",
        weight_bytes=1.0625,
        alone=0.39,
        batch=0.322,
        loss_points=0.1,
        most_loss_points=0.6,
        block_width=32,
    ),
    WeightFormat(
        "q4_k_m",
        weight_bytes=0.61,
        alone=0.495,
        batch=0.332,
        loss_points=0.6,
        most_loss_points=1.8,
        block_width=256,
        takes_other_rows=True,
    ),
)
FORMATS = {form.name: form for form in _ALL}
"""By name."""
