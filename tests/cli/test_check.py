"""Whole command lines: every shipped choice passes, and every mistake is reported at once."""

from __future__ import annotations

import dataclasses
import re
import shlex
import sys
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path

import pytest
import yaml
from hydra.types import RunMode
from omegaconf import OmegaConf

from stratos.catalog.readers import BUILTIN
from stratos.cli.build import GROUPS, build
from stratos.cli.compose import CONFIG_NAME, hydra_for
from stratos.cli.rules import missing_files
from stratos.core.extensions import conf_dirs, shipped_choices
from stratos.core.trust import ALLOW_TARGETS
from stratos.run.resume import files_of
from stratos.run.stages import PROBE
from stratos.teachers.openai_settings import retired, shipped_teachers
from tests.checked import problems, shape

SHIPPED = sorted(
    (path.parent.relative_to(folder).as_posix(), path.stem)
    for folder in conf_dirs()
    for path in folder.rglob("*.yaml")
    if path.parent != folder
)
ROWS = "".join(f'{{"question": "{i}+{i}", "answer": "{i % 2}"}}\n' for i in range(200))
CHATS = "".join(
    f'{{"prompt": "What is {i} and {i}?", "completion": "{i % 2}", "created": {10**9 + i}}}\n'
    for i in range(200)
)
CALLS = "".join(
    f'{{"question": "time {i}", "tools": [{{"name": "time"}}], "calls": [{{"name": "time"}}]}}\n'
    for i in range(200)
)


def sums(start: int) -> str:
    return "".join(
        f'{{"question": "What is {i} and {i}?", "answer": "It is {2 * i}.\\n#### {2 * i}"}}\n'
        for i in range(start, start + 200)
    )


TICKETS = "".join(
    f'{{"text": "ticket {i}", "label": "{"bug" if i % 2 else "praise"}"}}\n' for i in range(200)
)
ORDERS = "".join(f'{{"question": "{i} lamps", "answer": {{"n": {i}}}}}\n' for i in range(200))
SAMPLES = {
    "orders.jsonl": ORDERS,
    "conversations.jsonl": CHATS, "requests.jsonl": CHATS, "calls.jsonl": CALLS,
    "more.jsonl": '{"question": "Two and two?"}\n', "tickets.jsonl": TICKETS,
    "train.jsonl": sums(0), "test.jsonl": sums(200),
}  # fmt: skip
"""Files that the commands of choices name; any other one has the rows of a usual file."""
NOT_HERE = re.compile(
    "the hub cannot be reached and no copy is here|The catalog https://.* cannot be read|"
    "needs the package (reasoning-gym|tensorboard|mlflow)|"
    "there is no sbatch on the PATH|SLURM does not answer|submitit is not installed|"
    "no Ray dashboard answers at http|ray\\[default\\], which is not installed|"
    "takes SkyPilot|there is no rsync|SkyPilot may use no cloud|is not installed here"
)
"""What a machine may lack: a network, a login node, an extra."""


ALL_KEYS = (
    "callbacks", "cloud", "complexity", "deploy", "limits", "logger", "objective", "paths",
    "trainer",
)  # fmt: skip
"""Groups each of whose choices has every key."""


