from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stratos.records import save
from stratos.report import report, sweep_report
from tests.report import factory

pytestmark = pytest.mark.browser

SECTIONS = ["result", "planned", "costs", "scorecard", "plan", "frontier", "training", "next",
            "examples", "evidence", "repeat"]  # fmt: skip


@pytest.fixture(scope="module")
def run_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("run")
    factory.write_hydra(run_dir, ["+task=mahjong", "cloud=aws"])
    row = {
        "question": factory.HOSTILE,
        "gold": "1m",
        "slice": "general",
        "scores": {"student": 0.0},
        "student": f"line\n{factory.HOSTILE}",
        "teacher": factory.HOSTILE,
    }
    records = factory.make_records(run_dir)
    records["evaluate"] = factory.make_scorecard(run_dir, [row, *factory.make_examples()])
    factory.change(records, "plan", reasons=(factory.HOSTILE,))
    report(factory.make_config(run_dir), records, factory.make_context(run_dir), [factory.HOSTILE])
    return run_dir / "report.html"


@pytest.fixture(scope="module")
def sweep_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sweep_dir = tmp_path_factory.mktemp("sweep")
    for job in range(12):
        folder = sweep_dir / str(job)
        factory.write_hydra(folder, ["+task=mahjong", f"student=s{job}", f"note={factory.HOSTILE}"])
        if job == 3:
            continue
        records = factory.make_records(folder)
        records["plan"] = factory.cheaper(records["plan"], 5.0 - 0.3 * job)
        if job in (0, 11):
            records["report"] = report(
                factory.make_config(folder), records, factory.make_context(folder)
            )
        for stage, record in records.items():
            save(folder / f"{stage}.json", stage, "f", record)
    return sweep_report(sweep_dir)


def test_the_run_page_opens_offline_and_in_silence(page, run_page):
    page.open(run_page)
    assert [section.get_attribute("id") for section in page.all("main section")] == SECTIONS
    assert page.requests() == [run_page.as_uri()]
    assert page.console() == []


def test_what_a_model_wrote_does_nothing(page, run_page):
    page.open(run_page)
    assert page.js("return typeof window.hacked") == "undefined"
    shown = page.js("return document.querySelector('#examples').textContent")
    assert "window.hacked = 1</script>" in shown and "␛[31mred␛[0m" in shown
    # Even markup that slipped through could not run.
    page.js(
        "const s = document.createElement('script'); s.textContent = 'window.hacked = 1';"
        "document.body.append(s); const i = document.createElement('div');"
        "i.innerHTML = '<img src=x onerror=\"window.hacked = 1\">'; document.body.append(i);"
    )
    assert page.js("return typeof window.hacked") == "undefined"


def test_hovering_a_plan_tells_what_it_is(page, run_page):
    from selenium.webdriver import ActionChains

    page.open(run_page)
    tip = page.one("#frontier .tip")
    assert not tip.is_displayed()
    chosen = page.one("#frontier circle.chosen")
    page.js("arguments[0].scrollIntoView({block: 'center'})", chosen)
    ActionChains(page.chrome).move_to_element(chosen).perform()
    assert tip.is_displayed()
    for words in ("llama-1m", "chosen", "98.1%", "$2.55", "8 min 28 s", "g5.xlarge"):
        assert words in tip.text
    box, frame = tip.rect, page.one("#frontier .canvas").rect
    assert frame["x"] <= box["x"] and box["x"] + box["width"] <= frame["x"] + frame["width"] + 1
    ActionChains(page.chrome).move_to_element(page.one("#frontier h2")).perform()
    assert not tip.is_displayed()
    page.js("arguments[0].focus()", chosen)
    assert tip.is_displayed()


