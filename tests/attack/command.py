"""The command in this process: what it says, how it ends, and that it ends."""

from __future__ import annotations

import contextlib
import shlex
import signal
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.in_process import as_a_process, exit_code
from tests.teachers.provider import Provider

CLONE = Path(__file__).parents[2]
LIMIT_S = 60
"""Seconds after which a command is said to hang, on a machine that is busy with other things."""
BASE = (
    "+task=mahjong cloud=aws student=stratos_300k teacher=endpoint teacher.model=parrot "
    "teacher.base_url={teacher} stages=[probe,plan] logger=none plan.history=false "
    "probe.n_items=8 probe.n_trial_items=4 probe.max_items=8 hydra.run.dir=run "
    "paths.cache_dir=cache"
)
"""What is typed where a row says nothing else: a whole request to pay a teacher."""


RAISES, HANGS = -1, -2
"""Codes of what no process ends with: an exception that nobody caught, and no end at all."""


class Hang(BaseException):
    """The command took longer than `LIMIT_S`."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    text: str
    """What it wrote to standard error, without what comes before its own message."""
    out: str
    n_paid: int
    """Questions that the teacher was asked."""


def typed(text: str, teacher: str) -> list[str]:
    """Return the command line of a row: `BASE`, but for what the row says itself."""
    own = shlex.split(text)
    keys = {_key(word) for word in own}
    base = [word for word in BASE.format(teacher=teacher).split() if _key(word) not in keys]
    if any(key.startswith("experiment") for key in keys):
        base = [word for word in base if not word.startswith("+task")]
    if "teacher" in keys:
        base = [word for word in base if not word.startswith("teacher")]
    return [*(word.replace("{teacher}", teacher) for word in own), *base]


def run(text: str, teacher: Provider, folder: Path, env: Mapping[str, str] | None = None) -> Ended:
    """Run a row's command in `folder`."""
    before = sum(teacher.tries.values())
    argv = typed(text, teacher.base_url)
    with as_a_process(folder, env or {}) as (out, error):
        try:
            with _limited():
                code = exit_code(argv)
        except Hang:
            code = HANGS
        except Exception:
            error.write(traceback.format_exc())
            code = RAISES
    text = without_paths(error.getvalue(), folder, teacher)
    return Ended(code, text, out.getvalue(), sum(teacher.tries.values()) - before)


def without_paths(text: str, folder: Path, teacher: Provider) -> str:
    """Return what a command in `folder` said, without the places and the port of this test."""
    files = next((path.resolve().parent for path in folder.iterdir() if path.is_symlink()), folder)
    text = text.replace(str(folder), "{here}").replace(teacher.base_url, "{teacher}")
    return text.replace(str(files), "{files}").replace(str(CLONE), "{clone}").strip()


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    def ring(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


def with_files(root: Path, folder: Path) -> Path:
    """Make a folder in which every bad file below `root` can be named; return it."""
    folder.mkdir()
    for path in root.iterdir():
        (folder / path.name).symlink_to(path)
    return folder
