"""What passes between stages: frozen dataclasses with a JSON round trip, and no torch.

Every stage takes records and returns one. `save` writes a record atomically, `load` reads it back
with its types checked, so that a record which was cut short or edited by hand is refused and the
stage that made it runs again.
"""

# ruff: noqa: F401 (what the package offers)

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
