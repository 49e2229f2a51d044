"""`stratos door`: let others reach a hosted student, with keys and limits, by nginx."""

from stratos.core.extensions import Command, Extension

EXTENSION = Extension(
    commands={
        "door": Command(
            "keys and limits before a student that serve hosts",
            "stratos.contrib.door.command",
            rank=5,
        ),
    },
    front="stratos.contrib.door.command:DoorFront",
)
