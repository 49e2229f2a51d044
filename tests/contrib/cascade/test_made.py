"""Which cascade of a run is served."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "report"))

import factory

from stratos.contrib.cascade.config import CascadeConfig
from stratos.contrib.cascade.endpoint.meter import cascade_in
from stratos.contrib.cascade.pairs import KeptPair, answered, bundle_digest, write_pairs
from stratos.contrib.cascade.record import Cascade, Escalation
from stratos.core.errors import StratosError
from stratos.records import ServingSetting, save


def test_a_threshold_is_served_with_the_bundle_it_was_measured_with(tmp_path, monkeypatch):
    config = SimpleNamespace(rooms={"cascade": CascadeConfig(accuracy=0.9)})
    monkeypatch.setattr("stratos.run.stored_config.config_of", lambda run: config)
    manifest = tmp_path / "bundle" / "manifest.json"
    manifest.parent.mkdir()
    manifest.write_text("{}")
    endpoint = Escalation(
        "probability", 0, ServingSetting("llamacpp"), "teacher", "default", 8, 8, False,
        bundle_digest(manifest.parent),
    )  # fmt: skip
    made = Cascade("ask", True, 0.9, 0.95, 100, 0.9, 0.95, 0.5, endpoint=endpoint)
    save(tmp_path / "cascade.json", "cascade", "mark", made)
    assert cascade_in(tmp_path) == made
    manifest.write_text("{ }")
    with pytest.raises(StratosError, match=r"its threshold is of another student. Give the comm"):
        cascade_in(tmp_path)
    config.rooms = {"cascade": CascadeConfig()}
    with pytest.raises(StratosError, match=r"last given with cascade.accuracy=null"):
        cascade_in(tmp_path)


def test_what_is_worked_out_of_a_run_says_whose_items_chose(tmp_path):
    factory.write_hydra(tmp_path, [], ["evaluate"])
    records = factory.make_records(tmp_path)
    for stage in ("plan", "evaluate"):
        save(tmp_path / f"{stage}.json", stage, "mark", records[stage])
    endpoint = Escalation(
        "agreement", 4, ServingSetting("transformers"), "teacher", "default", 8, 8, False, ""
    )
    made = Cascade(
        "", False, 0.9, 0.95, 2, 1.0, 1.0, chosen_on="test", endpoint=endpoint, look=3, n_too_long=7
    )
    save(tmp_path / "cascade.json", "cascade", "mark", made)
    write_pairs(tmp_path, [KeptPair(f"{i}", i % 2 == 0, -0.1, True, True) for i in range(4)])
    found = answered(tmp_path)
    assert (found.chosen_on, found.look, found.n_answers, found.n_too_long) == ("test", 3, 5, 7)
