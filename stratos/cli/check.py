"""Check a command line before Hydra runs, and report all mistakes at once.

The overrides are composed as Hydra would compose them. Where that fails, they are tried one by one
and the ones that do not work are left out, so that the rest is checked too. What is composed then
goes through `stratos.cli.build`, which compares each key with its schema. Sweeps are checked value
by value.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from stratos.cli.build import GROUPS, NO_TASK, listing, read
from stratos.cli.compose import CONFIG_NAME, hydra_for
from stratos.cli.explain import explain, is_group
from stratos.cli.rules import check_rows
from stratos.cli.words import (
    RunFolderElsewhere,
    RunFolderNotOfHydra,
    UnusableFolder,
    file_typed,
)
from stratos.config import STAGE_OF, STAGES, Config
from stratos.core.errors import ConfigError, StratosError, did_you_mean
from stratos.core.foreign import cause
from stratos.core.formats import shown
from stratos.core.output import why_no_run_folder
from stratos.core.reasons import Reason
from stratos.core.remote import is_hub_name, local_path, location
from stratos.core.trust import check_places, dangerous_files, why_no_searchpath
from stratos.models.students import check_students

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from hydra.core.override_parser.types import Override


SEVERAL = ("logger",)
"""Groups of which a run may take several choices at once."""
HoldsAnother = Callable[[Config, Path, str], Reason | None]
"""Of a config, the folder of its run and the key that names it: why it may not begin there."""


@dataclass(frozen=True)
class Unseeded:
    """A command without a seed whose task makes its items."""

    folder: Path
    """Of its run or sweep."""
    mirror: str | None
    """URL of the copy of the run folder."""
    records: Path | None
    """Folder of the run whose records it goes on from."""


def check(
    args: argparse.Namespace, holds_another: HoldsAnother = lambda *_: None
) -> Unseeded | None:
    """Check everything that a command line asks for; loads no model.

    It writes to the cache, and of a file without answers the rows to label, beside it.

    Args:
        args: as Hydra's own parser returns them.
        holds_another: tells why a run may not begin in its folder.

    Returns:
        What a seed is to be drawn for; None where the command has one, or needs none.

    Raises:
        ConfigError: the command cannot be run; the message lists everything that is wrong.
    """
    check_places(args)
    with hydra_for(args.config_dir, args.config_path) as hydra:
        checker = _Checker(
            hydra,
            CONFIG_NAME if args.config_name is None else args.config_name,
            args.multirun,
            holds_another,
        )
        problems = checker.problems(args.overrides)
    if problems:
        raise ConfigError(listing(problems))
    return checker.unseeded


class _Checker:
    """Composes and checks; remembers what was wrong, each thing once."""

    def __init__(
        self, hydra: Hydra, config_name: str, multirun: bool, holds_another: HoldsAnother
    ) -> None:
        self.hydra = hydra
        self.holds_another = holds_another
        self.config_name = config_name
        self.multirun = multirun
        self.loader = hydra.config_loader
        self.found: list[str] = []
        self.unseeded: Unseeded | None = None
        self._composed: dict[tuple[str, ...], DictConfig | str] = {}

    def problems(self, overrides: Sequence[str]) -> list[str]:
        parsed = [override for override in self._parse(overrides) if self._is_choice(override)]
        parsed = [override for override in parsed if self._leads_somewhere(override)]
        composed, good = self._compose_what_works(parsed)
        sweeps = [
            override for override in parsed if override.is_sweep_override() and override in good
        ]
        if composed is not None:
            sweeps += self._parse(
                [f"{key}={value}" for key, value in _sweep_params(composed).items()]
            )
            if sweeps and not _is_sweep(composed, self.multirun):
                self.found.extend(
                    self._not_a_sweep(sweep, good)
                    for sweep in sweeps
                    if sweep.input_line is not None
                )
            self._check(composed)
            for sweep in sweeps:
                self._check_each_value(sweep, good)
        self._ask_for_a_task(composed, parsed)
        return list(dict.fromkeys(self.found))

    def _parse(self, overrides: Sequence[str]) -> list[Override]:
        from hydra.core.override_parser.overrides_parser import OverridesParser
        from hydra.errors import HydraException

        parser = OverridesParser.create(config_loader=self.loader)
        parsed = []
        for text in overrides:
            try:
                parsed.append(parser.parse_override(text))
            except HydraException as error:
                if (why := file_typed(text)) is not None:
                    self.found.append(str(why))
                    continue
                reason = str(error).splitlines()[0]
                self.found.append(f"{shown(text)}: cannot be read as key=value ({reason}).")
        return parsed

    def _is_choice(self, override: Override) -> bool:
        """Tell an override that can be composed; say what is wrong with a choice of a group."""
        if override.is_sweep_override() or not is_group(override.key_or_group, self.hydra):
            return True
        key, value = override.get_key_element().lstrip("+~"), override.value()
        if override.is_delete() or (isinstance(value, str) and value.strip()):
            return True
        if isinstance(value, list) and key.startswith("hydra"):
            return True
        if isinstance(value, list) and key in SEVERAL:
            options = self.loader.get_group_options(override.key_or_group)
            wrong = [choice for choice in value if choice not in options]
            for choice in wrong:
                self.found.append(
                    f"{override.input_line}: there is no {key} {choice}."
                    f"{did_you_mean(str(choice), options)} Known: {', '.join(sorted(options))}."
                )
            if not value:
                self.found.append(f"{override.input_line}: name one, or type {key}=none.")
            return bool(value) and not wrong
        several = [str(option) for option in value] if isinstance(value, list) else []
        typed = " or ".join(f"{key}={option}" for option in several)
        known = ", ".join(sorted(self.loader.get_group_options(override.key_or_group)))
        self.found.append(
            f"{override.input_line}: a group takes one choice. "
            + (f"Type {typed}." if typed else f"Known: {known}.")
        )
        return False

    def _leads_somewhere(self, override: Override) -> bool:
        """Tell whether further places of configs are there, and hold nothing that is dangerous."""
        value = override.value()
        if override.key_or_group != "hydra.searchpath" or override.is_sweep_override():
            return True
        before = len(self.found)
        for url in value if isinstance(value, list) else [value]:
            reason = why_no_searchpath(str(url))
            if reason is not None:
                self.found.append(f"hydra.searchpath: {shown(url)}: {reason}.")
            elif "pkg://" not in str(url):
                self.found.extend(dangerous_files(Path(local_path(str(url)))))
        return len(self.found) == before

    def _compose_what_works(
        self, overrides: list[Override]
    ) -> tuple[DictConfig | None, list[Override]]:
        """Compose with as many overrides as work, and say what is wrong with each other one."""
        good: list[Override] = []
        # Hydra applies choices of groups before values, whatever their order.
        more = sorted(
            overrides, key=lambda override: not is_group(override.key_or_group, self.hydra)
        )
        while True:
            n_fit, reason = self._longest_that_works(good, more)
            good += more[:n_fit]
            composed = self._compose([_first(override, self.loader) for override in good])
            if not isinstance(composed, DictConfig):  # not even without an override
                self.found.append(composed)
                return None, []
            if n_fit == len(more):
                return composed, good
            bad = more[n_fit]
            self.found.append(explain(bad, composed, reason, self.hydra))
            more = more[n_fit + 1 :]
            key = bad.key_or_group
            if not bad.is_delete() and "." not in key and key not in GROUPS:
                # Its keys are those of a choice that there is not.
                more = [
                    override for override in more if override.key_or_group.partition(".")[0] != key
                ]

    def _longest_that_works(self, good: list[Override], more: list[Override]) -> tuple[int, str]:
        """Find by halving how many more overrides work, and why no more do.

        Args:
            good: overrides that work.
            more: which are added in their order.
        """
        low, high, reason = 0, len(more) + 1, ""  # the first `low` work, the first `high` do not
        n = len(more)
        while high - low > 1:
            tried = self._compose(
                [_first(override, self.loader) for override in [*good, *more[:n]]]
            )
            if isinstance(tried, DictConfig):
                low = n
            else:
                high, reason = n, tried
            n = (low + high) // 2
        return low, reason

    def _compose(self, overrides: list[str]) -> DictConfig | str:
        """Compose as a run would; on failure return the first line of Hydra's message."""
        from hydra.core.hydra_config import HydraConfig

        key = tuple(overrides)
        if key not in self._composed:  # which takes a fifth of a second
            self._composed[key] = self._compose_anew(overrides)
        composed = self._composed[key]
        if isinstance(composed, DictConfig):
            HydraConfig.instance().set_config(composed)
        return composed

    def _compose_anew(self, overrides: list[str]) -> DictConfig | str:
        from hydra.errors import HydraException
        from hydra.types import RunMode
        from omegaconf.errors import OmegaConfBaseException
        from yaml import YAMLError

        try:
            composed = self.hydra.compose_config(
                config_name=self.config_name,
                overrides=overrides,
                run_mode=RunMode.RUN,
                with_log_configuration=False,
                validate_sweep_overrides=False,
            )
            with read_write(composed), open_dict(composed):
                composed.hydra.runtime.output_dir = composed.hydra.run.dir
                # Numbers that only a job of a sweep has.
                composed.hydra.job.id, composed.hydra.job.num = "0", 0
            return composed
        except (HydraException, OmegaConfBaseException) as error:
            source = error.__cause__ if error.__cause__ is not None else error
            where = getattr(source, "full_key", None)
            reason = str(source).strip().splitlines()[0]
            return f"{where}: {reason}" if where else reason
        except YAMLError as error:
            return " ".join(str(error).split())
        except Exception as error:  # whatever a foreign YAML, or a plug-in, makes of it
            return cause(error)

    def _check(self, composed: DictConfig) -> None:
        config, problems = read(composed)
        self.found.extend(p for p in problems if p != NO_TASK)
        if config is not None:
            self.found.extend(_unreached_objectives(config, composed))
            self.found.extend(_unusable_files(config))
            self.unseeded = self.unseeded or _unseeded(config, composed, self.multirun)
        problem = _another_folder(composed, self.multirun) or _unwritable(composed, self.multirun)
        if problem is not None:
            self.found.append(str(problem))
        elif (
            config is not None
            and (difference := self._of_another_task(config, composed)) is not None
        ):
            self.found.append(str(difference))

    def _of_another_task(self, config: Config, composed: DictConfig) -> Reason | None:
        """Return that the folder of a run holds another task, or None.

        A job of a sweep says it itself: which of a sweep's folders a value goes to is known only
        when its jobs are numbered.
        """
        if _is_sweep(composed, self.multirun) or not config.run_dir.is_dir():
            return None
        return self.holds_another(config, config.run_dir, "hydra.run.dir")

    def _not_a_sweep(self, sweep: Override, good: list[Override]) -> str:
        """Say what to type for several values where no sweep was asked for."""
        text, key = sweep.input_line or "", sweep.key_or_group
        values = text.partition("=")[2]
        without = self._compose(
            [_first(override, self.loader) for override in good if override is not sweep]
        )
        is_list = isinstance(without, DictConfig) and OmegaConf.is_list(
            OmegaConf.select(without, key)
        )
        if is_list:
            return (
                f"{text}: {key} is a list and needs brackets. Type '{key}=[{values}]'. "
                "(Values with commas and no brackets are a sweep, with -m.)"
            )
        known = OmegaConf.select(without, key) if isinstance(without, DictConfig) else None
        is_instruction = key == "task.instruction"
        if is_instruction or (isinstance(known, str) and " " in known):  # a sentence
            from_file = f", or name a file: {key}_path=<file>" if is_instruction else ""
            return (
                f"{key}: a text with commas needs quotes inside those of the shell: type "
                f"'{key}=\"first, second\"'{from_file}. (Values with commas and no quotes are a "
                "sweep, with -m.)"
            )
        return f"{text} is a sweep over several values: add -m."

    def _check_each_value(self, sweep: Override, good: list[Override]) -> None:
        """Check every value of one sweep, with each other sweep at its first."""
        rest = [
            override for override in good if override.get_key_element() != sweep.get_key_element()
        ]
        for value in _values(sweep, self.loader):
            text = f"{sweep.get_key_element()}={value}"
            composed = self._compose([*(_first(override, self.loader) for override in rest), text])
            if isinstance(composed, DictConfig):
                self._check(composed)
                continue
            [single] = self._parse([text]) or [sweep]
            base = self._compose([_first(override, self.loader) for override in rest])
            known_base = base if isinstance(base, DictConfig) else None
            self.found.append(explain(single, known_base, composed, self.hydra))

    def _ask_for_a_task(self, composed: DictConfig | None, overrides: list[Override]) -> None:
        """Without a task, name those that there are, the user's own among them."""
        is_named = any(override.key_or_group == "task" for override in overrides)
        if composed is not None and "task" not in composed and not is_named:
            tasks = sorted(self.loader.get_group_options("task"))
            self.found.insert(0, f"{NO_TASK} There are: {', '.join(tasks) or 'none'}.")


