"""What passes between stages: frozen dataclasses with a JSON round trip, and no torch.

Every stage takes records and returns one. `save` writes a record atomically, `load` reads it back
with its types checked, so that a record which was cut short or edited by hand is refused and the
stage that made it runs again.

A module of records is imported when one of its names is asked for: `--help` needs few of them.
"""

# ruff: noqa: F401 (what the package offers)

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stratos.records.base import (
        CONTENT_OF,
        MOST_TRUNCATED,
        CardRun,
        EditedError,
        Envelope,
        FileMark,
        FormatError,
        Interval,
        ModelCard,
        RoomRecord,
        Section,
        Tried,
        from_json,
        is_cut_short,
        load,
        opened,
        save,
        to_json,
        to_plain,
    )
    from stratos.records.of_deploy import (
        Deployment,
        Export,
        Exports,
        LoadResult,
        Prediction,
        Report,
        TriedRate,
    )
    from stratos.records.of_plan import (
        NO_TEACHER,
        Assumption,
        Offer,
        Plan,
        PlanPoint,
        Price,
        RoleChoice,
        ScaledToZero,
        ServingSetting,
        StageTime,
        Way,
        WhatIf,
        Worth,
        own_clouds,
        pair,
        servers_for,
    )
    from stratos.records.of_probe import (
        AnswerSpread,
        Complexity,
        ConfusedLabels,
        KindProbe,
        LoggedProof,
        Measure,
        Pilot,
        PilotPoint,
        PilotRun,
        Probe,
        PromptRepair,
        PromptTrial,
        SampledAnswers,
        SliceAnswers,
        StudentProbe,
        TeacherProbe,
    )
    from stratos.records.of_training import (
        FREE_ROLES,
        FROM_FILE,
        NO_LABEL,
        Comparison,
        Corpus,
        CorpusRow,
        CurvePoint,
        EarlierReads,
        LoggedVersus,
        ModelScore,
        Replay,
        Scorecard,
        SliceScore,
        Student,
        Versus,
        corpus_rows,
    )

_MODULES = ("base", "of_plan", "of_deploy", "of_training", "of_probe")


def __getattr__(name: str) -> Any:
    if not name.startswith("_"):
        for module in (import_module(f"{__name__}.{part}") for part in _MODULES):
            if hasattr(module, name):
                value = globals()[name] = getattr(module, name)
                return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
