"""Read the files that a config names before a teacher is paid."""

from __future__ import annotations

from stratos.config import Config
from stratos.core.errors import ConfigError, StratosError
from stratos.core.hub import is_hub_name, location
from stratos.models.students import check_students


def unusable_files(config: Config) -> list[str]:
    """Return what is wrong with catalogs and students of a run that is otherwise right."""
    problems = []
    for check in (_check_rows_here, _check_catalog, _check_students_here):
        try:
            check(config)
        except StratosError as error:
            problems.append(str(error))
    return problems


def check_rows(config: Config) -> None:
    """Refuse a file of which nothing can be learnt or measured, before anything is asked or paid.

    Raises:
        ConfigError: there is too little in it.
    """
    if refusals := config.task.refusals():
        raise ConfigError(" ".join(map(str, refusals)))


def _check_rows_here(config: Config) -> None:
    """Do the same, unless a file had to be fetched first: the run does that before it pays."""
    if config.task.is_here:
        check_rows(config)


def _check_students_here(config: Config) -> None:
    """Look at students in folders; for those of the hub the run looks, before it pays."""
    paths = [student.path for student in config.students if student.path is not None]
    if not any(is_hub_name(path) and not location(path)[1] for path in paths):
        check_students(config)


def _check_catalog(config: Config) -> None:
    """Read the offers that the plan chooses from; it takes them from memory then."""
    if "plan" not in config.stages:
        return
    from stratos.catalog import load_catalog  # with NumPy, which takes its time

    load_catalog(config.cloud, cache_dir=config.cache_dir, hold=True)