pytestmark = pytest.mark.usefixtures("own_folder")

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """What writes a file of the user's own; a module can then be imported."""

    def write(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if path.suffix == ".py":
            monkeypatch.syspath_prepend(str(tmp_path))
            monkeypatch.delitem(sys.modules, path.stem, raising=False)

    return write


# --- what is shipped ------------------------------------------------------------------------------


def retirement(name: str) -> str:
    """What the check says of a shipped teacher that has ended by today."""
    teacher = {teacher.name: teacher for teacher in shipped_teachers()}.get(name)
    reason = retired(teacher) if teacher is not None else None
    return f"teacher {name}: {reason}" if reason else ""


def command_of(group: str, name: str) -> list[str]:
    """Return what a choice's own file says to type, with itself among it."""
    text = shipped_choices(group)[name].read_text().replace("\\\n#", "")
    [line] = re.findall(r"^#   .*?python -m stratos (.*)$", text, re.MULTILINE)[:1]
    words = shlex.split(re.sub("<[^>]*>", "org/model", line))
    choice = f"{'+' if group == 'task' else ''}{group}={name}"
    return (
        words if choice in words else [w for w in words if not w.startswith(f"{group}=")] + [choice]
    )


def required_of(group: str, name: str) -> list[str]:
    """Return the keys that a choice leaves to the user."""
    node = yaml.safe_load(shipped_choices(group)[name].read_text())
    return [f"{group}.{key}" for key, value in node.items() if value == "???"]


@pytest.mark.parametrize(("group", "name"), SHIPPED)
def test_every_shipped_choice_passes(group, name, tmp_path):
    typed = command_of(group, name)
    for file in re.findall(r"[\w/]+\.\w+", " ".join(typed)):
        if not file.endswith((".csv", ".jsonl")) and Path(file).name not in SAMPLES:
            continue
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(SAMPLES.get(Path(file).name, ROWS))
    required = required_of(group, name)
    if required:
        given = [word for word in typed if word.partition("=")[0] not in required]
        complaints = [f"{key} is required: give it with {key}=…" for key in required]
        assert set(complaints) <= set(problems(*given))
    ended = retirement(name) if group == "teacher" else ""
    mistakes = [line for line in problems(*typed) if not NOT_HERE.search(line)]
    assert mistakes == ([ended] if ended else [])


@pytest.mark.parametrize("task", ["classify", "jsonl"])
@pytest.mark.parametrize("file", ["no.tsv", "no.csv.gz", "no.txt2", "no"])
def test_a_file_that_is_not_there_is_named_whatever_its_suffix(task, file):
    [problem] = problems(f"+task={task}", f"task.path={file}", "teacher=none")
    assert problem.startswith(f"task.path={file}") and "there is no such file" in problem


def test_a_teacher_words_only_what_a_task_has_worded(snapshot):
    typed = ("+task=mahjong", "strategy=injection", "strategy.wording=teacher")
    assert problems(*typed) == snapshot


def test_what_vllm_cannot_serve_is_said_before_anything_runs(monkeypatch, tmp_path, snapshot):
    def typed(*more: str) -> list[str]:
        words = ("+task=mahjong", "student=stratos_1m", "deploy=vllm", *more)
        clone = str(Path(__file__).parents[2])
        texts = (line.replace(str(tmp_path), "{venv}") for line in problems(*words))
        return [text.replace(clone, "{clone}") for text in texts]

    monkeypatch.delenv("STRATOS_VLLM", raising=False)
    monkeypatch.setattr("stratos.deploy.engines.base.find_spec", lambda name: None)
    assert typed() == snapshot(name="nowhere")
    monkeypatch.setenv("STRATOS_VLLM", str(tmp_path))
    assert typed() == snapshot(name="not in its environment")
    package = tmp_path / "lib" / "python3.12" / "site-packages" / "vllm"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    assert typed() == []
    assert typed("student.n_heads=8") == snapshot(name="heads too narrow")
    assert typed("student=auto") == []  # some of them are served


def test_places_of_one_teacher_differ(snapshot):
    served = ["+task=mahjong", "teacher=endpoint", "teacher.model=m"]
    assert problems(*served, "teacher.base_url=[http://a/v1,http://b/v1]") == []
    assert problems(*served, "teacher.base_url=[http://a/v1,http://a/v1/]") == snapshot


def test_a_teacher_behind_an_endpoint_has_the_name_of_its_model():
    served = ["+task=mahjong", "teacher=endpoint", "teacher.model=org/m"]
    with hydra_for(None) as hydra:
        typed = [*served, "teacher.base_url=http://a/v1", "paths=here", "paths.run_dir=run"]
        config = build(hydra.compose_config(CONFIG_NAME, typed, RunMode.RUN, False))
    assert config.teachers[0].name == config.plain["teacher"]["name"] == "org/m"
    assert problems(*served, "teacher.base_url=http://a/v1", "teacher.name=mine") == []


@pytest.mark.parametrize(("group", "name"), SHIPPED)
def test_every_shipped_yaml_opens_with_its_command(group, name):
    lines = shipped_choices(group)[name].read_text().splitlines()
    comments = []
    for line in lines:
        if not line.startswith("#"):
            break
        comments.append(line)
    if comments[0] == "# @package _global_":
        del comments[0]
    assert len(comments) >= 2, f"conf/{group}/{name}.yaml does not say what it is"
    command = next(line for line in comments if line.startswith("#   "))
    assert "python -m stratos " in command
    assert f"{group}={name}" in command or group in command


def test_every_key_of_a_group_can_be_overridden_without_a_plus():
    with hydra_for(None) as hydra:
        choices = [hydra.config_loader.get_group_options(group) for group in ALL_KEYS]
        for together in zip_longest(*choices):  # a composition takes as long for many groups
            typed = {group: name for group, name in zip(ALL_KEYS, together, strict=True) if name}
            overrides = [f"{group}={name}" for group, name in typed.items()]
            composed = hydra.compose_config(CONFIG_NAME, overrides, RunMode.RUN, True)
            for group, name in typed.items():
                fields = {field.name for field in dataclasses.fields(GROUPS[group])}
                assert set(composed[group]) == fields, f"conf/{group}/{name}.yaml"


def test_every_group_has_two_choices():
    with hydra_for(None) as hydra:
        for group in hydra.list_all_config_groups():
            if group != "executor" and not group.startswith("hydra"):  # all but one are of rooms
                assert len(hydra.config_loader.get_group_options(group)) >= 2, group


# --- mistakes -------------------------------------------------------------------------------------


def test_no_task_lists_the_tasks_and_the_users_own(tmp_path, write):
    write("mine/task/my_own.yaml", "_target_: stratos.tasks.mahjong.MahjongTask\n")
    [line] = problems("--config-dir", str(tmp_path / "mine"))
    assert line.startswith("Pick a task: +task=<name>. There are: ")
    assert {"mahjong", "my_own"} <= set(line.rstrip(".").partition("are: ")[2].split(", "))
    assert problems("--config-dir", "mine", "+task=my_own") == []


def test_all_mistakes_are_told_together():
    lines = problems(
        "+task=mahjongg", "clod=aws", "cloud=awss", "student=stratos_1mm", "limits.budget_usd=-5",
        "limits.accuracy=nan", "trainer.lr_moun=1", "trainer.batch_tokens=many",
        "stages=[plan,tran]", "cloud.catalog=./nowhere.csv", "limits.latency_ms=[1",
    )  # fmt: skip
    heads = [line.partition(":")[0] for line in lines]
    assert sorted(heads) == sorted(
        [
            "+task=mahjongg", "clod=aws", "cloud=awss", "student=stratos_1mm",
            "limits.budget_usd=-5", "limits.accuracy=nan", "trainer.lr_moun=1",
            "trainer.batch_tokens=many", "stages", "cloud.catalog=nowhere.csv",
            "limits.latency_ms=[1",
        ]
    )  # fmt: skip


MISTAKES = (
    "clod=aws",
    "objective=cheap",
    "task=mahjong",
    "+cloud=aws",
    "trainer.lr_moun=1",
    "+limits.budget=1",
    "seed.x=1",
    "logger=csv logger.mlflow.tracking_uri=http://h:5000",
    "hparams_search=pareto stages=[probe,plan]",
    "cloud.quotas.aws=3",
    "limits.deadline_hours=-1",
    "limits.accuracy=1.5",
    "seed=1.5",
    "logger=[]",
    "logger=[wandb,cvs]",
    "logger.mode=of",
    "stages=[probe,train]",
    "stages=[]",
    "student=stratos_300k,stratos_1m",
    "+task=mahjong experiment=mahjong_quick",
    "experiment=mahjong_quick +task=mahjong",
    "student=stratos_1m trainer.batch_tokens=512",
    "student=stratos_1m trainer.batch_tokens=100",
    "trainer.batch_tokens=512 ~student.candidates.stratos_1m ~student.candidates.stratos_3m",
    "trainer.ema=1.0",
    "trainer.max_time=10",
    "deploy.engine.formats=[q8_0]",
    "trainer.max_time=10s",
    "trainer.max_time=00:00:00:00",
    "trainer.gradient_clip_val=0.5",
    "trainer.num_epochs=3",
    "+trainer.packing=true",
    "lr=0.1",
    "strategy=alignment_on_policy strategy.lambda=1",
    "strategy.n_items=100",
    "+strategy.n_samples=2",
    "student=auto student.facts.n_params=3",
    "strategy.objective=jsd strategy=injection",
    "strategy.lambda=1",
    "objective=reverse_kl",
    "probe.n_items=8",
    "cloud.catalog=[builtin,./mine.csv]",
    "paths.records_from=earlier",
    "--config-dir mine",
    "hydra.run.dir=taken/run",
    "-m hydra.sweep.dir=taken/sweep",
    "-m hydra/launcher=poool",
)


@pytest.mark.parametrize("typed", MISTAKES)
def test_a_mistake_is_told_with_what_to_type(typed, tmp_path, snapshot):
    (tmp_path / "taken").write_text("a file")
    task = [] if "task=" in typed else ["+task=mahjong"]
    lines = problems(*typed.split(), *task)
    [line] = [line for line in lines if not line.startswith("student ")]
    assert shape(line).replace(str(tmp_path), "{cwd}") == snapshot


@pytest.mark.parametrize(
    "argv",
    [
        ["-m", "+task=mahjong", "student=stratos_300k,stratos_1m", "hydra/launcher=pool"],
        ["-m", "+task=mahjong", "student=choice(stratos_300k,stratos_1m)", "seed=range(0,3)"],
        ["-m", "+task=mahjong", "student=glob(stratos_*)"],
        ["-m", "+task=mahjong", "limits.budget_usd=1,2,null", "hydra.launcher.n_jobs=3",
         "hydra/launcher=pool", "hydra.sweep.dir=s"],
        ["+task=mahjong", "stages=plan", "trainer.max_tokens=2e6", "hydra.run.dir=r"],
        ["+task=mahjong", "cloud=multi", f"cloud.catalog=file://{BUILTIN}",
         "cloud.regions=us-east-1"],
        ["+task=mahjong", "hydra.job.chdir=false"],
        ["experiment=mahjong_quick", "task=mahjong"],
        ["+task=mahjong", "+hydra.job.env_set.A=b"],
        # as the messages above say
        ["+task=mahjong", "student=stratos_1m", "trainer.batch_tokens=512",
         "student.context_length=512"],
        ["+task=mahjong", "trainer.max_time=00:01:30:00", "trainer.ema=0"],
        ["+task=mahjong", "strategy.candidates.alignment.n_items=100"],
        ["+task=mahjong", "+student.candidates.stratos_1m.facts.n_params=3"],
        ["+task=mahjong", "strategy=alignment_logits", "strategy.objective=reverse_kl"],
        ["+task=mahjong", "strategy=auto_white_box",
         "strategy.candidates.alignment_on_policy.lmbda=1"],
    ],
)  # fmt: skip
def test_what_is_right_passes(argv):
    assert problems(*argv) == []


def test_every_value_of_a_sweep_is_checked(snapshot):
    typed = ("student=stratos_300k,stratos_9m", "trainer.lr_muon=0.1,x,-1")
    assert [shape(line) for line in problems("-m", "+task=mahjong", *typed)] == snapshot


def test_a_sweep_in_a_file_is_checked_too(write, snapshot):
    write(
        "mine/hparams_search/wrong.yaml",
        "# @package _global_\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n"
        "      limits.accuracy: 0.5,1.5\n",
    )
    assert problems("--config-dir", "mine", "+task=mahjong", "hparams_search=wrong") == snapshot


# --- whose code is run ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    ["os.system", "stratos.config.os.system", "stratos.tasks.mahjong.Nothing",
     "stratos.cli.build.read", "stratos.cli.check.Path"],
)  # fmt: skip
def test_only_trusted_classes_are_made(write, target, snapshot):
    write("mine/task/evil.yaml", f"_target_: {target}\n")
    assert problems("--config-dir", "mine", "+task=evil") == snapshot