def _values(sweep: Override, loader: Any) -> list[str]:
    """Return the values of a sweep as they are typed: all of a choice, the ends of an interval."""
    from hydra.core.override_parser.types import Glob, IntervalSweep

    value = sweep.value()
    if isinstance(value, Glob):
        return list(value.filter(loader.get_group_options(sweep.key_or_group)))
    if isinstance(value, IntervalSweep):
        return [str(value.start), str(value.end)]
    return [str(text) for text in sweep.sweep_string_iterator()]


def _first(override: Override, loader: Any) -> str:
    """Return an override as one job of a sweep would have it."""
    if not override.is_sweep_override():
        return override.input_line or ""
    values = _values(override, loader)
    return f"{override.get_key_element()}={values[0] if values else 'null'}"


def _sweep_params(composed: DictConfig) -> dict[str, str]:
    params = OmegaConf.select(composed, "hydra.sweeper.params")
    return {str(key): str(value) for key, value in (params or {}).items()}


def _unreached_objectives(config: Config, composed: DictConfig) -> list[str]:
    """Return which objectives of a study its jobs cannot have: no stage that they run makes them.

    Records of another run may have them already.
    """
    objectives = OmegaConf.select(composed, "hydra.sweeper.objectives") or ()
    if composed.paths.get("records_from") is not None:
        return []
    stages = list(config.stages)
    return [
        f"hydra.sweeper.objectives: {name} needs the stage {stage}, and stages="
        f"[{','.join(stages)}] has none. Type 'stages=[{','.join(_with(stages, stage))}]'."
        for name in objectives
        if (stage := STAGE_OF.get(str(name))) is not None and stage not in stages
    ]


