r"""Is the strategy that `strategy=auto` takes as good as the better of those it may be forced to?

    python benchmarks/alignment/choice.py --student <folder> --teacher expert=outputs/<run>/bundle \
        --teacher between=<folder of a half-trained expert> --teacher blind=smollm2

For each teacher the main command runs three times with the same student, seed and tokens: with
`strategy=auto`, forced to alignment, and forced to injection. A teacher is the name of a config, or
a bundle. The forced alignment of a teacher none of whose answers is right has nothing to train on:
its student stays as it was, and counts with what it could do before. Injection does not ask the
teacher, so it is run once for all of them. A run whose folder is complete is not run again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from runs import AS_BEFORE, Result, keep_all, run_all, spread

STRATEGIES = ("auto", "alignment", "injection")


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--student", type=Path, required=True, help="folder of the weights to start"
    )
    parser.add_argument(
        "--teacher", action="append", required=True, metavar="NAME=CONFIG_OR_FOLDER"
    )
    parser.add_argument("--task", default="mahjong")
    parser.add_argument("--items", type=int, default=2000, help="questions of an alignment")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--tokens", type=int, default=750_000)
    parser.add_argument("--test-items", type=int, default=400)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("sweeps/choice"))
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    parser.add_argument("--tables", action="store_true", help="run nothing")
    options, extra = parser.parse_known_args()

    teachers = dict(one.split("=", 1) for one in options.teacher)
    shared = [
        f"+task={options.task}",
        "cloud=aws",
        "student=local",
        f"student.path={options.student.resolve()}",
        f"trainer.max_tokens={options.tokens}",
        *AS_BEFORE,
        "callbacks.validate_every_steps=0",
        f"evaluate.n_items={options.test_items}",
        *extra,
    ]
    first = next(iter(teachers))
    cases: dict[Path, list[str]] = {}
    for seed in options.seeds:
        for name, teacher in teachers.items():
            asked = [f"teacher={teacher}"]
            if Path(teacher).is_dir():
                asked = ["teacher=local", f"teacher.path={Path(teacher).resolve()}"]
                asked.append("teacher.batch_size=128")
            for strategy in STRATEGIES:
                if strategy == "injection" and name != first:
                    continue
                group = [f"strategy={strategy}"]
                if strategy == "alignment":
                    group += ["strategy.min_coverage=0", f"strategy.n_items={options.items}"]
                elif strategy == "auto":
                    group.append(f"strategy.candidates.alignment.n_items={options.items}")
                folder = _folder(options.out, name, strategy, seed)
                cases[folder] = [*shared, *asked, *group, f"seed={seed}"]
    if not options.tables:
        run_all(cases, options.jobs)
    _print(teachers, first, options)
    if options.keep:
        keep_all("alignment/choice", {folder.name: folder for folder in cases}, options.seeds)


def _folder(out: Path, teacher: str, strategy: str, seed: int) -> Path:
    return out / f"{teacher}-{strategy}-{seed}"


def _print(teachers: dict[str, str], first: str, options: argparse.Namespace) -> None:
    print("\n| teacher | coverage | auto took | auto | alignment | injection | behind the better |")
    print("|---|---|---|---|---|---|---|")
    for name in teachers:
        exact: dict[str, list[float]] = {}
        took: set[str] = set()
        coverage = "–"
        for strategy in STRATEGIES:
            of = first if strategy == "injection" else name
            for seed in options.seeds:
                found = Result.read(_folder(options.out, of, strategy, seed))
                auto = Result.read(_folder(options.out, name, "auto", seed))
                if found is not None:
                    exact.setdefault(strategy, []).append(found.exact.mean)
                elif auto is not None and strategy == "alignment":
                    exact.setdefault(strategy, []).append(auto.untouched.mean)
                if strategy == "auto" and found is not None:
                    took.add(found.plan.strategy)
                    coverage = f"{found.probe.exact.mean:.1%} of {found.probe.n_items}"
        cells = [spread(exact.get(strategy, [])) for strategy in STRATEGIES]
        pairs = zip(*(exact.get(strategy, []) for strategy in STRATEGIES), strict=False)
        behind = [max(forced) - chosen for chosen, *forced in pairs]
        print(
            f"| {name} | {coverage} | {', '.join(sorted(took))} | {' | '.join(cells)} "
            f"| {spread(behind)} |"
        )


if __name__ == "__main__":
    main()