def test_a_class_of_the_wrong_kind_is_refused(write, snapshot):
    write("mine/task/odd.yaml", "_target_: stratos.config.ComplexityConfig\n")
    assert problems("--config-dir", "mine", "+task=odd") == snapshot


@pytest.mark.parametrize(
    "body",
    ["def items(self, *_): return []", "items = messages = parse = score = print"],
    ids=["no methods", "no name"],
)
def test_a_task_that_is_half_written_is_told_what_it_lacks(monkeypatch, body, snapshot, write):
    write(
        "my_half.py",
        "from dataclasses import dataclass\n"
        "from stratos.tasks.base import Task\n"
        "@dataclass(frozen=True)\n"
        f"class Mine(Task):\n    {body}\n",
    )
    write("mine/task/half.yaml", "_target_: my_half.Mine\n")
    monkeypatch.setenv(ALLOW_TARGETS, "my_half")
    assert problems("--config-dir", "mine", "+task=half") == snapshot


def test_a_class_of_the_users_own_is_made_once_it_is_allowed(monkeypatch, snapshot, write):
    write(
        "my_code.py",
        "from dataclasses import dataclass\n"
        "from stratos.tasks.mahjong import MahjongTask\n"
        "@dataclass(frozen=True)\n"
        "class Mine(MahjongTask):\n"
        "    name: str = 'mine'\n",
    )
    write("mine/task/own.yaml", "_target_: my_code.Mine\n")
    argv = ("--config-dir", "mine", "+task=own")
    assert problems(*argv) == snapshot
    monkeypatch.setenv(ALLOW_TARGETS, "my_code.")
    assert problems(*argv) == []