def test_axes_can_be_chosen(page, run_page):
    from selenium.webdriver.support.select import Select

    page.open(run_page)

    def places() -> list[tuple[float, float]]:
        return [
            (float(c.get_attribute("cx")[:-1]), float(c.get_attribute("cy")[:-1]))
            for c in page.all("#frontier .marks circle")
        ]

    before = places()
    assert len(before) == 30
    assert all(0 <= x <= 100 and 0 <= y <= 100 for x, y in before)
    Select(page.one("#frontier select[data-axis=x]")).select_by_value("hours")
    after = places()
    assert [x for x, _ in before] != [x for x, _ in after]
    assert [y for _, y in before] == pytest.approx([y for _, y in after], abs=0.02)
    assert page.one("#frontier .x-label").text == "hours until trained, log scale"
    labels = [tick.text for tick in page.all("#frontier .ticks-x text")]
    assert any(label.endswith("min") for label in labels)
    assert page.one("#frontier .plot-title").text == "Accuracy against hours until trained"


def picked(page: Any) -> dict[str, list[str]]:
    """The table of the chosen and the picked plan, by row."""
    return {
        row.find_element("css selector", "th").text: [
            cell.text for cell in row.find_elements("css selector", "td")
        ]
        for row in page.all("#picked tbody tr")
    }


def test_a_click_shows_a_plan_beside_the_chosen_one(page, run_page):
    from selenium.webdriver import ActionChains

    page.open(run_page)
    before = picked(page)
    assert before["cost"] == ["$2.55", "", ""]
    assert "Select a point" in page.one("#picked .picked-name").text
    dot = page.all("#frontier circle.dot")[6]
    page.js("arguments[0].scrollIntoView({block: 'center'})", dot)
    ActionChains(page.chrome).move_to_element(dot).click().perform()
    after = picked(page)
    assert page.one("#picked .picked-name").text == "llama-03m · injection"
    assert after["student"][:2] == ["llama-1m", "llama-03m"]
    assert after["cost"] == ["$2.55", "$3.10", "+21.6%"]
    assert after["serve"][0] == after["serve"][1] and "c7a.large" in after["serve"][1]
    assert "g5.xlarge" in after["train"][0] and "c7a.large" in after["train"][1]
    assert after["accuracy"][2].endswith(" points")
    [pressed] = page.all("#frontier circle[aria-pressed=true]")
    assert pressed == dot
    assert page.console() == []


def test_the_keyboard_reaches_every_plan(page, run_page):
    from selenium.webdriver.common.keys import Keys

    page.open(run_page)
    assert len(page.all("#frontier circle[tabindex='0']")) == 1
    page.js("document.querySelector('#frontier circle[tabindex=\"0\"]').focus()")
    circles = "[...document.querySelectorAll('#frontier .marks circle')]"
    page.js(
        f"window.seen = new Set(); document.addEventListener('focusin', (e) => "
        f"window.seen.add({circles}.indexOf(e.target)));"
    )
    active = page.chrome.switch_to.active_element
    active.send_keys(Keys.ARROW_LEFT * 30 + Keys.ARROW_RIGHT * 30)
    assert len(page.js("return [...window.seen]")) == 30
    costs = []
    for keys in (Keys.ENTER, Keys.ARROW_LEFT * 3 + Keys.SPACE):
        page.chrome.switch_to.active_element.send_keys(keys)
        costs.append(picked(page)["cost"][1])
        pressed = f"{circles}.findIndex(c => c.getAttribute('aria-pressed') === 'true')"
        assert page.js(f"return {circles}.indexOf(document.activeElement) === {pressed}")
    assert len(set(costs)) == 2 and all(costs)
    assert len(page.all("#frontier circle[tabindex='0']")) == 1
    tip = page.one("#frontier .tip")
    assert tip.is_displayed()
    page.chrome.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not tip.is_displayed()


def test_what_a_picked_plan_is_called_does_nothing(page, tmp_path):
    plan = factory.make_plan()
    hostile = replace(plan.frontier[0], student=factory.HOSTILE, teacher=factory.HOSTILE,
                      servers={"serve": factory.HOSTILE})  # fmt: skip
    plan = replace(plan, frontier=(hostile, *plan.frontier[1:]))
    report(factory.make_config(tmp_path), {"plan": plan}, factory.make_context(tmp_path))
    page.open(tmp_path / "report.html")
    page.js("document.querySelector('#frontier circle').dispatchEvent("
            "new KeyboardEvent('keydown', {key: 'Enter', bubbles: true}))")  # fmt: skip
    assert picked(page)["teacher"][1].startswith("<script>window.hacked = 1</script>")
    assert page.js("return typeof window.hacked") == "undefined"
    assert page.console() == []


