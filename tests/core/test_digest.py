"""Which files of this machine a value of a task names."""

from stratos.core.digest import files_in


def test_a_text_that_no_file_can_be_named_by_names_none(tmp_path):
    """The disk refuses names of more than 255 bytes."""
    path = tmp_path / "rows.csv"
    path.touch()
    node = {
        "instruction": "Sort the post. " * 40,
        "zero": "\0",
        "path": str(path),
        "of": "~nobody/x",
    }
    assert [*files_in(node)] == [path]
