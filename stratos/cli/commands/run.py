"""`stratos run` and `stratos plan`: compose, check, run, return one number."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from stratos.cli.compose import CONFIG_NAME, VERSION_BASE, user_conf
from stratos.core.errors import (
    BusyError,
    ConfigError,
    NothingLearntError,
    StratosError,
    did_you_mean,
)
from stratos.core.extensions import conf_dir
from stratos.core.extras import required
from stratos.core.formats import visible
from stratos.core.output import (
    SCREEN_FLAGS,
    Guarded,
    disk_errors,
    guard_files,
    guard_logs,
    say_failed,
    stdout_kept,
    take_flags,
)
from stratos.core.reasons import Reason
from stratos.core.redact import redact_text
from stratos.core.trust import check_places

if TYPE_CHECKING:
    from stratos.cli.check import Unseeded
    from stratos.config import Config


class SweepPage(Callback):
    """Remembers the folder of the sweep that runs in this process.

    Hydra calls `on_multirun_end` only if every job went well; a comparison is wanted above all
    when one did not, so `main` asks for the page itself, after Hydra has ended.
    """

    folder: Path | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Remember where the jobs of this sweep will lie."""
        SweepPage.folder = Path(str(config.hydra.sweep.dir))


def write_page() -> None:
    """Write `index.html` of the sweep that this process ran, if any, and say which job is best."""
    folder, SweepPage.folder = SweepPage.folder, None
    if folder is None or not any(folder.glob("*/.hydra")):
        return
    from stratos.report import sweep_report
    from stratos.report.sweep_jobs import best_line

    try:
        page = sweep_report(folder)
        if best := best_line(folder):
            print(visible(f"Best    {best}"))
        print(f"Sweep   {page}")
    except StratosError as error:
        print(error, file=sys.stderr)


DISTRIBUTION = "stratos-llm"
"""Name of the package that pip installs."""
PLAN = "stages=[probe,plan]"
"""What `stratos plan` adds."""


def run_hydra(words: Sequence[str], *, is_plan: bool = False) -> None:
    """Run what flags and overrides of Hydra ask for.

    Args:
        words: as they are typed.
        is_plan: the stages are those up to the plan, where the words name none.

    Raises:
        ConfigError: the command cannot be run; the message lists everything that is wrong.
        SystemExit: the run has failed.
    """
    words = take_flags(words)
    with stdout_kept():
        if "--version" in words:
            _print_version()
            return
        parser = get_args_parser()
        parser.prog = f"stratos {'plan' if is_plan else 'run'}"
        parser.usage = f"{parser.prog} +task=<name> [group=choice ...] [group.key=value ...]"
        args = _parsed(parser, words)
        if not (args.config_dir or args.config_path) and (folder := user_conf()) is not None:
            words = ["--config-dir", str(folder), *words]
            args = _parsed(parser, words)
        if is_plan and not args.help:
            words = _up_to_the_plan(words, args.overrides)
            args = _parsed(parser, words)
        with _typed(words):
            _obey(args)


