"""Every mistake of a command line at once, before Hydra starts a run and stops at the first.

The overrides are composed as Hydra would compose them. Where that fails, they are tried one by one
and the ones that do not work are left out, so that the rest is checked too. What is composed then
goes through `stratos.build`, which compares each key with its schema. Sweeps are checked value by
value.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from stratos.build import GROUPS, NO_TASK, listing, read
from stratos.composing import CONFIG_NAME, hydra_for
from stratos.errors import ConfigError
from stratos.explain import explain, is_group

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from hydra.core.override_parser.types import Override


def check(args: argparse.Namespace) -> None:
    """Check everything that a command line asks for; loads no model and writes nothing.

    Args:
        args: as Hydra's own parser returns them.

    Raises:
        ConfigError: the command cannot be run; the message lists everything that is wrong.
    """
    if args.config_dir is not None and not Path(args.config_dir).is_dir():
        raise ConfigError(f"--config-dir {args.config_dir}: there is no such folder.")
    with hydra_for(args.config_dir, args.config_path) as hydra:
        checker = _Checker(hydra, args.config_name or CONFIG_NAME, args.multirun)
        problems = checker.problems(args.overrides)
    if problems:
        raise ConfigError(listing(problems))


class _Checker:
    """Composes and checks; remembers what was wrong, each thing once."""

    def __init__(self, hydra: Hydra, config_name: str, multirun: bool) -> None:
        self.hydra = hydra
        self.config_name = config_name
        self.multirun = multirun
        self.loader = hydra.config_loader
        self.found: list[str] = []

    def problems(self, overrides: Sequence[str]) -> list[str]:
        parsed = self._parse(overrides)
        composed, good = self._compose_what_works(parsed)
        sweeps = [override for override in good if override.is_sweep_override()]
        if composed is not None:
            sweeps += self._parse(
                [f"{key}={value}" for key, value in _sweep_params(composed).items()]
            )
            if sweeps and not (self.multirun or _mode(composed) == "MULTIRUN"):
                self.found.extend(
                    f"{sweep.input_line} is a sweep over several values: add -m."
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
                reason = str(error).splitlines()[0]
                self.found.append(f"{text}: cannot be read as key=value ({reason}).")
        return parsed

    def _compose_what_works(
        self, overrides: list[Override]
    ) -> tuple[DictConfig | None, list[Override]]:
        """Compose with as many overrides as work, and say what is wrong with each other one."""
        composed = self._compose([_first(override, self.loader) for override in overrides])
        if isinstance(composed, DictConfig):
            return composed, overrides
        composed = self._compose([])
        if not isinstance(composed, DictConfig):
            self.found.append(composed)
            return None, []
        good: list[Override] = []
        broken: set[str] = set()
        # Hydra applies choices of groups before values, whatever their order.
        for override in sorted(
            overrides, key=lambda one: not is_group(one.key_or_group, self.hydra)
        ):
            key = override.key_or_group
            if key.partition(".")[0] in broken - GROUPS.keys():
                continue  # its keys are those of a choice that there is not
            tried = self._compose([_first(one, self.loader) for one in [*good, override]])
            if isinstance(tried, DictConfig):
                composed = tried
                good.append(override)
                continue
            self.found.append(explain(override, composed, tried, self.hydra))
            if not override.is_delete() and "." not in key:
                broken.add(key)
        return composed, good

    def _compose(self, overrides: list[str]) -> DictConfig | str:
        """Compose as a run would; on failure return the first line of Hydra's message."""
        from hydra.core.hydra_config import HydraConfig
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
            HydraConfig.instance().set_config(composed)
            return composed
        except (HydraException, OmegaConfBaseException) as error:
            cause = error.__cause__ if error.__cause__ is not None else error
            where = getattr(cause, "full_key", None)
            reason = str(cause).strip().splitlines()[0]
            return f"{where}: {reason}" if where else reason
        except YAMLError as error:
            return " ".join(str(error).split())
        except OSError as error:
            return str(error)

    def _check(self, composed: DictConfig) -> None:
        _, problems = read(composed)
        self.found.extend(p for p in problems if p != NO_TASK)
        problem = _unwritable(composed, self.multirun)
        if problem is not None:
            self.found.append(problem)

    def _check_each_value(self, sweep: Override, good: list[Override]) -> None:
        """Check every value of one sweep, with each other sweep at its first."""
        others = [one for one in good if one.get_key_element() != sweep.get_key_element()]
        for value in _values(sweep, self.loader):
            text = f"{sweep.get_key_element()}={value}"
            composed = self._compose([*(_first(one, self.loader) for one in others), text])
            if isinstance(composed, DictConfig):
                self._check(composed)
                continue
            [single] = self._parse([text]) or [sweep]
            base = self._compose([_first(one, self.loader) for one in others])
            known_base = base if isinstance(base, DictConfig) else None
            self.found.append(explain(single, known_base, composed, self.hydra))

    def _ask_for_a_task(self, composed: DictConfig | None, overrides: list[Override]) -> None:
        """Without a task, name those that there are, the user's own among them."""
        asked = any(override.key_or_group == "task" for override in overrides)
        if composed is not None and "task" not in composed and not asked:
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


def _mode(composed: DictConfig) -> str | None:
    mode = composed.hydra.mode
    return None if mode is None else mode.name


def _unwritable(composed: DictConfig, multirun: bool) -> str | None:
    """Return why the output folder cannot be made or written, or None."""
    sweep = multirun or _mode(composed) == "MULTIRUN"
    key = "hydra.sweep.dir" if sweep else "hydra.run.dir"
    folder = Path(str(OmegaConf.select(composed, key)))
    nearest = folder.absolute()
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    try:
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(bytes(4096))
    except OSError as error:
        return (
            f"{key}={folder}: {nearest} cannot be written ({error.strerror}). "
            f"Give another folder: {key}=<folder>."
        )
    return None
