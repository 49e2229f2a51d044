"""The sentences of reasons; the values are what other tests compare."""

import pytest

from stratos.contrib.slurm import limits

REASONS = [
    limits.NoSbatch(),
    limits.Silent("Unable to contact slurm controller"),
    limits.NoPartition("gpu,lonk", "lonk", ("gpu", "long", "short")),
    limits.TooFewHours(0.01, 0.05, 90),
    limits.TooManyHours(9.0, 2.0),
    limits.NoNodeTakes({"gpus": 8, "memory_gib": 900.0}, "Requested node configuration"),
]


@pytest.mark.parametrize("reason", REASONS, ids=lambda reason: type(reason).__name__)
def test_a_reason_is_a_sentence(reason, snapshot):
    assert str(reason) == snapshot
