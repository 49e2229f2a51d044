"""The cascade as a front of a hosted student: `stratos serve RUN --cascade`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from stratos.contrib.cascade.endpoint import options
from stratos.contrib.cascade.endpoint.made import check_alone, front_of
from stratos.deploy.hosted_server import FrontProgram, FrontStatus, Hosted, ServerFront


class CascadeFront(ServerFront):
    """The program that asks the teacher where the student is unsure."""

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add --cascade and the limits of its teacher."""
        options.add_options(parser)

    def keep_options(self, args: argparse.Namespace, before: Hosted) -> None:
        """Let a cascade that is started again be one."""
        options.keep_options(args, before)

    def program(
        self, args: argparse.Namespace, bundle: Path, cache_dir: Path, before: Hosted | None
    ) -> FrontProgram | None:
        """Return the endpoint, for its student as it was measured."""
        words = options.typed(args)
        if not args.cascade:
            return None
        program = front_of(bundle, cache_dir, words)
        options.check_as_measured(args, program.run)
        check_alone(bundle, cache_dir, before)
        return program

    def differing(self, before: Hosted, args: argparse.Namespace) -> list[str]:
        """Return the options of a cascade that differ."""
        return options.other_than(before, args)

    def status(self, state: Path, hosted: Hosted, answers: bool) -> FrontStatus:
        """Return what it has asked and spent; nothing where it does not answer."""
        is_cascade = options.is_cascade(hosted)
        facts = options.facts_now(hosted) if is_cascade and answers else None
        return FrontStatus(
            "" if facts is None else f"cascade: {options.facts_text(facts)}",
            {"is_cascade": is_cascade, "cascade": None if facts is None else asdict(facts)},
        )
