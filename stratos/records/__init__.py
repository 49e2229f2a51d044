"""What passes between stages: frozen dataclasses with a JSON round trip, and no torch.

Every stage takes records and returns one. `save` writes a record atomically, `load` reads it back
with its types checked, so that a record which was cut short or edited by hand is refused and the
stage that made it runs again.
"""

# ruff: noqa: F401 (what the package offers)

from stratos.records.measured import (
    MOST_TRUNCATED,
    CardRun,
    Interval,
    ModelCard,
    Tried,
    is_cut_short,
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
from stratos.records.of_distill import (
    FROM_FILE,
    Corpus,
    CorpusRow,
    CurvePoint,
    Student,
    corpus_rows,
)
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
from stratos.records.stored import (
    EditedError,
    Envelope,
    FileMark,
    FormatError,
    RoomRecord,
    Section,
    from_json,
    load,
    opened,
    save,
    to_json,
    to_plain,
)
