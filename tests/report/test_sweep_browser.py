"""The page of a sweep in a real browser: filters, the frontier, two runs compared."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from stratos.report import sweep_report
from stratos.report.paired import figures_of
from stratos.report.sweep_jobs import read_job
from tests.in_process import stratos
from tests.report.many_runs import make_sweep

pytestmark = pytest.mark.browser

CONFIG = """stages: [probe, plan, synthesize, distill, evaluate, deploy]
deploy:
  name: local
teacher:
  api_key: sk-abcdefghijklmnopqrst1234
"""


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    make_sweep(folder, 12, 200, CONFIG)
    sweep_report(folder)
    return folder


def shown(page: Any) -> list[str]:
    return list(
        page.js(
            "return [...document.querySelectorAll('#jobs tbody tr')]"
            ".filter((row) => !row.hidden).map((row) => row.dataset.job)"
        )
    )


def choose(page: Any, override: str, value: str) -> None:
    page.js(
        "const one = document.querySelector(`select[data-override=\"${arguments[0]}\"]`);"
        "one.value = arguments[1]; one.dispatchEvent(new Event('change'))",
        override, value,
    )  # fmt: skip


def test_jobs_are_filtered_by_what_was_varied(page, sweep):
    page.open(sweep / "index.html", 1500)
    assert len(shown(page)) == 12
    choose(page, "student", "stratos_1m")
    assert shown(page) == ["1", "4", "7", "10"]
    assert page.one("#jobs [data-count]").text == "4 of 12 shown"
    visible = page.js(
        "return [...document.querySelectorAll('#compare circle')]"
        ".filter((one) => one.getAttribute('visibility') !== 'hidden').length"
    )
    assert visible == 4, "the plot shows what the table shows"
    choose(page, "trainer.lr_muon", "0.003")
    assert shown(page) == ["4"]
    choose(page, "student", "")
    choose(page, "trainer.lr_muon", "")
    page.one("#jobs [data-search]").send_keys("stratos_3m")
    assert shown(page) == ["2", "5", "8", "11"]
    assert page.console() == []


def drawn(page: Any) -> list[str]:
    """Return the jobs that a reader sees, whatever an attribute says."""
    return list(
        page.js(
            "return [...document.querySelectorAll('#jobs tbody tr')]"
            ".filter((row) => row.getClientRects().length).map((row) => row.dataset.job)"
        )
    )


@pytest.mark.parametrize("width", [500, 1500])
def test_a_filter_hides_jobs_in_any_window(page, sweep, width):
    page.open(sweep / "index.html", width)
    assert len(drawn(page)) == 12
    choose(page, "student", "stratos_1m")
    assert drawn(page) == ["1", "4", "7", "10"]
    page.one("#jobs [data-search]").send_keys("stratos_3m")
    assert drawn(page) == []
    count = page.one("#jobs [data-count]").text
    assert count.startswith("No job matches, of 12.")
    assert page.overflow() <= 0 and page.console() == []


@pytest.mark.parametrize("width", [1000, 1200, 1500])
def test_overrides_break_at_their_parts_alone(page, sweep, width):
    page.open(sweep / "index.html", width)
    broken = page.js(
        """return [...document.querySelectorAll('.overrides code')].flatMap((code) =>
          [...code.childNodes].filter((part) => part.nodeType === 3).filter((part) => {
            const range = document.createRange();
            range.selectNodeContents(part);
            return new Set([...range.getClientRects()].map((one) => one.top)).size > 1;
          }).map((part) => part.textContent))"""
    )
    assert broken == [] and page.overflow() <= 0


def test_the_frontier_is_that_of_the_jobs_shown(page, sweep):
    page.open(sweep / "index.html", 1500)
    points = page.js(
        "const plot = JSON.parse(document.querySelector('#compare figure').dataset.plot);"
        "return plot.marks.map((mark) => [mark.label.slice(4), mark.at.usd, mark.at.accuracy])"
    )
    best = {
        name
        for name, usd, accuracy in points
        if not any((u <= usd and a >= accuracy) and (u < usd or a > accuracy) for _, u, a in points)
    }
    page.one("#jobs [data-only]").click()
    names = set(shown(page))
    # Of jobs that are alike in both the first is shown.
    assert names <= best and {(u, a) for n, u, a in points if n in names} == {
        (u, a) for n, u, a in points if n in best
    }
    assert page.one("#compare .frontier").get_attribute("points")


def test_two_jobs_are_compared_as_the_command_does(page, sweep):
    page.open(sweep / "index.html", 1500)
    assert not page.one("#pair").is_displayed()
    buttons = page.all("#jobs button.pick")
    buttons[0].click()
    buttons[4].click()
    assert page.one("#pair").is_displayed()
    done = stratos("compare", str(sweep / "0"), str(sweep / "4"))
    known = list(figures_of(read_job(sweep, sweep / "0")))
    assert page.one("#pair .pair-verdict").text == " ".join(done.stdout.splitlines()[0].split())
    differing = page.one("#pair .pair-figures").text
    assert page.one("#pair .pair-same summary").text.endswith("figures are equal")
    assert not page.one("#pair .pair-figures-same").is_displayed(), "equal rows are folded"
    page.js("document.querySelector('#pair .pair-same summary').click()")
    same = page.one("#pair .pair-figures-same").text
    figures = f"{differing}\n{same}"
    for figures_shown in (differing, same):  # the order of the command, which is that of a run
        keys = [line for line in known if re.search(rf"^{re.escape(line)} ", figures_shown, re.M)]
        places = [re.search(rf"^{re.escape(key)} ", figures_shown, re.M) for key in keys]
        starts = [match.start() for match in places if match is not None]
        assert len(starts) > 1 and starts == sorted(starts), figures_shown
    assert "stratos_300k" in figures and "stratos_1m" in figures
    assert re.search(r"test accuracy: student 97.9% \(", figures)
    assert page.one("#pair .pair-settings").text.splitlines()[1:] == ["lr_muon 0.002 0.003"]
    assert buttons[0].text == "A" and buttons[4].text == "B"
    buttons[4].click()
    assert not page.one("#pair").is_displayed()
    assert page.overflow() <= 0


@pytest.mark.parametrize(
    ("only_first", "only_second", "n"),
    [(0, 0, 5), (3, 9, 40), (700, 600, 3000), (1, 0, 1), (5, 0, 9)],
)
def test_the_mathematics_of_the_page_is_that_of_the_command(
    page, sweep, only_first, only_second, n
):
    from stratos.core.pairs import paired_difference

    page.open(sweep / "index.html", 1500)
    p_value, low, high = paired_difference(only_first, only_second, n)
    assert page.js("return mcnemar(...arguments)", only_first, only_second) == pytest.approx(
        p_value, rel=1e-9
    )
    assert page.js(
        "return differenceInterval(...arguments)", only_first, only_second, n
    ) == pytest.approx([low, high], abs=1e-9)


def test_no_secret_is_in_the_settings(sweep):
    assert "sk-abcdef" not in (sweep / "index.html").read_text()
