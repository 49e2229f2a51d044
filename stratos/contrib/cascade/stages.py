"""The stage of a cascade, as a row of the table of stages.

It stands apart from the config of the group, which every command reads: they start without what a
run needs.
"""

from __future__ import annotations

from stratos.contrib.cascade.config import makes_cascade
from stratos.contrib.cascade.record import Cascade
from stratos.ledger.book import TEACHER
from stratos.run.resume import Stage

CASCADE = Stage(
    name="cascade",
    function="stratos.contrib.cascade.stage:cascade",
    record=Cascade,
    reads=(
        "task",
        "teacher",
        "traffic",
        "cascade.accuracy",
        "cascade.confidence",
        "cascade.measure",
        "cascade.n_samples",
        "cascade.n_items",
        "cascade.teacher_usd",
        "cascade.teacher_seconds",
        "cascade.if_unavailable",
        "callbacks.n_validation_items",
        "callbacks.n_final_validation_items",
        "evaluate",
        "probe.max_tokens",
        "limits.budget_usd",
        "limits.probe_usd",
    ),
    after=("probe", "plan", "evaluate", "deploy"),
    is_part_of="deploy",
    is_on=makes_cascade,
    releases=(TEACHER,),
)
STAGES = (CASCADE,)
