"""What the check says of `executor=slurm` before anything runs."""

from __future__ import annotations

from checked import problems


def test_a_student_that_is_kept_is_served_by_a_script_on_a_node() -> None:
    typed = ("executor=slurm", "deploy.keep=true", "stages=[probe,plan]")
    assert problems("+task=mahjong", *typed) == [
        "deploy.keep=true hosts the student on this machine, and executor=slurm is for others, "
        "which end with their stage. Leave deploy.keep out. When the run has ended, type: sh "
        "outputs/<run>/deploy/serve.sh (on the node that is to serve), or: stratos serve "
        "outputs/<run> (on this machine)."
    ]
