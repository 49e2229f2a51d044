"""The pages of docs/: they make a site, and what they tell to type is known."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from checked import problems

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
COMMAND = re.compile(r"python -m stratos (?P<overrides>[^`\n#→;|]*)")
LACKING = re.compile(
    r"cannot be read|no such (file|folder)|is required|cannot be reached|SLURM does not answer|"
    r"no Ray dashboard answers|no program sky|no sbatch|not installed|needs the package"
)
"""What a machine may lack that a page does not."""


def commands() -> list[tuple[str, str]]:
    """Return each command that a page tells to type, and the page."""
    found: dict[str, str] = {}
    for page in PAGES:
        text = re.sub(r"\\\n\s*", " ", page.read_text())  # a command of several lines
        for one in COMMAND.finditer(text):
            found.setdefault(one["overrides"].partition(" > ")[0].strip(), page.name)
    return [(page, command) for command, page in found.items() if "…" not in command]


@pytest.mark.parametrize(("page", "command"), commands())
def test_what_a_page_tells_to_type_is_known(
    page: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if command.count("'") % 2:
        pytest.skip("a value of several lines")
    argv = [one for one in shlex.split(command) if one != "--json"]  # which Hydra never sees
    if argv and "--help" not in argv:
        assert [one for one in problems(*argv) if not LACKING.search(one)] == []


def test_the_pages_make_a_site(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = (sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path))
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    told = (tmp_path / "settings.html").read_text()
    assert "<code>limits.budget_usd</code>" in told and "<code>executor=slurm</code>" in told
    assert "<code>executor.max_timeouts</code>" in told, "a key of one choice alone"
    assert 'href="docs/' not in (tmp_path / "index.html").read_text()


def test_every_page_is_in_the_menu() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    listed = {page for one in config["nav"] for pages in one.values()
              for page in ([pages] if isinstance(pages, str) else
                           [name for entry in pages for name in entry.values()])}  # fmt: skip
    assert listed == {*(page.name for page in PAGES), "index.md", "settings.md"}