def _parsed(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Read the words.

    Raises:
        ConfigError: there is no such flag.
        SystemExit: argparse has told another error.
    """
    args, unknown = parser.parse_known_args(words)
    for word in unknown:
        if word.startswith("-"):
            near = did_you_mean(word, [*parser._option_string_actions, *SCREEN_FLAGS, "--version"])
            raise ConfigError(f"{word}: there is no such flag.{near} stratos --help lists them.")
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return args


def _up_to_the_plan(words: list[str], overrides: list[str]) -> list[str]:
    """Return the words with the stages of a plan beside their overrides, which may name others."""
    if any(override.lstrip("+~").partition("=")[0] == "stages" for override in overrides):
        return words
    # Hydra's parser takes overrides that stand together.
    at = words.index(overrides[0]) if overrides else len(words)
    return [*words[:at], PLAN, *words[at:]]


@contextlib.contextmanager
def _typed(words: Sequence[str]) -> Iterator[None]:
    """Let the words be those of this process, where Hydra reads them."""
    before = sys.argv
    sys.argv = [before[0], *words]
    try:
        yield
    finally:
        sys.argv = before


def _print_version() -> None:
    try:
        print(f"stratos {metadata.version(DISTRIBUTION)}")
    except metadata.PackageNotFoundError:
        raise ConfigError(
            "Stratos is not installed in this Python, so its version is unknown. If pip is still "
            "running, wait for it to finish. Otherwise type, in the folder of Stratos: "
            f"{sys.executable} -m pip install -e ."
        ) from None


def _obey(args: argparse.Namespace) -> None:
    if args.experimental_rerun:
        raise ConfigError(
            "--experimental-rerun would unpickle a file. Give the same command again with "
            "hydra.run.dir=<folder> instead: it resumes where it stopped."
        )
    if (args.resolve or args.package) and not args.cfg:
        raise ConfigError("--resolve and --package only work with --cfg. Type: --cfg job --resolve")
    if args.help:
        if args.overrides:
            from stratos.cli.help import group_page

            print(group_page(args.overrides, args.config_dir))
            return
        from stratos.cli.help import page

        print(page(args.config_dir))
        _end_if_unwritten()
        return
    if any((args.cfg, args.info, args.hydra_help, args.shell_completion)):
        check_places(args)
        run()
        _end_if_unwritten()
        return
    from stratos.cli.check import check

    if (unseeded := check(args, holds_another)) is not None:
        # Behind what was typed, as seed=null: of one key the last word counts.
        typed = args.overrides
        at = sys.argv.index(typed[0]) + len(typed) if typed else len(sys.argv)
        sys.argv = [*sys.argv[:at], seeded(unseeded), *sys.argv[at:]]
    try:
        run()
    finally:
        write_page()


def seeded(unseeded: Unseeded) -> str:
    """Return the override that gives a command the seed which it was typed without."""
    from stratos.run.drawn_seed import drawn_seed

    return f"seed={drawn_seed(unseeded.folder, unseeded.mirror, unseeded.records)}"


def holds_another(config: Config, folder: Path, key: str) -> Reason | None:
    """Return why a run may not begin in a folder that is there; None if it may."""
    from stratos.run.stages import refusal

    return refusal(config, folder, key)


def _end_if_unwritten() -> None:
    """End with 1 where all that a command does is to say something, and it could not be said."""
    sys.stdout.flush()
    if isinstance(sys.stdout, Guarded) and sys.stdout.trouble is not None:
        sys.exit(1)


@hydra.main(version_base=VERSION_BASE, config_path=str(conf_dir()), config_name=CONFIG_NAME)
def run(composed: DictConfig) -> float | None:
    """Run the stages of one job; return the number that a sweep compares jobs by."""
    settings = HydraConfig.get()
    guard_logs()
    try:
        return run_composed(composed)
    except Exception as error:
        say_failed(Path(settings.runtime.output_dir), error)
        if not isinstance(error, StratosError):
            raise
        print(visible(str(error)), file=sys.stderr)
        if settings.mode == RunMode.MULTIRUN and isinstance(error, NothingLearntError):
            return 0.0  # which a sweeper compares with the accuracy of other jobs
        if settings.mode == RunMode.MULTIRUN:
            # Marks this job as failed; the others go on.
            raise CompactHydraException(redact_text(str(error))) from None
        sys.exit(1)


def run_composed(composed: DictConfig) -> float | None:
    """Run the stages of one job in the folder that Hydra has made, where its last words stay.

    Returns:
        The number that a sweep compares jobs by.

    Raises:
        StratosError: a stage cannot go on; what was made before it is kept.
    """
    from stratos.cli.build import build
    from stratos.pipeline import run_pipeline
    from stratos.run.stages import OtherTaskError
    from stratos.run.stored_config import HYDRA, remember

    settings = HydraConfig.get()
    # The comparison of a sweep shows what a job died of.
    folder = Path(settings.runtime.output_dir)
    last_words = folder / "error.txt"
    guard_files(folder / HYDRA)  # at once: whoever is killed in `build` leaves no secret there
    remember(folder)
    try:
        try:
            config = build(composed)
        finally:  # what Hydra kept of the command
            guard_files(folder / HYDRA)
            if settings.mode == RunMode.MULTIRUN:
                guard_files(Path(settings.sweep.dir))
        with contextlib.suppress(OSError):
            last_words.unlink(missing_ok=True)
        with disk_errors("run", folder, config.cache_dir), required():
            return run_pipeline(config)
    except Exception as error:
        # Else the folder is that of another run, which goes on well.
        if not isinstance(error, BusyError | OtherTaskError):
            with contextlib.suppress(OSError):
                text = redact_text(visible(str(error))) or type(error).__name__
                last_words.write_text(f"{text}\n")
        raise
