"""`stratos cascade RUN --accuracy 0.95`: when to ask the teacher, and what that costs."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from stratos.contrib.cascade.answered import answered
from stratos.contrib.cascade.verdict import cascade_of
from stratos.core.errors import StratosError
from stratos.core.printable import visible

PROMISED, REFUSED, CANNOT = 0, 1, 2


def main() -> None:
    """Print the cascade of a run; exit with 1 where nothing can be promised, 2 where it is none."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="stratos cascade",
        description="Choose below which confidence a student asks its teacher, so that a promised "
        "accuracy holds with a stated probability, and say what that costs. Nothing is asked.",
        epilog="example: stratos cascade outputs/<run> --accuracy 0.95",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of an evaluated run")
    parser.add_argument("--accuracy", type=float, required=True, help="share right, promised")
    parser.add_argument("--confidence", type=float, default=0.95, help="with which (default 0.95)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    told = parser.parse_args()
    try:
        for name in ("accuracy", "confidence"):
            if not 0 < getattr(told, name) < 1:
                raise StratosError(f"--{name}: type a share between 0 and 1, such as 0.95.")
        found = cascade_of(answered(told.run), told.accuracy, told.confidence)
    except StratosError as error:
        print(visible(str(error)), file=sys.stderr)
        sys.exit(CANNOT)
    print(json.dumps(dataclasses.asdict(found)) if told.json else visible(found.text))
    sys.exit(PROMISED if found.is_promised else REFUSED)


if __name__ == "__main__":
    main()
