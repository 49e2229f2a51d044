"""A cascade: the student answers, and what it is unsure of goes to the teacher."""

from stratos.core.extensions import Command, Extension

EXTENSION = Extension(
    commands={
        "cascade": Command(
            "which answers a student leaves to its teacher, for a promised accuracy",
            "stratos.contrib.cascade.verdict",
            rank=1,
            failure=2,
        ),
    },
    config={"cascade": "stratos.contrib.cascade.group:CascadeGroup"},
    stages="stratos.contrib.cascade.stages:STAGES",
    front="stratos.contrib.cascade.front:CascadeFront",
)
