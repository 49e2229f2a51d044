"""A cascade takes the probability of a student that is no language model from its server."""

from __future__ import annotations

import asyncio
import math

import httpx
import pytest
from predictor_student import rows, trained, write_rows

from stratos.contrib.cascade.threshold import Judge
from stratos.deploy.bundle_server import serving_bundle
from stratos.deploy.engines.predictor import PredictorServer
from stratos.tasks.classify import ClassifyTask


@pytest.mark.slow
def test_its_confidence_is_the_students_probability(tmp_path):
    student = trained()
    student.save(tmp_path / "bundle")
    judge = Judge(ClassifyTask(str(write_rows(tmp_path / "rows.jsonl"))), "x", "probability", 0, {})
    text = rows(4, seed=2)[3]["text"]
    [known] = student.predict([text])
    engine = PredictorServer()
    with serving_bundle(tmp_path / "bundle", engine.setting(), tmp_path / "log") as server:

        async def ask() -> tuple[str, float]:
            async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
                found = await judge.ask(client, [{"role": "user", "content": text}], 8)
                return found.text, found.confidence

        answer, confidence = asyncio.run(ask())
    assert "probability" in engine.measures
    assert answer == known.text
    assert confidence == pytest.approx(math.log(known.probability), abs=1e-5)
