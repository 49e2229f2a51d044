"""What the check says of `executor=skypilot` before anything runs."""

from checked import problems

from stratos.contrib.skypilot.executor import SkyPilot


def test_a_student_that_is_kept_is_served_by_skypilot():
    typed = ("executor=skypilot", "deploy.keep=true", "stages=[probe,plan]")
    assert problems("+task=mahjong", *typed) == [
        "deploy.keep=true hosts the student on this machine, and executor=skypilot is for others, "
        "which end with their stage. Leave deploy.keep out. When the run has ended, type: "
        f"{SkyPilot.serve_command}, or: stratos serve outputs/<run> (on this machine)."
    ]
