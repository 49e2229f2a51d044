"""Make the gallery of docs/gallery.md again: reports of real runs, with a picture of each.

    stratos demo
    python benchmarks/product/tutorials.py file logs --out followed
    python benchmarks/product/gallery.py demo=stratos-demo/run \
        tickets=followed/file/outputs/tickets routing=followed/logs/outputs/routing

Each report is kept as `docs/gallery/<name>.html.gz`, which the site unpacks, with a picture of its
top by a headless Chromium. Folders of this machine are replaced by /home/you; a report that still
names one, or the machine, is refused. `benchmarks/results/gallery.json` keeps what made each.
"""

from __future__ import annotations

import argparse
import gzip
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import record
import yaml

from stratos.report.costs import read_ledger
from stratos.report.planned import misses, planned_rows
from stratos.report.sweep_jobs import read_job

GALLERY = Path(__file__).parents[2] / "docs" / "gallery"
HOME = "/home/you"
CLONE = f"{HOME}/stratos"
OTHER = re.compile(r"(?<![\w.&/])/(?:tmp|root|work|var|mnt|home/(?!you/))[\w./-]*")
"""A folder of a machine."""
_CACHE = re.compile(r"cache_dir&#34;: &#34;(/[^&]+)&#34;")
"""As the config at the end of a report names it."""
WIDTH, HEIGHT = 1000, 760


def main() -> None:
    """Keep the reports of some runs, and what made them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="NAME=FOLDER", help="finished runs")
    record.commit()
    GALLERY.mkdir(exist_ok=True)
    result = record.load("gallery", {})["result"]
    for argument in parser.parse_args().runs:
        name, _, folder = argument.partition("=")
        result[name] = published(name, Path(folder).resolve())
    record.keep("gallery", result)


def published(name: str, run: Path) -> dict[str, Any]:
    """Keep the report of a run, and a picture of it; return what made it, and what came of it.

    Raises:
        SystemExit: the report names a folder of this machine, or the machine.
    """
    page = without_machine((run / "report.html").read_text(), run)
    if names := foreign(page):
        sys.exit(f"{run}/report.html names {', '.join(names)}: such a page is not published.")
    (GALLERY / f"{name}.html.gz").write_bytes(gzip.compress(page.encode(), 9, mtime=0))
    picture(page, GALLERY / f"{name}.png")
    made = read_job(run, run).records
    student = made["evaluate"].score("student").slice()
    compared = planned_rows(made.get("plan"), made, read_ledger(run / "ledger.jsonl"))
    overrides = yaml.safe_load((run / ".hydra" / "overrides.yaml").read_text())
    folder = re.search(r"(?:outputs|sweeps)/.*", str(run))
    return {
        "command": " ".join(["python -m stratos", *map(_quoted, overrides)]),
        "folder": run.name if folder is None else folder[0],
        "date": datetime.fromtimestamp((run / "report.html").stat().st_mtime, UTC).strftime(
            "%Y-%m-%d"
        ),
        "size_kb": len(page.encode()) // 1000,
        "exact": student.exact.mean,
        "low": student.exact.low,
        "high": student.exact.high,
        "n_items": student.n_items,
        "missed": list(misses(compared)),
    }


def _quoted(word: str) -> str:
    return f"'{word}'" if re.search(r"[\s\"\[\]{}]", word) else word


def without_machine(page: str, run: Path) -> str:
    """Return a page whose folders are those of anybody: of the run, its clone, its cache."""
    clone = str(run).removesuffix(f"/outputs/{run.name}")
    for cache in set(_CACHE.findall(page)):
        page = page.replace(cache, f"{HOME}/.cache/stratos")
    return page.replace(clone, CLONE).replace(str(Path.home()), HOME)


def foreign(page: str) -> list[str]:
    """Return which folders of a machine, and names of machines, a page has."""
    names = [name for name in {socket.gethostname(), os.uname().nodename} if len(name) > 3]
    return sorted({*OTHER.findall(page), *(name for name in names if name in page)})


def picture(page: str, to: Path) -> None:
    """Write a picture of the top of a page, in few colours.

    Raises:
        SystemExit: there is no Chromium.
    """
    from PIL import Image

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("A picture needs Chromium (apt-get install chromium).")
    with tempfile.TemporaryDirectory() as folder:
        source, shot = Path(folder) / "page.html", Path(folder) / "page.png"
        source.write_text(page)
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={shot}", source.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        with Image.open(shot) as image:
            image.convert("RGB").quantize(64).save(to, optimize=True)


if __name__ == "__main__":
    main()
