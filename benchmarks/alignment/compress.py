r"""An expert becomes the teacher of a smaller student: which signal teaches most at equal training?

    python benchmarks/alignment/compress.py --teacher outputs/<run>/bundle --student <folder>

The teacher is the bundle of an earlier run. Every student starts from the same weights, sees the
same number of tokens in the same order (a seed decides items and order), and is scored on the same
test items. Arms: cross-entropy on the teacher's verified text; forward and reverse KL and JSD from
its cached distribution; forward KL with hidden states matched; on-policy with reverse and with
forward KL. All arms are trained on `--items`, text and forward KL also on `--sizes`.

A run whose folder is complete is not run again. Printed are exact match on test items (mean and
standard deviation over seeds), the curves of exact match on validation items, and the teacher's
entropy; `--out` keeps every run folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean

from runs import AS_BEFORE, Result, keep_all, run_all, spread

ARMS = {
    "text": ["strategy=alignment"],
    "forward_kl": ["strategy=alignment_logits", "strategy.cache=topk"],
    "reverse_kl": [
        "strategy=alignment_logits",
        "strategy.cache=topk",
        "strategy.objective=reverse_kl",
    ],
    "jsd": ["strategy=alignment_logits", "strategy.cache=topk", "strategy.objective=jsd"],
    "hidden": ["strategy=alignment_logits", "strategy.hidden_match=0.1"],
    "on_policy": ["strategy=alignment_on_policy"],
    "on_policy_kl": ["strategy=alignment_on_policy", "strategy.objective=forward_kl"],
}
AT_EVERY_SIZE = ("text", "forward_kl")


def main() -> None:
    """Run what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", type=Path, required=True, help="bundle of an earlier run")
    parser.add_argument(
        "--student", type=Path, required=True, help="folder of the weights to start"
    )
    parser.add_argument("--task", default="mahjong")
    parser.add_argument(
        "--items", type=int, default=2000, help="questions that all arms learn from"
    )
    parser.add_argument("--sizes", type=int, nargs="*", default=[500, 8000])
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--tokens", type=int, default=750_000)
    parser.add_argument("--measure-every", type=int, default=46, help="steps")
    parser.add_argument("--test-items", type=int, default=400)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("sweeps/compress"))
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    parser.add_argument("--tables", action="store_true", help="run nothing")
    options, extra = parser.parse_known_args()

    cases: dict[Path, list[str]] = {}
    for seed in options.seeds:
        for size in (options.items, *options.sizes):
            for arm in options.arms:
                if size == options.items or arm in AT_EVERY_SIZE:
                    cases[_folder(options.out, arm, size, seed)] = [
                        f"+task={options.task}",
                        "cloud=aws",
                        "teacher=local",
                        f"teacher.path={options.teacher.resolve()}",
                        "teacher.batch_size=128",
                        "student=local",
                        f"student.path={options.student.resolve()}",
                        *ARMS[arm],
                        f"strategy.n_items={size}",
                        f"trainer.max_tokens={options.tokens}",
                        *AS_BEFORE,
                        f"callbacks.validate_every_steps={options.measure_every}",
                        f"evaluate.n_items={options.test_items}",
                        f"seed={seed}",
                        *extra,
                    ]
    if not options.tables:
        run_all(cases, options.jobs)
    results = {folder.name: one for folder in cases if (one := Result.read(folder)) is not None}
    _print_sizes(results, options)
    _print_curves(results, options)
    if options.keep:
        keep_all(
            f"alignment/compress_{options.task}",
            {folder.name: folder for folder in cases},
            options.seeds,
        )


def _folder(out: Path, arm: str, size: int, seed: int) -> Path:
    return out / f"{arm}-{size}-{seed}"


def _print_sizes(results: dict[str, Result], options: argparse.Namespace) -> None:
    """Print exact match on test items by arm and size."""
    if not results:
        return
    one = next(iter(results.values()))
    entropy = fmean(
        r.probe.entropy_nats for r in results.values() if r.probe.entropy_nats is not None
    )
    print(
        f"\nTeacher: {one.probe.card.n_params:,} parameters, {one.probe.exact.mean:.1%} of "
        f"{one.probe.n_items} validation items, {entropy:.4f} nat a token. Student: "
        f"{one.student.n_params:,} parameters, {one.untouched.mean:.1%} before "
        f"({one.untouched.source}).\n"
    )
    sizes = sorted({options.items, *options.sizes})
    print("| exact match on test items, % | " + " | ".join(f"{n:,} asked" for n in sizes) + " |")
    print("|---|" + "---|" * len(sizes))
    for arm in options.arms:
        cells = []
        for size in sizes:
            found = _seeds(results, options, arm, size)
            kept = f" ({fmean(r.corpus.n_items for r in found):,.0f} kept)" if found else ""
            cells.append(spread([r.exact.mean for r in found]) + kept)
        print(f"| {arm} | " + " | ".join(cells) + " |")


def _print_curves(results: dict[str, Result], options: argparse.Namespace) -> None:
    """Print exact match on validation items over the steps, for the size that all arms share."""
    curves: dict[str, dict[int, list[float]]] = {}
    for arm in options.arms:
        for found in _seeds(results, options, arm, options.items):
            for point in found.student.curve:
                if point.exact is not None:
                    curves.setdefault(arm, {}).setdefault(point.step, []).append(point.exact)
    steps = sorted({step for curve in curves.values() for step in curve})
    print(
        f"\n| validation, {options.items:,} asked, % | "
        + " | ".join(map(str, steps))
        + " | CPU s |"
    )
    print("|---|" + "---|" * (len(steps) + 1))
    for arm, curve in curves.items():
        cells = [spread(curve.get(step, [])) for step in steps]
        seconds = fmean(r.student.cpu_seconds for r in _seeds(results, options, arm, options.items))
        print(f"| {arm} | " + " | ".join(cells) + f" | {seconds:.0f} |")


def _seeds(
    results: dict[str, Result], options: argparse.Namespace, arm: str, size: int
) -> list[Result]:
    names = [_folder(options.out, arm, size, seed).name for seed in options.seeds]
    return [results[name] for name in names if name in results]


if __name__ == "__main__":
    main()
