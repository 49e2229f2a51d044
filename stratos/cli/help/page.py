"""The `--help` page: commands, groups, useful overrides and examples."""

from __future__ import annotations

import textwrap

from stratos.cli.compose import hydra_for
from stratos.cli.verbs import summaries

GROUPS = {
    "task": "what the student must learn (required)",
    "cloud": "where servers may be rented",
    "limits": "money, time, latency and accuracy",
    "objective": "the objective of the plan",
    "teacher": "the model to learn from, or auto",
    "student": "the model to train, or auto",
    "strategy": "the distillation strategy, or auto",
    "complexity": "how hard the task is",
    "trainer": "how training runs",
    "callbacks": "checkpoints, validation, early stop",
    "executor": "which machines do the work",
    "deploy": "how the student is served",
    "logger": "where metrics go",
    "paths": "where files go",
    "experiment": "a whole run under one name",
    "hparams_search": "a whole sweep under one name",
    "debug": "a short run for debugging",
}
OVERRIDES = {
    "limits.budget_usd=20": "dollars for everything, serving included",
    "limits.latency_ms=300": "95th percentile of one answer",
    "stages=[probe,plan]": "measure and plan, then stop",
    "trainer.max_tokens=2000000": "training tokens: accuracy against time",
    "hydra.run.dir=outputs/mine": "name the run folder; the same command resumes there",
}
EXAMPLES = {
    "python -m stratos +task=mahjong cloud=aws": "a student, served and measured",
    "python -m stratos -m +task=mahjong student=stratos_300k,stratos_1m hydra/launcher=pool": (
        "several students side by side, compared on one page"
    ),
    "python -m stratos --config-dir ./mine +task=my_task": (
        "your own task: ./mine/task/my_task.yaml"
    ),
}


def page(config_dir: str | None = None) -> str:
    """Return the help page, with the choices of the user's own folder among the others."""
    with hydra_for(config_dir) as hydra:
        choices = {
            group: sorted(hydra.config_loader.get_group_options(group))
            for group in hydra.list_all_config_groups()
            if not group.startswith("hydra")
        }
    known = {group: choices.pop(group) for group in GROUPS if group in choices}
    lines = [
        "Stratos: distil a small language model for a narrow task, within a budget.",
        "",
        "  python -m stratos +task=<name> [group=choice ...] [group.key=value ...]",
        "  stratos <command> ...",
        "",
        "Commands (python -m stratos is stratos, and run may be left out)",
    ]
    lines += [f"  {verb:<12} {summary}" for verb, summary in summaries().items()]
    lines += ["", "Choices of run and plan"]
    for group, names in {**known, **choices}.items():
        shown = f"{'+' if group == 'task' else ''}{group}="
        lines.append(f"  {shown:<16} {GROUPS.get(group, 'your own')}")
        lines += textwrap.wrap(
            " ".join(names), 90, initial_indent=" " * 19, subsequent_indent=" " * 19,
            break_on_hyphens=False,
        )  # fmt: skip
    lines += ["", "Five overrides worth knowing"]
    lines += [f"  {override:<27} {meaning}" for override, meaning in OVERRIDES.items()]
    lines += ["", "Examples"]
    for command, meaning in EXAMPLES.items():
        lines += [f"  {command}", f"      {meaning}"]
    lines += [
        "",
        "Flags",
        "  COMMAND --help     the arguments of a command",
        "  --help GROUP       every key of a group, with type, default and meaning; of a choice: "
        "--help trainer=lora",
        "  --json             one line of JSON on stdout at the end, all else on stderr",
        "  --version          the version of Stratos",
        "  --config-dir DIR   a folder of your own choices: DIR/<group>/<name>.yaml",
        "  --cfg job          print every key and value, and stop (with the overrides applied)",
        "  -m                 run once for each of several values: student=a,b",
        "  --hydra-help       the flags and settings of Hydra itself",
    ]
    return "\n".join(lines)
