"""`python -m stratos`: compose, check, run, return one number."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from stratos.cli.compose import CONFIG_NAME, VERSION_BASE
from stratos.core.conf import conf_dir
from stratos.core.disk_errors import disk_errors
from stratos.core.errors import BusyError, ConfigError, StratosError
from stratos.core.os_signals import Terminated
from stratos.core.printable import visible
from stratos.core.redact import redact_text
from stratos.core.streams import Guarded, guard_files, guard_logs, guarded
from stratos.core.yamls import check_places
from stratos.run.lifecycle import leave, prepare
from stratos.run.one_line import say_failed, stdout_kept, take_flag

if TYPE_CHECKING:
    from stratos.config import Config
    from stratos.core.reasons import Reason

DISTRIBUTION = "stratos-llm"
"""Name of the package that pip installs."""


VERBS = {
    **{
        verb: f"stratos.cli.commands.{verb}"
        for verb in (
            "compare",
            "ledger",
            "report",
            "serve",
            "servers",
            "stage",
            "status",
            "sweep",
            "verify",
        )
    },
    **{
        verb: f"stratos.contrib.{verb}.command"
        for verb in (
            "cascade",
            "door",
            "drift",
            "gate",
            "logs",
        )
    },
    "calibration": "stratos.contrib.monitor.calibration",
    "dashboard": "stratos.contrib.monitor.dashboard",
}


def main() -> None:
    """Run what the command line asks for; exit with 2 if it cannot be, 1 if it fails."""
    with guarded():
        prepare()
        sys.argv = take_flag(sys.argv)
        with stdout_kept():
            _main()


def _main() -> None:
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    if verb in VERBS:
        sys.argv = [f"{sys.argv[0]} {verb}", *sys.argv[2:]]
        importlib.import_module(VERBS[verb]).main()
        return
    if "--version" in sys.argv[1:]:
        _say_version()
        return
    args = get_args_parser().parse_args()
    try:
        _obey(args)
    except ConfigError as error:
        print(visible(str(error)), file=sys.stderr)
        sys.exit(2)
    except Terminated as told:
        leave(told.exit_code)
    except KeyboardInterrupt:
        leave(130)
    except BrokenPipeError:  # whoever reads along has seen enough: `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _holds_another(config: Config, folder: Path, key: str) -> Reason | None:
    """Return why a run may not begin in a folder that is there; None if it may."""
    from stratos.run.other_task import refusal

    return refusal(config, folder, key)


def _say_version() -> None:
    try:
        print(f"stratos {metadata.version(DISTRIBUTION)}")
    except metadata.PackageNotFoundError:
        print(
            "Stratos is not installed in this Python, so its version is unknown. If pip is still "
            "running, wait for it to finish. Otherwise type, in the folder of Stratos: "
            f"{sys.executable} -m pip install -e .",
            file=sys.stderr,
        )
        sys.exit(2)


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
            from stratos.cli.help.keys import group_page

            print(group_page(args.overrides, args.config_dir))
            return
        from stratos.cli.help.page import page

        print(page(args.config_dir))
        _end_if_unwritten()
        return
    if any((args.cfg, args.info, args.hydra_help, args.shell_completion)):
        check_places(args)
        run()
        _end_if_unwritten()
        return
    from stratos.cli.check import check

    check(args, _holds_another)
    try:
        run()
    finally:
        from stratos.run.sweep import write_page

        write_page()


def _end_if_unwritten() -> None:
    """End with 1 where all that a command does is to say something, and it could not be said."""
    sys.stdout.flush()
    if isinstance(sys.stdout, Guarded) and sys.stdout.trouble is not None:
        sys.exit(1)


@hydra.main(version_base=VERSION_BASE, config_path=str(conf_dir()), config_name=CONFIG_NAME)
def run(composed: DictConfig) -> float | None:
    """Run the stages of one job; return the number that a sweep compares jobs by."""
    from stratos.cli.build import build
    from stratos.pipeline import run_pipeline
    from stratos.run.kept_config import HYDRA, remember
    from stratos.run.other_task import OtherTaskError

    settings = HydraConfig.get()
    guard_logs()
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
        with disk_errors("run", folder, config.cache_dir):
            return run_pipeline(config)
    except Exception as error:
        # Else the folder is that of another run, which goes on well.
        if not isinstance(error, BusyError | OtherTaskError):
            with contextlib.suppress(OSError):
                told = redact_text(visible(str(error))) or type(error).__name__
                last_words.write_text(f"{told}\n")
        say_failed(folder, error)
        if not isinstance(error, StratosError):
            raise
        print(visible(str(error)), file=sys.stderr)
        if settings.mode == RunMode.MULTIRUN:
            # Marks this job as failed; the others go on.
            raise CompactHydraException(redact_text(str(error))) from None
        sys.exit(1)


if __name__ == "__main__":
    main()
