"""The main command as a user types it: what it writes, leaves and ends with."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import in_process
import pytest
from chat_server import KEY, ChatServer
from in_process import Done

from stratos.cli.verbs import summaries
from stratos.core.extensions import conf_dir, conf_dirs, shipped_choices
from stratos.core.process import locked

HEAVY = ("torch", "transformers", "lightning", "wandb", "pulp", "pandas", "plotly")
FAST = ("logger=none", "+task=mahjong", "cloud=aws")


def stratos(*argv: str, cwd: Path) -> Done:
    """Run the command in this process."""
    return in_process.stratos(*argv, cwd=cwd, env=env(cwd))


def process(*argv: str, cwd: Path, code: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own; with `code`, run that after it."""
    command = [sys.executable, "-m", "stratos", *argv]
    if code:
        text = f"import sys; from stratos.__main__ import main; main({argv!r}); "
        command = [sys.executable, "-c", text + code]
    return subprocess.run(
        command, cwd=cwd, env=os.environ | env(cwd), capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip


def env(cwd: Path) -> dict[str, str]:
    return {"STRATOS_CACHE": str(cwd / "cache"), "WANDB_MODE": "offline"}


# --- help and start-up ----------------------------------------------------------------------------


def test_help_is_a_page_to_read(tmp_path):
    mine = tmp_path / "mine" / "task"
    mine.mkdir(parents=True)
    (mine / "my_own.yaml").write_text("{}\n")
    done = stratos("--help", "--config-dir", "mine", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Stratos: distil a small language model")
    groups = {path.name for folder in conf_dirs() for path in folder.iterdir() if path.is_dir()}
    for group in groups - {"hydra"}:
        at = next(i for i, line in enumerate(lines) if line.lstrip(" +").startswith(f"{group}="))
        end = next(i for i in range(at + 1, len(lines)) if not lines[i].startswith(" " * 8))
        shown = {word for line in lines[at + 1 : end] for word in line.split()}
        shipped = set(shipped_choices(group))
        assert shipped <= shown and shown - shipped <= {"my_own"}, group
    assert "                   mahjong my_own" in done.stdout or "my_own" in done.stdout
    assert max(map(len, lines)) <= 110
    assert done.stdout.count("python -m stratos ") == 5  # the usage, the name, three examples
    at = lines.index(next(line for line in lines if line.startswith("Commands")))
    assert [line.split()[0] for line in lines[at + 1 : lines.index("", at)]] == list(summaries())


def test_help_that_is_cut_by_a_pipe_ends_without_a_traceback(tmp_path):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "stratos", "--help"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | env(tmp_path), stdout=write,
        stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


def test_the_commands_on_the_help_page_pass_the_check(tmp_path):
    import shlex

    from hydra._internal.utils import get_args_parser

    from stratos.cli.check import check
    from stratos.cli.help import EXAMPLES, OVERRIDES

    mine = tmp_path / "mine" / "task"
    mine.mkdir(parents=True)
    (mine / "my_task.yaml").write_text("_target_: stratos.tasks.mahjong.MahjongTask\n")
    for command in EXAMPLES:
        argv = [word.replace("./mine", str(tmp_path / "mine")) for word in shlex.split(command)[3:]]
        check(get_args_parser().parse_args(argv))
    check(get_args_parser().parse_args(["+task=mahjong", *OVERRIDES]))


@pytest.mark.slow
@pytest.mark.parametrize("flags", [("--help",), ("--cfg", "job")])
def test_start_up_costs_no_more_than_hydra_itself(tmp_path, flags):
    bare = tmp_path / "bare.py"
    bare.write_text(
        "import hydra\n"
        "from hydra.core.config_store import ConfigStore\n"
        "ConfigStore.instance().store('rooms', {})\n"
        f"@hydra.main(version_base='1.3', config_path={str(conf_dir())!r}, config_name='config')\n"
        "def main(cfg): ...\n"
        "main()\n"
    )
    pairs = [
        (
            cpu_seconds("-m", "stratos", *flags, cwd=tmp_path),
            cpu_seconds(str(bare), *flags, cwd=tmp_path),
        )
        for _ in range(12)
    ]  # in turn: what else runs on the machine slows both, and the least of few is slowed, too
    ours, theirs = (min(times) for times in zip(*pairs, strict=True))
    assert ours <= 1.5 * theirs


def cpu_seconds(*argv: str, cwd: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *argv], cwd=cwd, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("flags", [("--help",), ("--cfg", "job", "+task=mahjong")])
def test_start_up_imports_nothing_heavy(tmp_path, flags):
    code = f"sys.stderr.write(' '.join(set({HEAVY!r}) & set(sys.modules)))"
    done = process(*flags, cwd=tmp_path, code=code)
    assert (done.returncode, done.stderr) == (0, "")


# --- exit codes and messages ----------------------------------------------------------------------


def test_no_task_lists_the_tasks(tmp_path):
    done = stratos(cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    tasks = ", ".join(shipped_choices("task"))
    assert done.stderr == f"Pick a task: +task=<name>. There are: {tasks}.\n"
    assert list(tmp_path.iterdir()) == []


def test_several_mistakes_are_one_message(tmp_path):
    done = stratos("+task=mahjon", "cloud=awss", "limits.budget_usd=-1", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    heads = [line.partition(":")[0].strip() for line in done.stderr.splitlines()]
    assert heads[1:] == ["+task=mahjon", "cloud=awss", "limits.budget_usd=-1"]
    assert list(tmp_path.iterdir()) == []


def test_a_stage_without_what_it_needs_says_which_to_add(tmp_path, snapshot):
    done = stratos(*FAST, "stages=[plan]", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.replace(str(tmp_path), "{cwd}") == snapshot


def test_a_trainer_that_cannot_run_here_is_refused_before_a_teacher_is_asked(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    run = stratos(*FAST, "trainer=qlora", f"hydra.run.dir={tmp_path / 'run'}", cwd=tmp_path)
    assert run.returncode == 1
    assert "pip install bitsandbytes" in run.stderr
    assert not (tmp_path / "run" / "probe.json").exists()
    plan = stratos(*FAST, "trainer=qlora", "stages=[]", cwd=tmp_path)
    assert "bitsandbytes" not in plan.stderr + plan.stdout


def test_what_could_be_known_is_refused_before_a_teacher_is_asked(tmp_path, snapshot):
    run = ("hydra.run.dir=run", *FAST)
    (tmp_path / "file").touch()
    for wrong in (
        ("trainer=lora", "student=stratos_1m"),
        (f"paths.cache_dir={tmp_path}/file/cache",),
    ):
        done = stratos(*run, *wrong, cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr.replace(str(tmp_path), "{cwd}") == snapshot
    assert not (tmp_path / "run" / "probe.json").exists()


def test_broken_lines_are_warned_of_once_before_a_teacher_is_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("KEY_OF_TEST", KEY)
    rows = [json.dumps({"question": f"Is {i} a number?", "answer": "yes"}) for i in range(60)]
    rows += ["{", json.dumps({"question": "is 7 a number?", "answer": "no"})]
    (tmp_path / "mine.jsonl").write_text("\n".join(rows))
    with ChatServer() as server:
        server.says = "Answer: yes"
        done = stratos(
            "logger=none", "cloud=aws", "+task=jsonl", "task.path=mine.jsonl",
            "task.on_error=skip", "task.prompts=[zero_shot]", "teacher=endpoint",
            "teacher.model=parrot-large", f"teacher.base_url={server.base_url}",
            "teacher.api_key_env=KEY_OF_TEST", "student=stratos_300k", "strategy=alignment",
            "stages=[probe,plan,synthesize]", "hydra.run.dir=run", cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert said.count("warning    mine.jsonl has 3 broken lines:") == 1
    assert said.index("warning    mine.jsonl") < said.index("\nto beat    ")
    corpus = json.loads((tmp_path / "run" / "synthesize.json").read_text())["record"]
    assert corpus["refused"]["broken line"] == 3
    kept = json.loads((tmp_path / "run" / "warnings.json").read_text())
    whole = kept["probe"][0]  # of which the screen has one line
    assert whole.startswith("mine.jsonl has 3 broken lines:")
    assert "line 8 and line 62: one question" in whole and "line 61: not JSON" in whole


def test_plan_alone_reads_the_probe_and_imports_nothing_heavy(probed):
    heavy = ("torch", "wandb", "scipy", "sklearn")
    code = f"print('loaded', [name for name in {heavy} if name in sys.modules])"
    argv = (*FAST, "stages=[plan]", f"hydra.run.dir={probed}")
    done = process(*argv, cwd=probed.parent, code=code)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert any(
        line.startswith("to beat    smollm2, a teacher: 0.0% of 64 rows right,") for line in lines
    )
    assert "(made before)" in done.stdout
    assert any(line.startswith("plan       smollm2 → stratos_") for line in lines)
    assert "by injection" in done.stdout
    assert lines[-1] == "loaded []"
    assert "\x1b" not in done.stdout
    plan = json.loads((probed / "plan.json").read_text())
    assert plan["stage"] == "plan" and plan["record"]["strategy"] == "injection"

    # A record of a later stage, which plan does not need, is not read.
    (probed / "synthesize.json").write_text("{}")
    again = stratos(*argv, cwd=probed.parent)
    assert "data  " not in again.stdout
    assert again.returncode == 0
    assert " ".join(again.stdout.split()).count("(made before)") == 2
    assert json.loads((probed / "plan.json").read_text()) == plan


def test_a_record_is_made_again_when_corrupt_or_made_from_something_else(probed):
    argv = (*FAST, "stages=[plan]", f"hydra.run.dir={probed}")
    assert stratos(*argv, cwd=probed.parent).returncode == 0
    path = probed / "plan.json"
    first = json.loads(path.read_text())
    path.write_text(path.read_text()[:100])
    done = stratos(*argv, cwd=probed.parent)
    assert done.returncode == 0
    assert f"plan: {path} is corrupt" in " ".join(done.stdout.split())
    assert json.loads(path.read_text())["fingerprint"] == first["fingerprint"]

    done = stratos(*argv, "limits.budget_usd=50", cwd=probed.parent)
    assert done.returncode == 0
    assert "plan: limits.budget_usd has changed" in " ".join(done.stdout.split())
    assert json.loads(path.read_text())["fingerprint"] != first["fingerprint"]


def test_a_run_of_another_task_leaves_a_folder_as_it_is(probed):
    rows = probed.parent / "rows.jsonl"
    rows.write_text(
        "".join(json.dumps({"question": f"q {i}", "answer": i}) + "\n" for i in range(60))
    )

    def files() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in sorted(probed.rglob("*")) if p.is_file()}

    before = files()
    argv = ("logger=none", "+task=jsonl", f"task.path={rows}", "stages=[probe]")
    done = stratos(*argv, f"hydra.run.dir={probed}", cwd=probed.parent)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{probed}: ") and "another task, mahjong" in done.stderr
    assert files() == before

    sweep = probed.parent / "sweep"
    shutil.copytree(probed, sweep / "0")
    kept = (sweep / "0" / "probe.json").read_bytes()
    done = stratos("-m", *argv, f"hydra.sweep.dir={sweep}", cwd=probed.parent)
    assert done.returncode == 1
    assert "Leave hydra.sweep.dir out" in done.stderr
    assert (sweep / "0" / "probe.json").read_bytes() == kept
    assert not (sweep / "0" / "error.txt").exists()


def test_a_limit_that_nothing_meets_is_one_message(probed):
    argv = (*FAST, "stages=[plan]", f"hydra.run.dir={probed}", "limits.latency_ms=0.001")
    done = stratos(*argv, cwd=probed.parent)
    assert done.returncode == 1
    assert "latency" in done.stderr and "Traceback" not in done.stderr
    assert not (probed / "plan.json").exists()


@pytest.mark.kill
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_and_a_server_that_is_stopped_keep_what_is_finished(probed, how):
    (probed / "probe.json").unlink()
    command = [sys.executable, "-m", "stratos", *FAST, "stages=[probe]"]
    command += [f"hydra.run.dir={probed}", "teacher=smollm2"]
    with subprocess.Popen(
        command, cwd=probed.parent, env=os.environ | env(probed.parent), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
        # A shell's background jobs ignore Ctrl-C, and so would all that they start.
        preexec_fn=lambda: signal.signal(how, signal.SIG_DFL),
    ) as process:  # fmt: skip
        log = probed / "stratos.log"
        while not (log.exists() and "probe begins" in log.read_text()):
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(1.0)
        process.send_signal(how)
        told = time.monotonic()
        said, errors = process.communicate(timeout=60)
        took = time.monotonic() - told
    assert took < 5, "it ends within 3 s where nobody else keeps the machine busy"
    assert process.returncode == 128 + how
    assert "Interrupted." in said and "hydra.run.dir=" in said
    assert "Traceback" not in errors


def test_two_processes_do_not_share_a_run_folder(probed, snapshot):
    with locked(probed / ".lock"):
        done = stratos(*FAST, "stages=[plan]", f"hydra.run.dir={probed}", cwd=probed.parent)
    assert done.returncode == 1
    assert done.stderr.replace(str(probed), "{run}") == snapshot
    assert not (probed / "error.txt").exists(), "the run that works there has not failed"


# --- sweeps ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "pool"])
def test_a_sweep_goes_on_past_a_job_that_fails_and_is_compared(probed, launcher):
    command = stratos if launcher == "basic" else process
    done = command(
        "-m", *FAST, "stages=[plan]", f"paths.records_from={probed}",
        "limits.latency_ms=0.001,null", "hydra.sweep.dir=sweep", f"hydra/launcher={launcher}",
        cwd=probed.parent,
    )  # fmt: skip
    sweep = probed.parent / "sweep"
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and "latency" in done.stderr
    assert not (sweep / "0" / "plan.json").exists()
    assert (sweep / "1" / "plan.json").exists()
    assert "Sweep   sweep/index.html" in done.stdout
    assert (sweep / "index.html").stat().st_size > 1000
