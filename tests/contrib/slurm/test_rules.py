"""What the check says of `executor=slurm` before anything runs."""

from checked import problems


def test_a_student_that_is_kept_is_served_by_a_script_on_a_node(snapshot):
    typed = ("executor=slurm", "deploy.keep=true", "stages=[probe,plan]")
    assert problems("+task=mahjong", *typed) == snapshot