def column(page: Any, selector: str, index: int) -> list[str]:
    return [row.find_elements("css selector", "th, td")[index].get_attribute("data-value")
            for row in page.all(f"{selector} tbody tr")]  # fmt: skip


def test_the_frontier_sorts(page, run_page):
    page.open(run_page)
    table = "#frontier table.sortable"
    header = page.all(f"{table} th[data-sort]")[2]
    page.js("arguments[0].scrollIntoView({block: 'center'})", header)
    header.find_element("css selector", "button").click()
    costs = [float(value) for value in column(page, table, 2)]
    assert header.get_attribute("aria-sort") == "ascending"
    assert costs == sorted(costs) and len(costs) == 27
    header.find_element("css selector", "button").click()
    assert [float(value) for value in column(page, table, 2)] == sorted(costs, reverse=True)


def test_answers_can_be_filtered(page, run_page):
    page.open(run_page)
    page.js("document.querySelector('[data-filter=wrong]').click()")
    shown = [a for a in page.all("article") if a.is_displayed()]
    assert shown
    assert {article.get_attribute("data-outcome") for article in shown} == {"wrong"}


def test_all_answers_can_be_browsed_and_searched(page, run_page):
    from selenium.webdriver.support.select import Select

    page.open(run_page)

    def shown() -> list[Any]:
        return [a for a in page.all("article") if a.is_displayed()]

    assert len(page.all("article")) == 41
    assert len(shown()) == 24
    assert page.one("#examples [data-count]").text == "24 shown of 41 that match"
    page.js("document.querySelector('#examples [data-more]').click()")
    assert len(shown()) == 41 and not page.one("#examples [data-more]").is_displayed()
    Select(page.one("#examples select[data-by=slice]")).select_by_value("full_flush")
    assert {a.get_attribute("data-slice") for a in shown()} == {"full_flush"}
    Select(page.one("#examples select[data-by=gold]")).select_by_value("1m")
    assert shown() == []
    page.js("document.querySelectorAll('#examples select').forEach((s) => { s.value = ''; })")
    page.one("#examples [data-search]").send_keys("2P 5P")
    assert {a.get_attribute("data-gold") for a in shown()} == {"2p 5p"}


def test_answers_that_came_as_data_look_like_those_that_are_markup(page, tmp_path, records):
    """Ten thousand answers: below 5 MB, all found by search, and made only when they are shown."""
    factory.write_hydra(tmp_path, ["+task=mahjong"])
    hostile = {
        "question": f"</script>{factory.HOSTILE}",
        "gold": "1m",
        "slice": "general",
        "scores": {"student": 1.0, "teacher": 1.0},
        "student": f"line\n{factory.HOSTILE}",
        "teacher": factory.HOSTILE,
    }
    rows = [*factory.make_examples() * 250, hostile]
    records["evaluate"] = factory.make_scorecard(tmp_path, rows)
    made = report(factory.make_config(tmp_path), records, factory.make_context(tmp_path), [])
    assert made.n_bytes < 5_000_000
    page.open(tmp_path / "report.html")
    assert page.console() == []
    n_markup = len(page.all("#examples article"))
    assert n_markup == 400
    page.js("document.querySelector('[data-filter=right]').click()")
    assert page.one("#examples [data-count]").text.startswith("24 shown of ")
    page.one("#examples [data-search]").send_keys("</script>")
    [shown] = [a for a in page.all("#examples article") if a.is_displayed()]
    assert "<U+202E>evil" in shown.text and page.js("return typeof window.hacked") == "undefined"
    assert len(page.all("#examples article")) > n_markup

    by_text = """
        const seen = new Map();
        const same = [];
        for (const article of document.querySelectorAll('#examples article')) {
          const text = article.textContent.replace(/\\s+/g, '');
          const html = article.innerHTML.trim().replace(/>\\s+/g, '>').replace(/\\s+</g, '<');
          if ('outcome' in article.dataset) seen.set(text, html);
          else if (seen.has(text)) same.push(seen.get(text) === html || [seen.get(text), html]);
        }
        return same;
    """
    page.js("""
        const search = document.querySelector('#examples [data-search]');
        search.value = '';
        search.dispatchEvent(new Event('input'));
        document.querySelector('#examples [data-filter=""]').click();
        for (let i = 0; i < 30; i += 1) document.querySelector('#examples [data-more]').click();
    """)
    same = page.js(by_text)
    assert same and all(is_equal is True for is_equal in same), same[:1]