def test_a_broken_file_of_the_users_own_is_named(write, snapshot):
    write("mine/limits/tab.yaml", "budget_usd: 1\n\tx: 2\n")
    write("mine/limits/loop.yaml", "defaults: [none]\nbudget_usd: ${limits.nothing}\n")
    [line] = problems("--config-dir", "mine", "+task=mahjong", "limits=tab")
    assert line.startswith("limits=tab: ")
    assert "line 2" in line and "tab.yaml" in line
    assert problems("--config-dir", "mine", "+task=mahjong", "limits=loop") == snapshot


# --- what is built --------------------------------------------------------------------------------


def test_what_is_built_is_typed_and_plain_and_holds_no_secret(monkeypatch):
    from hydra.core.hydra_config import HydraConfig

    monkeypatch.setenv("MY_API_KEY", "very-secret-value")
    overrides = ["+task=mahjong", "cloud=aws", "limits.budget_usd=20", "stages=[plan,probe]"]
    overrides += ["logger.project=${oc.env:MY_API_KEY}"]
    with hydra_for(None) as hydra:
        composed = hydra.compose_config("config", overrides, RunMode.RUN, True)
        OmegaConf.update(composed, "hydra.runtime.output_dir", "/run", force_add=True)
        HydraConfig.instance().set_config(composed)
        config = build(composed)
    assert config.limits.budget_usd == 20.0 and isinstance(config.limits.budget_usd, float)
    assert config.stages == ("probe", "plan")
    assert config.task.name == "mahjong"
    assert [student.name for student in config.students] == [
        "stratos_300k", "stratos_1m", "stratos_3m", "smollm2_135m", "smollm2_360m",
        "qwen2_5_0_5b", "qwen3_0_6b", "llama3_2_1b", "qwen3_1_7b"]  # fmt: skip
    assert config.plain["cloud"]["providers"] == ["aws"]
    assert config.logger.project == "very-secret-value"
    assert "very-secret-value" not in str(config.plain)


