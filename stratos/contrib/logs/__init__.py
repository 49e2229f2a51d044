"""What is in a file of logged conversations: `stratos logs <file>`."""

from stratos.core.extensions import Command, Extension

EXTENSION = Extension(
    commands={
        "logs": Command(
            "what a log of requests has, costs, and what to run for it",
            "stratos.contrib.logs.command",
            rank=4,
        ),
    }
)
