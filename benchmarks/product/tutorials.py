"""Follow tutorials of docs/ as a reader does, and keep what they print.

    python benchmarks/product/tutorials.py file logs ray
    python benchmarks/product/tutorials.py gsm8k --data <folder of train.jsonl and test.jsonl>

Of `docs/tutorial_<name>.md` and `docs/contrib/<name>_tutorial.md`, each block of code that begins
with the name of a file is a file, and each `bash` block is typed, in a fresh folder; blocks of
another kind (`console`) need what not every machine has, and are left out.
`benchmarks/results/tutorials/<name>.json` keeps what each block printed under the name of the
figure that follows. `--out` keeps the folders, with their runs;
in a folder that is there, blocks that are kept as they stand in the page are not typed again.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import record

DOCS = Path(__file__).parents[2] / "docs"
FOLDER = "tutorials"
"""Of the kept results."""
HOME = "/home/you"
CLONE = f"{HOME}/stratos"
CACHE = f"{HOME}/.cache/stratos"
"""Stand for folders of this machine: the user's, that in which a page was followed, the cache."""
COLUMNS = 120
_BLOCK = re.compile(r"^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
_FIGURE = re.compile(r"<!-- figures: (\w+) -->")
_TUTORIAL = re.compile(r"\]\((?:[\w./]*/)?(tutorial_\w+|\w+_tutorial)\.md")
_FILE = re.compile(r"# (?P<name>[\w/]+\.\w+)\n")
PROGRESS = re.compile(
    r"^(?:[a-z]+ +(?:…|\d+% .*)|progress .*(?:\n {11}\S.*)*)(?:\n|\Z)", re.MULTILINE
)
"""What a stage prints when it begins, and while it runs; a long line goes on below."""


@dataclass(frozen=True)
class Block:
    """A block of code of a page."""

    kind: str
    """As its fence says: python, bash, console."""
    text: str
    figure: str
    """Name of the block of figures between it and the next, or nothing."""

    @property
    def file(self) -> str | None:
        """The file that a reader saves it as, if it names one in its first line."""
        named = _FILE.match(self.text)
        return None if named is None else named["name"]


def pages() -> dict[str, Path]:
    """Return the tutorials by name, those of rooms of contrib included."""
    paths = [*DOCS.glob("tutorial_*.md"), *DOCS.glob("contrib/*_tutorial.md")]
    names = [path.stem.removeprefix("tutorial_").removesuffix("_tutorial") for path in paths]
    return dict(sorted(zip(names, paths, strict=True)))


def blocks(page: str) -> list[Block]:
    """Return the blocks of code of a page of Markdown."""
    fences = list(_BLOCK.finditer(page))
    ends = [*(fence.start() for fence in fences[1:]), len(page)]
    spans = zip(fences, ends, strict=False)  # a page without a block has but its end
    figures = [_FIGURE.search(page, fence.end(), end) for fence, end in spans]
    return [
        Block(fence["kind"], fence["text"], figure[1] if figure else "")
        for fence, figure in zip(fences, figures, strict=True)
    ]


def write_files(page: str, folder: Path) -> None:
    """Write the blocks that are files, of a page and of the tutorials that it links to."""
    names = _TUTORIAL.findall(page)
    linked = [path for path in pages().values() if path.stem in names]
    for block in [block for path in linked for block in blocks(path.read_text())] + blocks(page):
        if block.file is not None:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)


def follow(
    page: str, folder: Path, done: Collection[str] = ()
) -> Iterator[tuple[Block, str, float]]:
    """Do what a page says; yield each block that was typed, what it printed, and the minutes.

    Args:
        page: in Markdown.
        folder: in which it is followed.
        done: texts of blocks that are not typed again.

    Raises:
        SystemExit: a block failed; the message has the end of what it printed.
    """
    write_files(page, folder)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "COLUMNS": str(COLUMNS), "PYTHONUNBUFFERED": "1"}
    env["XDG_STATE_HOME"] = str(folder / "state")  # jobs of others stay out
    groups = []
    try:
        for block in blocks(page):
            if block.kind != "bash" or block.text in done:
                continue
            started = time.monotonic()
            process = subprocess.Popen(
                ["bash", "-e", "-o", "pipefail", "-c", block.text], cwd=folder, env=env,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            )  # fmt: skip
            groups.append(process.pid)
            printed, _ = process.communicate()
            if process.returncode:
                sys.exit(f"{block.text}\nexit status {process.returncode}:\n{printed[-4000:]}")
            yield block, published(printed, folder), (time.monotonic() - started) / 60
    finally:
        for group in groups:  # what a page left in the background
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGTERM)


def published(printed: str, folder: Path) -> str:
    """Return a text without the folders of this machine, and without progress."""
    text = printed.replace(str(folder.resolve()), CLONE)
    text = text.replace(os.environ.get("STRATOS_CACHE") or CACHE, CACHE)
    text = text.replace(str(Path.home()), HOME)
    lines = [line.rstrip() for line in PROGRESS.sub("", text).split("\n")]
    return "\n".join(lines).strip("\n")


def main() -> None:
    """Follow pages, and keep what each printed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+", help="of pages: file, logs, tools, gsm8k, ray")
    parser.add_argument("--data", type=Path, help="folder of GSM8K's train.jsonl and test.jsonl")
    parser.add_argument("--out", type=Path, help="where folders and runs are kept")
    options = parser.parse_args()
    record.commit()
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.names:
            folder = (options.out or Path(scratch)) / name
            result = record.load(f"{FOLDER}/{name}", {})["result"] if folder.exists() else {}
            folder.mkdir(parents=True, exist_ok=True)
            if options.data is not None and not (folder / "gsm8k").exists():
                shutil.copytree(options.data, folder / "gsm8k")
            page = pages()[name].read_text()
            typed = [block.text for block in blocks(page) if block.kind == "bash"]
            result = {key: block for key, block in result.items() if block["typed"] in typed}
            done = [block["typed"] for block in result.values()]
            for block, printed, minutes in follow(page, folder, done):
                print(f"{block.text}{printed}\n({minutes:.1f} min)\n", flush=True)
                key = block.figure or f"block {typed.index(block.text)}"
                printed_block = {"typed": block.text, "printed": printed}
                result[key] = {**printed_block, "minutes": round(minutes, 2)}
                record.keep(f"{FOLDER}/{name}", result)


if __name__ == "__main__":
    main()