# --- a hint is what to type: followed, it passes --------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("stages=probe,plan", r"Type '(stages=\[probe,plan\])'"),
        ("task=mahjong", r"Write it with a \+: (\S+)$"),
        ("+cloud=aws", r"Write it without the \+: (\S+)$"),
        ("limits.BUDGET_USD=3", r"Did you mean (budget_usd)\?$"),
        ("limits.bugdet_usd=3", r"Did you mean (budget_usd) or "),
        ("student=Stratos_1m", r"Did you mean (stratos_1m)\?"),
        ("strategy.n_samples=2", r"type (strategy\.candidates\.\S+)"),
        ("strategy.lambda=1", r"type (strategy=\S+ strategy\.\S+=1) or"),
        ("cloud.quotas.aws=3", r"type '(cloud\.quotas=\{aws: 3\})'"),
        ("student.fit.depth=true", r"name one: (student=\S+ student\.fit\.depth=true)$"),
        ("strategy=pseudo_labels", r"or type (strategy=\S+)\.$|Type (strategy=\S+)\.$"),
    ],
)
def test_a_hint_that_is_followed_passes(wrong, hint):
    needs_task = not wrong.startswith(("task=", "+task="))
    argv = ["+task=mahjong"] if needs_task else []
    argv += ["cloud=multi"] if wrong.startswith("cloud.") else []
    [message] = [line for line in problems(*argv, wrong) if not line.startswith("Pick a task")]
    match = re.search(hint, message)
    assert match is not None, message
    typed = next(line for line in match.groups() if line is not None)
    if "=" not in typed.partition(" ")[0]:  # a word in the place of the one that was meant
        key, _, right = wrong.partition("=")
        in_key = "." in key
        typed = f"{key.rpartition('.')[0]}.{typed}={right}" if in_key else f"{key}={typed}"
    words = typed.split() if re.match("(strategy|student)=", typed) else [typed]
    assert problems(*argv, *words) == [], message


