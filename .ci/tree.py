"""Write the file tree of the README from the first line that each file says about itself.

python .ci/tree.py            rewrites the block under "## Files"
python .ci/tree.py --check    fails if it is not up to date
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
WIDTH = 100
COLUMN = 28
DATA = {
    "stratos/catalog/gpus.csv": "memory, bandwidth and FLOP/s of each GPU",
    "stratos/catalog/offers.csv": "our own offers of six clouds, each with date and source",
}
"""What files say that have no place to say it."""


def first_line(path: Path) -> str:
    """Return the first sentence of a module's docstring, or what `DATA` says of a file."""
    name = path.relative_to(ROOT).as_posix()
    if path.suffix != ".py":
        return DATA.get(name, "")
    line = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0].rstrip(".")
    room = WIDTH - COLUMN
    if len(line) <= room:
        return line
    ends = [line.rfind(mark, 0, room) for mark in (", ", "; ", ": ")]
    at = max(ends)
    return line[:at] if len(line[:at].split()) > 3 else line


def entry(label: str, text: str, indent: str = "") -> str:
    """Return one line of the tree, cut where it would be too long."""
    line = f"{indent + label:<{COLUMN}}{text}".rstrip()
    return line if len(line) <= WIDTH else line[: WIDTH - 1].rstrip() + "…"


def package(folder: Path) -> list[str]:
    """Return a package and what lies in it, and its subfolders after it."""
    name = folder.relative_to(ROOT).as_posix() + "/"
    init = folder / "__init__.py"
    lines = [
        entry(name if len(name) < COLUMN else name + " ", first_line(init) if init.exists() else "")
    ]
    files = sorted(
        p for p in folder.iterdir()
        if p.is_file() and p.name != "__init__.py" and not p.name.startswith(".")
    )  # fmt: skip
    lines += [entry(p.name, first_line(p), "  ") for p in files]
    for sub in sorted(p for p in folder.iterdir() if p.is_dir()):
        if not sub.name.startswith((".", "__")):
            lines += package(sub)
    return lines


def tree() -> str:
    """Return the whole block."""
    lines = ["conf/                       config groups: one folder a group, one YAML a choice"]
    folders = sorted({p.parent for p in (ROOT / "conf").glob("*/**/*.yaml")})
    for folder in folders:
        choices = " ".join(sorted(p.stem for p in folder.glob("*.yaml")))
        lines.append(entry(folder.relative_to(ROOT / "conf").as_posix() + "/", choices, "  "))
    lines += package(ROOT / "benchmarks")
    lines += package(ROOT / "launchers" / "hydra_plugins" / "stratos_launchers")
    lines += package(ROOT / "stratos")
    docs = " ".join(sorted(p.name for p in (ROOT / "docs").iterdir()))
    lines.append(entry("docs/", docs))
    lines.append(entry("tests/", "mirrors stratos/; real processes, a real browser, real kills"))
    return "\n".join(lines)


def main() -> int:
    """Rewrite or check the README."""
    text = README.read_text()
    head, _, rest = text.partition("## Files\n```\n")
    _, _, tail = rest.partition("\n```\n")
    new = f"{head}## Files\n```\n{tree()}\n```\n{tail}"
    if "--check" in sys.argv:
        if new != text:
            print("README.md: the file tree is out of date. Type: python .ci/tree.py")
        return int(new != text)
    README.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
