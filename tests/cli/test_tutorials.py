"""The tutorials of docs/: their quick commands are typed, and print what the pages show.

`make attack` follows two of them whole. What their other commands say is checked in `test_docs.py`.
"""

from __future__ import annotations

import gzip
import importlib
import re
from pathlib import Path

import pytest

from benchmarks.product import gallery, tutorials
from benchmarks.product.tutorials import Block, blocks, follow
from tests.whole import WHOLE

BLOCKS = importlib.import_module("figures_of").BLOCKS  # beside what `tutorials` is made of
QUICK = ("python make_", "stratos logs ")
"""How blocks begin that take a second and print the same on every machine."""
PAGES = list(tutorials.pages())
OFFLINE = [name for name in ("file", "logs", "tools") if name in PAGES]
"""Those that can be followed without a network and a cluster."""


def page(name: str) -> str:
    return tutorials.pages()[name].read_text()


def slow(name: str) -> list[Block]:
    return [block for block in blocks(page(name)) if not block.text.startswith(QUICK)]


@pytest.mark.parametrize("name", OFFLINE)
def test_what_is_quick_prints_what_the_page_shows(name: str, tmp_path: Path) -> None:
    typed = list(follow(page(name), tmp_path, done=[block.text for block in slow(name)]))
    assert typed
    for block, printed, _ in typed:
        assert f"```text\n{printed}\n```" in BLOCKS[block.figure]()


@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_shows_was_printed_by_what_it_tells_to_type(name: str) -> None:
    printed = tutorials.record.load(f"tutorials/{name}")["result"]
    for block in blocks(page(name)):
        if block.kind == "bash" and block.figure:
            assert printed[block.figure]["typed"] == block.text, (
                "see benchmarks/product/tutorials.py"
            )
            assert BLOCKS[block.figure]().strip() in page(name)


@pytest.mark.parametrize("name", PAGES)
def test_a_run_that_is_shown_holds_each_prediction_that_it_missed(name: str) -> None:
    printed = tutorials.record.load(f"tutorials/{name}")["result"]
    for figure, block in printed.items():
        for missed in re.findall(r"^missed .*(?:\n {11}.*)*", block["printed"], re.M):
            assert figure not in BLOCKS or missed in page(name)


def test_readme_holds_each_prediction_that_its_run_missed() -> None:
    printed = "\n".join(tutorials.record.load("quick")["result"]["printed"])
    missed = re.findall(r"^missed .*(?:\n {11}.*)*", printed, re.M)
    assert all(lines in BLOCKS["quick"]() for lines in missed)


def test_the_gallery_names_what_its_reports_show_as_missed() -> None:
    for name, run in tutorials.record.load("gallery")["result"].items():
        report = gzip.decompress((gallery.GALLERY / f"{name}.html.gz").read_bytes()).decode()
        assert len(re.findall(r"<td>missed\b", report)) == len(run["missed"])
        assert all(missed in BLOCKS[f"gallery_{name}"]() for missed in run["missed"])


def test_nothing_of_the_machine_is_published(tmp_path: Path) -> None:
    printed = f"report {tmp_path}/outputs\nprobe      …\nprobe      12% of 40\n{Path.home()}/x\n"
    assert tutorials.published(printed, tmp_path) == "report /home/you/stratos/outputs\n/home/you/x"


@WHOLE
@pytest.mark.parametrize("name", OFFLINE)
def test_a_page_can_be_followed_to_its_end(name: str, tmp_path: Path) -> None:
    typed = [block.text for block, _, _ in follow(page(name), tmp_path)]
    assert typed == [block.text for block in blocks(page(name)) if block.kind == "bash"]
