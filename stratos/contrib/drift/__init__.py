"""Whether live requests and answers are still those that a student was evaluated on."""

from stratos.core.extensions import Command, Extension

EXTENSION = Extension(
    commands={
        "drift": Command(
            "an exit code: is live traffic what the student was tested on",
            "stratos.contrib.drift.command",
            rank=3,
            failure=2,
        ),
    }
)