@pytest.mark.parametrize("dark", [False, True])
def test_pages_are_clean_to_axe(page, run_page, sweep_page, dark):
    assert page.open(run_page).violations(dark) == []
    assert page.open(sweep_page, 400).violations(dark) == []


def test_a_plan_that_is_picked_has_a_command_to_copy(page, run_page):
    page.open(run_page)
    command = page.one("#picked-command")
    assert command.text.endswith(" stratos +task=mahjong cloud=aws")
    button = page.one("#frontier [data-copy]")
    page.chrome.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardReadWrite"]})
    page.js("arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()
    copied = page.chrome.execute_async_script(
        "const done = arguments[0]; setTimeout(() => "
        "done([document.querySelector('#frontier [data-copy]').textContent,"
        " window.getSelection().toString()]), 200);"
    )
    assert copied[0] == "Copied" or copied == ["Selected", command.text]
    circles = page.all("#frontier circle.dot")
    page.js("arguments[0].dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter'}))", circles[0])
    assert not command.is_displayed(), "the students of this page are in no YAML"
    assert "no command names it" in page.one("#picked-said").text


@pytest.mark.parametrize("width", [400, 768, 1200, 3840])
def test_nothing_is_wider_than_the_window(page, run_page, sweep_page, width):
    assert page.open(run_page, width).overflow() <= 0
    assert page.open(sweep_page, width).overflow() <= 0


@pytest.mark.parametrize("width", [500, 1280])
def test_the_jobs_of_a_sweep_fit_the_window(page, sweep_page, width):
    page.open(sweep_page, width)
    table = "document.querySelector('#jobs .scroll')"
    assert page.js(f"return {table}.scrollWidth - {table}.clientWidth") <= 0
    assert len(page.all("#curves figure")) == 2
    lines = page.all("#curves figure:first-child polyline")
    assert len(lines) == 8, "the best on validation items, each in a colour of its own"
    colours = {line.value_of_css_property("stroke") for line in lines}
    assert len(colours) == 8


def test_the_sweep_page_opens_sorts_and_leads_to_its_runs(page, sweep_page):
    page.open(sweep_page, 1500)
    assert page.requests() == [sweep_page.as_uri()]
    assert page.js("return typeof window.hacked") == "undefined"
    assert column(page, "#jobs", 0) == [str(job) for job in range(12)]
    headers = page.all("#jobs th[data-sort]")
    headers[7].find_element("css selector", "button").click()
    costs = column(page, "#jobs", 7)
    assert costs[-1] == ""  # the job without a plan stays last
    assert [float(c) for c in costs[:-1]] == sorted(float(c) for c in costs[:-1])
    headers[6].find_element("css selector", "button").click()
    assert column(page, "#jobs", 6)[-1] == ""
    assert len(page.all("#compare circle.chosen")) == 11
    assert page.console() == []
    page.one("#jobs tbody a").click()
    assert page.chrome.current_url.endswith("/11/report.html") or page.all("#scorecard")


def test_a_mark_of_the_sweep_leads_to_its_run(page, sweep_page):
    from selenium.webdriver import ActionChains

    page.open(sweep_page, 1500)
    mark = page.all("#compare circle.chosen")[0]
    page.js("arguments[0].scrollIntoView({block: 'center'})", mark)
    ActionChains(page.chrome).move_to_element(mark).click().perform()
    assert page.chrome.current_url.endswith("/0/report.html")


def test_no_script_is_needed_to_read(page, run_page):
    page.chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.open(run_page)
        chosen = page.one("#frontier circle.chosen")
        assert chosen.is_displayed()
        assert page.all("#frontier .ticks-x text")
        assert page.all("#training polyline.smooth")
    finally:
        page.chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
