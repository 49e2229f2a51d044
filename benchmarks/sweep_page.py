"""The page of a sweep of 500 runs: seconds to make it, and milliseconds of each click in Chromium.

    python benchmarks/sweep_page.py [--runs 500] [--folder FOLDER]

Each run has records of the usual size, the composed config of the default command, and 1,000
answers to test items. A click is measured as the time that the page's thread works on it, to the
frame that shows its effect; both measures leave out what other programs take of the machine.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import record

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / "tests"), str(ROOT / "tests" / "report")]
CLICKS = {
    "sort": "document.querySelectorAll('#jobs th[data-sort] button')[arguments[1] % 10].click()",
    "filter": (
        "const s = document.querySelector('select[data-override=student]');"
        "s.selectedIndex = arguments[1] % s.options.length; s.dispatchEvent(new Event('change'))"
    ),
    "search": (
        "const s = document.querySelector('#jobs [data-search]');"
        "s.value = arguments[1] % 2 ? 'stratos_1m' : ''; s.dispatchEvent(new Event('input'))"
    ),
    "frontier": "document.querySelector('#jobs [data-only]').click()",
    "axes": (
        "const s = document.querySelector('#compare select[data-axis=x]');"
        "s.selectedIndex = arguments[1] % s.options.length; s.dispatchEvent(new Event('change'))"
    ),
    "compare": "document.querySelectorAll('#jobs button.pick')[17 * arguments[1] % 400].click()",
}
_TIMED = """
const done = arguments[0], began = performance.now();
%s;
document.body.getBoundingClientRect();
requestAnimationFrame(() => setTimeout(() => done(performance.now() - began), 0));
"""


def main() -> None:
    """Measure, and keep."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--folder", type=Path, help="where the runs are, or are left")
    told = parser.parse_args()
    n_runs = told.runs
    factory, many = importlib.import_module("factory"), importlib.import_module("many_runs")
    with tempfile.TemporaryDirectory() as name:
        folder = told.folder or Path(name)
        if not (folder / str(n_runs - 1)).exists():
            many.make_sweep(factory, folder, n_runs, 1000, composed())
        from stratos.report import sweep_report

        seconds = []
        for _ in range(3):
            began, cpu = time.perf_counter(), time.process_time()
            page = sweep_report(folder)
            seconds.append((time.perf_counter() - began, time.process_time() - cpu))
        n_bytes = page.stat().st_size
        print(seconds, n_bytes, flush=True)
        clicks = clicked(page)
    record.keep(
        "sweep_page",
        {"n_runs": n_runs, "n_answers": 1000, "seconds": [one for one, _ in seconds],
         "cpu_seconds": [one for _, one in seconds], "bytes": n_bytes, "clicks_ms": clicks},
    )  # fmt: skip


def busy_s(browser: Any) -> float:
    """Return for how long the page's thread was at work: what other programs take is left out."""
    metrics = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return float({one["name"]: one["value"] for one in metrics}["TaskDuration"])


def composed() -> str:
    """Return the config of the default command, as Hydra keeps it."""
    from omegaconf import OmegaConf

    from stratos.cli.compose import hydra_for

    with hydra_for(None) as hydra:
        from hydra.types import RunMode

        config = hydra.compose_config("config", ["+task=mahjong"], RunMode.RUN, False)
        kept = {key: config[key] for key in config if key != "hydra"}
        return OmegaConf.to_yaml(OmegaConf.create(kept))


def clicked(page: Path) -> dict[str, list[float]]:
    """Return the milliseconds of each kind of click."""
    webdriver: Any = importlib.import_module("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    browser = webdriver.Chrome(options=options, service=service)
    try:
        browser.set_window_size(1500, 900)
        browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
        browser.get(page.as_uri())
        found: dict[str, list[float]] = {}
        for kind, code in CLICKS.items():
            script = _TIMED.replace("%s", code.replace("arguments[1]", "turn")).replace(
                "arguments[0]", "arguments[arguments.length - 1]"
            )
            for turn in range(1, 13):
                before = busy_s(browser)
                browser.execute_async_script(f"const turn = {turn};{script}")
                found.setdefault(kind, []).append(round(1000 * (busy_s(browser) - before), 1))
            print(kind, found[kind], flush=True)
        return found
    finally:
        browser.quit()


if __name__ == "__main__":
    main()