def _with(stages: Sequence[str], more: str) -> list[str]:
    """Return stages up to another one, which needs those before it."""
    before = STAGES[: STAGES.index(more) + 1]
    return [stage for stage in STAGES if stage in stages or stage in before]


def _is_sweep(composed: DictConfig, multirun: bool) -> bool:
    """Return whether -m, or a file, asks for a sweep."""
    mode = composed.hydra.mode
    return multirun or (mode is not None and mode.name == "MULTIRUN")


def _unseeded(config: Config, composed: DictConfig, multirun: bool) -> Unseeded | None:
    """Return what a seed is to be drawn for; None where one is typed, swept, or changes nothing."""
    is_seeded = composed.get("seed") is not None or "seed" in _sweep_params(composed)
    if is_seeded or config.task.has_rows:
        return None
    paths = config.paths
    records = None if paths.records_from is None else Path(paths.records_from).expanduser()
    if _is_sweep(composed, multirun):
        return Unseeded(Path(str(OmegaConf.select(composed, "hydra.sweep.dir"))), None, records)
    return Unseeded(config.run_dir, paths.mirror, records)


def _another_folder(composed: DictConfig, multirun: bool) -> Reason | None:
    """Return that a run's folder is not the one that Hydra keeps its config in, or None."""
    paths: Any = OmegaConf.to_container(composed.paths, resolve=False)
    run_dir = paths["run_dir"]
    if not isinstance(run_dir, str) or "hydra:" in run_dir:
        return None  # as shipped, or an error of its own
    key = "hydra.sweep.dir" if _is_sweep(composed, multirun) else "hydra.run.dir"
    return (RunFolderElsewhere if "://" in run_dir else RunFolderNotOfHydra)(run_dir, key)


def _unwritable(composed: DictConfig, multirun: bool) -> Reason | None:
    """Return why the output folder cannot be made or written, or None."""
    is_sweep = _is_sweep(composed, multirun)
    key = "hydra.sweep.dir" if is_sweep else "hydra.run.dir"
    folder = Path(str(OmegaConf.select(composed, key)))
    reason = why_no_run_folder(folder, is_sweep=is_sweep)
    return None if reason is None else UnusableFolder(key, str(folder), reason)


def _unusable_files(config: Config) -> list[str]:
    """Return what is wrong with catalogs and students of a run that is otherwise right."""
    problems = []
    for check in (_check_rows_here, _check_catalog, _check_students_here):
        try:
            check(config)
        except StratosError as error:
            problems.append(str(error))
    return problems


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
