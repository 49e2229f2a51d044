"""What `contrib/logs` adds to the core."""

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
