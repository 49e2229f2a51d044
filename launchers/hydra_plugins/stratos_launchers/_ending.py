"""Ends jobs of a sweep that wait or run, and says which may be left."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Container
from pathlib import Path

from hydra_plugins.stratos_launchers import _known
from hydra_plugins.stratos_launchers._known import Left
from hydra_plugins.stratos_launchers._outcome import read_outcome

from stratos.core.errors import StratosError
from stratos.core.formats import counted
from stratos.executors import submission
from stratos.executors.job import Executor

log = logging.getLogger(__name__)

Words = Callable[[str], str]
"""Says what an executor says in the words of a launcher."""


def end_one(left: Left, in_our_words: Words) -> bool:
    """End a job; return whether it is gone. One that is not stays on the list of what runs."""
    try:
        left.executor.cancel(left.spec)
    except StratosError as error:
        log.error(f"\t{in_our_words(str(error))}")
        return False
    submission.take_off_list(left.spec.name)
    _known.clear(left.folder)
    return True


def end_all(left: list[tuple[str, Left]], in_our_words: Words) -> None:
    """End jobs, each with what it is called, all at once, and wait until they are gone.

    Who is told a second time leaves, and says what is left.
    """
    gone: list[str] = []

    def end(one: Left) -> None:
        if end_one(one, in_our_words):
            gone.append(one.spec.name)

    threads = [threading.Thread(target=end, args=(one,), daemon=True) for _, one in left]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    finally:
        for called, one in left:
            if one.spec.name not in gone:
                log.error(
                    f"\t{called} may still run. To end it: stratos servers down {one.spec.name}"
                )


def end_others(sweep: Path, names: Container[str], executor: Executor, in_our_words: Words) -> None:
    """End the jobs that an earlier sweep left in a folder, and that this one does not have.

    Args:
        sweep: the folder.
        names: of the jobs of this sweep.
        executor: that has the others, where it is not written down which one does.
        in_our_words: says what an executor says in the words of a launcher.
    """
    left = []
    for one in _known.others(sweep, names, executor):
        if read_outcome(one.folder / _known.OUTCOME, one.token) is None:
            left.append((one.spec.name, one))
        else:  # it has ended
            submission.take_off_list(one.spec.name)
            _known.clear(one.folder)
    if left:
        log.warning(
            f"{counted(len(left), 'job')} of an earlier sweep in {sweep}, which this one does not "
            f"have, told to end if not gone: {', '.join(name for name, _ in left)}"
        )
        end_all(left, in_our_words)
