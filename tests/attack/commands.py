"""The command as a user types it, with a teacher of a provider that keeps the bill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.teachers.provider import Provider


def typed(folder: Path, provider: Provider, *more: str) -> list[str]:
    """Return a command line that asks a provider for the answers to a file of questions.

    Options, such as -m, come in front of the overrides.
    """
    options = [word for word in more if word.startswith("-")]
    more = tuple(word for word in more if not word.startswith("-"))
    rows = folder / "rows.jsonl"
    lines = [{"question": f"word {i}", "answer": f"WORD {i}"} for i in range(300)]
    rows.write_text("\n".join(map(json.dumps, lines)))
    return [
        sys.executable, "-m", "stratos", *options, "+task=jsonl", f"task.path={rows}",
        "teacher=endpoint",
        f"teacher.base_url={provider.base_url}", "teacher.model=parrot",
        f"teacher.usd_per_million_input_tokens={provider.bill.usd_per_million_input_tokens}",
        f"teacher.usd_per_million_output_tokens={provider.bill.usd_per_million_output_tokens}",
        f"paths.cache_dir={folder / 'cache'}", "logger=none", *more,
    ]  # fmt: skip


def environment() -> dict[str, str]:
    """Return the environment of a command."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def command(
    folder: Path, provider: Provider, *more: str, **settings: Any
) -> subprocess.CompletedProcess[str]:
    """Run the command in the folder `run` below one."""
    return subprocess.run(
        typed(folder, provider, f"hydra.run.dir={folder / 'run'}", *more),
        capture_output=True, text=True, timeout=300, check=False, env=environment(), **settings,
    )  # fmt: skip
