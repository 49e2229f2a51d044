"""What passes between stages: frozen dataclasses with a JSON round trip, and no torch.

Every stage takes records and returns one. `save` writes a record atomically, `load` reads it back
with its types checked, so that a record which was cut short or edited by hand is refused and the
stage that made it runs again.
"""

from stratos.records.measured import MOST_TRUNCATED, Interval, Tried, is_cut_short
from stratos.records.model_cards import CardRun, ModelCard
from stratos.records.of_deploy import Deployment, Export, Exports, LoadResult, Prediction, TriedRate
from stratos.records.of_distill import CurvePoint, Student
from stratos.records.of_evaluate import (
    FREE_ROLES,
    NO_LABEL,
    Comparison,
    EarlierReads,
    LoggedVersus,
    ModelScore,
    Scorecard,
    SliceScore,
    Versus,
)
from stratos.records.of_pilot import Pilot, PilotPoint, PilotRun
from stratos.records.of_plan import (
    Assumption,
    Offer,
    Plan,
    PlanPoint,
    Price,
    RoleChoice,
    ServingSetting,
    StageTime,
    WhatIf,
    own_clouds,
)
from stratos.records.of_probe import (
    AnswerSpread,
    Complexity,
    LoggedProof,
    Measure,
    Probe,
    PromptTrial,
    SampledAnswers,
    SliceAnswers,
    StudentProbe,
    TeacherProbe,
)
from stratos.records.of_report import Report
from stratos.records.of_room import RoomRecord, Section
from stratos.records.of_synthesize import Corpus
from stratos.records.of_worth import ScaledToZero, Way, Worth
from stratos.records.stored import (
    EditedError,
    Envelope,
    FileMark,
    FormatError,
    from_json,
    load,
    opened,
    save,
    to_json,
    to_plain,
)

__all__ = [
    "FREE_ROLES",
    "MOST_TRUNCATED",
    "NO_LABEL",
    "AnswerSpread",
    "Assumption",
    "CardRun",
    "Comparison",
    "Complexity",
    "Corpus",
    "CurvePoint",
    "Deployment",
    "EarlierReads",
    "EditedError",
    "Envelope",
    "Export",
    "Exports",
    "FileMark",
    "FormatError",
    "Interval",
    "LoadResult",
    "LoggedProof",
    "LoggedVersus",
    "Measure",
    "ModelCard",
    "ModelScore",
    "Offer",
    "Pilot",
    "PilotPoint",
    "PilotRun",
    "Plan",
    "PlanPoint",
    "Prediction",
    "Price",
    "Probe",
    "PromptTrial",
    "Report",
    "RoleChoice",
    "RoomRecord",
    "SampledAnswers",
    "ScaledToZero",
    "Scorecard",
    "Section",
    "ServingSetting",
    "SliceAnswers",
    "SliceScore",
    "StageTime",
    "Student",
    "StudentProbe",
    "TeacherProbe",
    "Tried",
    "TriedRate",
    "Versus",
    "Way",
    "WhatIf",
    "Worth",
    "from_json",
    "is_cut_short",
    "load",
    "opened",
    "own_clouds",
    "save",
    "to_json",
    "to_plain",
]
