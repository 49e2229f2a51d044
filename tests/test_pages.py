"""What pages say of a room of contrib is left out where the room is not here, and nothing else."""

from pages import DOCUMENTS, contrib_pages, text_of

PAGE = """\
# Where it runs
Jobs of [SLURM](contrib/slurm.md) are
submitted here:

    stratos slurm

```bash
stratos slurm again
```

And without it:

    stratos here

| you want | you type |
|---|---|
| SLURM | `slurm` ([page](contrib/slurm.md#nodes)) |
| both | `both` ([here](contrib/ray.md), [there](contrib/slurm.md)) |
| Ray | `ray` ([page](contrib/ray.md)) |

- [SLURM](contrib/slurm.md) has
  queues.
- Ray has none.
"""
LEFT = """\
# Where it runs
And without it:

    stratos here

| you want | you type |
|---|---|
| Ray | `ray` ([page](contrib/ray.md)) |

- Ray has none.
"""


def test_rows_paragraphs_and_items_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr("pages.CONTRIB", tmp_path / "contrib")
    (tmp_path / "contrib").mkdir()
    for name in ("slurm", "ray"):
        (tmp_path / "contrib" / f"{name}.md").touch()
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    assert text_of(page) == PAGE
    (tmp_path / "contrib" / "slurm.md").unlink()
    assert text_of(page) == LEFT


def test_nothing_is_left_out_of_a_page_whose_rooms_are_here():
    for page in DOCUMENTS:
        if all(linked.exists() for linked in contrib_pages(page.read_text(), page)):
            assert text_of(page) == page.read_text(), page
