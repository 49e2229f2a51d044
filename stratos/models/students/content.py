"""What a student learns from, as digests: the rows of the task and the weights it starts from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from stratos.config import Config, StudentConfig
from stratos.core.digest import digest_of, digest_of_code, files_in


def content_of(config: Config, student: StudentConfig) -> dict[str, str]:
    """Return digests of what the names in a config stand for that shape what a student learns.

    Two runs of one config have learnt the same only where these are equal, too: the same path may
    hold other rows, or other weights. Nothing for a task without files.

    Args:
        config: the run's config.
        student: one of its students.
    """
    found = digest_of_code(config.task, *config.task.parts)
    rows = config.task.content_sha256
    if rows is not None:
        found["rows of the task"] = rows
    else:
        for path in files_in(config.plain.get("task")):
            found[str(path)] = digest_of(path)
    if student.path is not None and (folder := Path(student.path).expanduser()).is_dir():
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        listed = json.dumps([(str(p.relative_to(folder)), digest_of(p)) for p in files])
        found["weights of the student"] = hashlib.sha256(listed.encode()).hexdigest()
    return found
