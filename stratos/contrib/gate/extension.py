"""What `contrib/gate` adds to the core."""

from stratos.core.extensions import Command, Extension

EXTENSION = Extension(
    commands={
        "gate": Command(
            "an exit code: is a new student worse than the old one",
            "stratos.contrib.gate.command",
            rank=2,
            failure=2,
        ),
    }
)
