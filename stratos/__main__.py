"""`python -m stratos`: compose, check, run, return one number."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from stratos.composing import CONFIG_NAME, VERSION_BASE, conf_dir
from stratos.errors import ConfigError, StratosError


def main() -> None:
    """Run what the command line asks for; exit with 2 if it cannot be, 1 if it fails."""
    # Read when torch loads. Threads that spin for long while they wait take several times the CPU
    # seconds wherever another process wants the cores too; threads that sleep at once wake too late
    # for the short loops of a small model. So they spin a few microseconds, then sleep.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    # What is under way is settled, and what is finished kept, as behind Ctrl-C.
    signal.signal(signal.SIGTERM, _terminate)
    args = get_args_parser().parse_args()
    try:
        _obey(args)
    except ConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except _Terminated:
        sys.exit(128 + signal.SIGTERM)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # whoever reads along has seen enough: `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


class _Terminated(KeyboardInterrupt):
    """SIGTERM: a server that is taken away, a container that is stopped."""


def _terminate(*_: object) -> None:
    raise _Terminated


def _obey(args: argparse.Namespace) -> None:
    if args.help:
        from stratos.help import page

        print(page(args.config_dir))
        return
    if any((args.cfg, args.info, args.hydra_help, args.shell_completion, args.experimental_rerun)):
        run()
        return
    from stratos.check import check

    check(args)
    try:
        run()
    finally:
        from stratos.sweep import write_page

        write_page()


@hydra.main(version_base=VERSION_BASE, config_path=str(conf_dir()), config_name=CONFIG_NAME)
def run(composed: DictConfig) -> float | None:
    """Run the stages of one job; return the number that a sweep compares jobs by."""
    from stratos.build import build
    from stratos.pipeline import run_pipeline

    # The comparison of a sweep shows what a job died of.
    last_words = Path(HydraConfig.get().runtime.output_dir) / "error.txt"
    try:
        last_words.unlink(missing_ok=True)
        return run_pipeline(build(composed))
    except Exception as error:
        with contextlib.suppress(OSError):
            last_words.write_text(f"{error or type(error).__name__}\n")
        if not isinstance(error, StratosError):
            raise
        print(error, file=sys.stderr)
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            # Marks this job as failed; the others go on.
            raise CompactHydraException(str(error)) from None
        sys.exit(1)


if __name__ == "__main__":
    main()
