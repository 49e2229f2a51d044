"""A submission that is cut short, or whose answer is lost, on a real SLURM."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from one_cluster import Cluster

from stratos.contrib.slurm import queue as slurm_queue
from stratos.contrib.slurm.executor import Slurm
from stratos.contrib.slurm.limits import NoNodeTakes
from stratos.core.errors import StratosError
from stratos.executors import submission
from stratos.executors.job import Job, JobSpec, State, UnknownSubmissionError, job_name

ON = Slurm(partition="main", cpus=1, memory_gib=0.5, hours=0.1)
SUBMITS = """
import sys
from pathlib import Path
from test_submit import ON, spec_in
ON.submit(spec_in(Path(sys.argv[1])))
"""


def spec_in(folder: Path) -> JobSpec:
    """Return a job that writes down that it has run."""
    done = f"open({str(folder / 'done')!r}, 'a').write('x')"
    return JobSpec(
        name=job_name(folder, "distill"), stage="distill", folder=folder, role="train", nodes=1,
        offer=None, hours=None, planned_hours=0.1, usd_per_hour=0.0,
        command=(sys.executable, "-c", done), env={},
    )  # fmt: skip


@pytest.fixture
def spec(slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobSpec:
    """Return a job, and have this process find the cluster."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("SLURM_CONF", slurm.env["SLURM_CONF"])
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{slurm.env['PATH']}")
    monkeypatch.setenv(submission.STATE, str(tmp_path / "state"))
    folder = tmp_path / "run with 'quotes' and 50% of it"
    (folder / "jobs").mkdir(parents=True)
    return spec_in(folder)


def sbatch(spec: JobSpec, then: str, before: str = '"$sbatch" "$@" >/dev/null') -> Path:
    """Put an `sbatch` on the PATH that does something after it has submitted; return its folder."""
    program = spec.folder.parent / "bin" / "sbatch"
    program.write_text(
        f"""#!/bin/bash
        sbatch=$(PATH=${{PATH#*:}} type -P sbatch)
        case " $* " in *--test-only*) exec "$sbatch" "$@" ;; esac
        {before}
        {then}
        """
    )
    program.chmod(0o755)
    return program.parent


TIMED_OUT = """
echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2
exit 1
"""


def ends(slurm: Cluster, job: Job) -> State:
    last = time.monotonic() + 60
    while slurm.jobs():
        assert time.monotonic() < last, slurm.jobs()
        time.sleep(0.2)
    return ON.status(job).state