def test_a_student_that_has_no_vocabulary_is_not_told_to_write_a_plus():
    messages = problems("+task=mahjong", "student=encoder", "student.fit.vocabulary=true")
    [message] = [line for line in messages if line.startswith("student.fit")]
    assert "this one has none that can be cut so" in message


def test_a_sweep_that_lacks_its_flag_runs_with_it():
    argv = ["+task=mahjong", "student=stratos_300k,stratos_1m"]
    [line] = problems(*argv)
    assert line.endswith("add -m.")
    assert problems(*argv, "-m") == []


@pytest.mark.parametrize("task", ["classify", "chat"])  # whose instruction is empty
def test_a_text_with_commas_is_no_sweep(task):
    argv = [f"+task={task}", "task.path=rows.csv", "task.instruction=Sort it, please, by tone."]
    [line] = [line for line in problems(*argv) if "instruction" in line]
    assert "instruction_path=<file>" in line
    typed = 'task.instruction="Sort it, please, by tone."'
    assert not any("instruction" in line for line in problems(*argv[:2], typed))


def test_an_instruction_is_read_from_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text(ROWS)
    Path("said.txt").write_bytes(b"\xef\xbb\xbfAdd up, and\r\nsay 'odd' or \"even\".\r\n")
    Path("empty.txt").write_bytes(b"\xef\xbb\xbf \r\n")
    Path("nul.txt").write_bytes(b"Add\0up")
    Path("rows.txt").write_bytes(b"Add up. " * 200_000)
    argv = ["+task=jsonl", "task.path=rows.jsonl", "cloud=local"]
    faults = {
        "tell.txt": "no such file",
        "empty.txt": "empty",
        ".": "folder",
        "nul.txt": "UTF-8 text",
        "rows.txt": "1.6 MB",
    }
    for name, fault in faults.items():
        [line] = problems(*argv, f"task.instruction_path={name}")
        assert line.startswith(f"task.instruction_path={name}: ") and fault in line
    with hydra_for(None) as hydra:
        words = [*argv, "task.instruction_path=said.txt", "paths=here", "paths.run_dir=run"]
        config = build(hydra.compose_config(CONFIG_NAME, words, RunMode.RUN, False))
    assert config.task.instruction == "Add up, and\nsay 'odd' or \"even\"."
    assert config.plain["task"]["instruction"] == config.task.instruction
    assert Path("said.txt").absolute() in files_of(PROBE, config), "a job elsewhere reads it"


def test_a_file_that_is_not_there_has_those_beside_it_that_look_like_it(tmp_path, snapshot):
    for name in ("tickets.csv", "prices.csv", "notes.txt"):
        (tmp_path / name).write_text("text,label\na,b\n")
    for typed in ("ticket.csv", f"{tmp_path}/Tickets.jsonl", "mails.csv", "no/ticket.csv"):
        [line] = missing_files({"task": {"path": typed}})
        assert line.replace(str(tmp_path), "{cwd}") == snapshot
        assert ("tickets.csv" in line) is (typed not in ("mails.csv", "no/ticket.csv"))


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("deploy.engine._target_=stratos.deploy.engines.llamacpp.Nothing", "cannot be imported"),
        ("deploy.engine._target_=stratos.executors.here.Here", "expected a class that is Engine"),
        ("deploy.engine.formats=[q5]", "deploy.engine.formats[0]=q5: expected one of f32, f16,"),
        ("+deploy.engine.slots=2", "deploy.engine.slots: there is no such key."),
    ],
)  # fmt: skip
def test_a_serving_engine_that_there_is_not_is_told(typed, message):
    lines = problems("+task=mahjong", "deploy=llamacpp", typed)
    assert any(message in line for line in lines), lines
