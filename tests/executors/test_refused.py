"""A server that cannot be had: the plan is solved again without it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from one_run import Command

PICKY = """
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from stratos.core.errors import CapacityError
from stratos.executors.here import Here


@dataclass(frozen=True)
class Picky(Here):
    kind: ClassVar[str] = "picky"
    gives: int = 2

    def submit(self, spec):
        told = Path(os.environ["PICKY_TOLD"])
        asked = told.read_text().splitlines() if told.exists() else []
        offer = spec.offer
        name = f"{offer.cloud}/{offer.region}/{offer.instance_type}"
        told.write_text("\\n".join([*asked, name]) + "\\n")
        if len(asked) < self.gives:
            raise CapacityError(f"{spec.stage}: no capacity for {name}.", name)
        return super().submit(spec)
"""


@pytest.fixture
def picky(command: Command, tmp_path: Path) -> Command:
    (tmp_path / "picky.py").write_text(PICKY)
    command.env = {
        **os.environ, "PYTHONPATH": str(tmp_path), "STRATOS_ALLOW_TARGETS": "picky",
        "PICKY_TOLD": str(tmp_path / "told"),
    }  # fmt: skip
    return command


def on(gives: int) -> tuple[str, ...]:
    return (
        "executor._target_=picky.Picky", f"+executor.gives={gives}", "executor.stages=[distill]",
        "stages=[plan,synthesize,distill]",
    )  # fmt: skip


def told(command: Command) -> list[str]:
    return Path(command.env["PICKY_TOLD"]).read_text().splitlines()


def test_the_next_server_is_planned_and_it_stays_so(picky: Command) -> None:
    assert picky.start(*on(2)).wait(300) == 0, picky.said
    first, second, third = told(picky)
    assert len({first, second, third}) == 3
    for number, name in ((1, first), (2, second)):
        assert f"no capacity for {name}. The plan is solved again without it ({number} of 5" in (
            " ".join(picky.said.split())
        )  # fmt: skip
    plan = json.loads((picky.run / "plan.json").read_text())["record"]
    [train] = [one for one in plan["roles"] if one["role"] == "train"]
    assert train["offer"]["instance_type"] == third.split("/")[2]
    # Nothing is left reserved for what was not had, and a second command plans the same.
    kinds = [one["kind"] for one in picky.ledger() if one.get("kind") in ("rented", "settled")]
    assert kinds == ["rented", "settled"] * 3
    assert picky.start(*on(2)).wait(120) == 0, picky.said
    assert "solved again" not in picky.said and len(told(picky)) == 3
    (picky.run / "refused.json").unlink()
    assert picky.start(*on(2), "stages=[plan]").wait(120) == 0, picky.said
    assert "made before" not in next(one for one in picky.said.splitlines() if "plan " in one)


def test_after_five_it_is_left_to_the_user(picky: Command) -> None:
    assert picky.start(*on(9)).wait(300) == 1
    assert len(set(told(picky))) == 5
    said = " ".join(picky.said.split())
    assert "5 servers could not be had, one after the other." in said
    assert f"delete {picky.run}/refused.json" in said


def test_without_plan_among_the_stages_it_is_said(picky: Command) -> None:
    assert picky.start(*on(9), "stages=[distill]").wait(300) == 1
    assert len(told(picky)) == 1
    assert "Give the command again with plan among its stages" in " ".join(picky.said.split())