def test_a_command_that_is_killed_behind_sbatch_leaves_a_job_that_runs(slurm, spec):
    sbatch(spec, "kill -9 $PPID")
    with slurm.drained():
        done = subprocess.run(
            [sys.executable, "-c", SUBMITS, str(spec.folder)], cwd=Path(__file__).parent,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == -9, done.stderr
        job = ON.submit(spec)
        assert not job.is_new, "it is found by its name"
    assert ends(slurm, job) is State.DONE, job.log.read_text()
    assert (spec.folder / "done").read_text() == "x"


def test_a_job_whose_answer_is_lost_is_no_refusal(slurm, spec):
    sbatch(spec, TIMED_OUT)
    job = ON.submit(spec)
    assert job.is_new
    assert ends(slurm, job) is State.DONE, job.log.read_text()
    assert (spec.folder / "done").read_text() == "x"


def test_a_job_that_appears_late_is_waited_for(slurm, spec):
    sbatch(spec, TIMED_OUT, '(sleep 2; exec "$sbatch" "$@") >/dev/null 2>&1 &')
    job = ON.submit(spec)
    assert job.is_new and ends(slurm, job) is State.DONE


def test_without_a_job_it_is_said_that_there_is_none(slurm, spec, monkeypatch, snapshot):
    monkeypatch.setattr(slurm_queue, "_APPEARS_S", 1.0)
    sbatch(spec, TIMED_OUT, "")
    with pytest.raises(StratosError) as unheard:
        ON.submit(spec)
    assert str(unheard.value).replace(str(spec.name), "<spec.name>") == snapshot
    (spec.folder.parent / "bin" / "sbatch").unlink()
    with pytest.raises(StratosError, match=r"distill: SLURM refused the job: .*It was asked for"):
        replace(ON, qos="none", constraint="none").submit(spec)
    assert not slurm.jobs()
    assert not list((spec.folder / "jobs/slurm").glob("*_ready.pkl"))


def test_what_nobody_can_tell_is_not_called_a_refusal(slurm, spec, monkeypatch):
    monkeypatch.setattr(slurm_queue, "_APPEARS_S", 1.0)
    folder = sbatch(spec, f"chmod +x {spec.folder.parent}/bin/squeue; {TIMED_OUT}")
    (folder / "squeue").write_text("#!/bin/bash\necho 'Unable to contact controller' >&2; exit 1\n")
    with slurm.drained():  # the job waits, so that it is there to be found
        with pytest.raises(UnknownSubmissionError) as unknown:
            ON.submit(spec)
        assert f"whether the job {spec.name} was submitted: it may wait or run" in str(
            unknown.value
        )
        assert f"stratos servers down {spec.name}" in str(unknown.value)
        (folder / "squeue").unlink()
        assert not ON.submit(spec).is_new
        ON.cancel(spec)


def test_a_job_that_did_not_find_what_to_run_may_be_submitted_again(spec, monkeypatch, tmp_path):
    log = tmp_path / "log"
    log.write_text(
        "RuntimeError: Waited for 60 seconds but could not find submitted jobs in path:\n7.pkl\n"
    )
    facts = {"JobState": "FAILED", "ExitCode": "1:0"}
    monkeypatch.setattr(slurm_queue, "job_facts", lambda *_: facts)
    status = ON.status(Job(spec, "7", "SLURM job 7", log))
    assert (status.state, status.text) == (
        State.LOST, "SLURM job 7 did not find what it was to run"
    )  # fmt: skip


# What runs on a node of SLURM, without SLURM: how it ends a stage when the time is over.

WARNED = """
import signal, sys
from stratos.contrib.slurm.queue import Work
work = Work((sys.executable, "-c", "import time; time.sleep(60)"), {})
def warn(*_):
    print(work.checkpoint().function.command[0] == sys.executable)
signal.signal(signal.SIGALRM, warn)
signal.setitimer(signal.ITIMER_REAL, 0.5)
print(work._run())
"""


def test_a_warning_reaches_a_stage_that_is_waited_for():
    """The handler runs in the midst of waiting for the process that it ends."""
    pytest.importorskip("submitit")
    done = subprocess.run(
        [sys.executable, "-c", WARNED], capture_output=True, text=True, timeout=50, check=True
    )
    assert done.stdout.split() == ["True", "-15"]


# What no node of SLURM can take is refused when the command starts, on a real SLURM.


def test_a_job_that_no_node_can_take_is_refused_before_anything_is_asked(on_slurm, slurm):
    before = on_slurm.ledger()
    on = ("executor=slurm", "executor.partition=main", "executor.gpus=8")
    assert on_slurm.start(*on).wait(120) == 2, on_slurm.said
    said = " ".join(on_slurm.said.split())
    assert (
        "executor.gpus=8: no node of SLURM can take such a job (allocation failure: Requested node "
        "configuration is not available)"
    ) in said
    assert "change executor.gpus, or executor.partition" in said
    assert on_slurm.ledger() == before and slurm.jobs() == []


def test_nodes_have_what_is_asked_for_or_not(slurm, monkeypatch):
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, slurm.env[name])
    held = (Slurm(), Slurm(gpus=2), Slurm(gres="gpu:h100:2", cpus=4), Slurm(memory_gib=7.5))
    for one in held:
        assert one.no_node_takes() is None
    for one in (
        Slurm(gpus=3),
        Slurm(gres="gpu:h100:3"),
        Slurm(gres="gpu:a100:1"),
        Slurm(gres="fpga:1"),
        Slurm(cpus=64, partition="urgent"),
        Slurm(memory_gib=900.0),
    ):
        assert isinstance(one.no_node_takes(), NoNodeTakes)
    with slurm.drained():  # it waits until they are back
        assert held[1].no_node_takes() is None
    assert Slurm(gpus=0).no_node_takes() is None
