"""Whether a student is worse than another by more than is allowed: a check for CI."""

from stratos.core.extensions import Command, Extension

EXTENSION = Extension(
    commands={
        "gate": Command(
            "an exit code: is a new student worse than the old one",
            "stratos.contrib.gate.command",
            rank=2,
            failure=2,
        ),
    },
    front="stratos.contrib.gate.command:GateFront",
)
