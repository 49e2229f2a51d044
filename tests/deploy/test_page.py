"""The page on which a hosted student is tried, in a real browser."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stratos.deploy.manifest import read_known
from stratos.deploy.page.app import Checked, Example, Origin, origin_of
from stratos.tasks.mahjong import DiscardTask, MahjongTask

pytestmark = [pytest.mark.browser, pytest.mark.slow]

HOSTILE = "<img src=x onerror='window.hacked = 1'>"


@pytest.fixture(scope="module")
def shown(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the page, as the command tells it."""
    environment = {**os.environ, "STRATOS_CACHE": str(tmp_path_factory.mktemp("cache"))}
    serve = [sys.executable, "-m", "stratos", "serve", str(bundle)]
    with subprocess.Popen(
        [*serve, "--page"], env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        said = ""
        while not (found := re.search(r"The page is at (http://\S+) until Ctrl-C", said)):
            line = process.stdout.readline()
            assert line, said
            said += line
        wait_for(lambda: _listens(found[1]))
        yield found[1]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode in (0, 130)
    # The server stays when the page goes.
    stopped = subprocess.run(
        [sys.executable, "-m", "stratos", "serve", "stop", str(bundle)],
        env=environment, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert stopped.stdout.endswith(": stopped.\n")


def _listens(url: str) -> bool:
    with contextlib.suppress(OSError):
        urllib.request.urlopen(url, timeout=5).close()
        return True
    return False


def wait_for(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def test_a_test_item_and_a_question_of_ones_own_are_asked(shown, page, bundle):
    known = read_known(bundle)[0]
    page.open(shown)
    wait_for(lambda: len(page.all("#example option")) == 4)
    page.all("#example option")[1].click()
    question = page.js("return document.querySelector('#question').value")
    assert question == known.messages[-1]["content"]
    page.one("#ask").click()
    wait_for(lambda: page.all("article[data-done]"))
    shown_answer = page.js("return document.querySelector('.student pre').textContent")
    assert shown_answer == known.text
    assert page.one(".verdict").text == f"The right answer is {known.gold}"
    assert re.match(r"\d+ ms|\d+\.\d s", page.one(".student .facts").text)

    # A question of one's own, with Enter; what is typed is never markup.
    page.js("document.querySelector('#question').value = arguments[0]", HOSTILE)
    page.one("#question").send_keys("\n")
    wait_for(lambda: len(page.all("article[data-done]")) == 2)
    assert page.one(".asked").text == HOSTILE
    assert page.js("return typeof window.hacked") == "undefined"
    assert page.console() == []
    assert all(one.startswith((shown, "data:")) for one in page.requests())
    page.resize(400)
    assert page.overflow() <= 0


def answered(shown: str, path: str, body: bytes, **headers: str) -> int:
    request = urllib.request.Request(shown + path, body, headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        assert path != "/check" or error.code == 400 or "error" in json.loads(error.read() or b"{}")
        return error.code


def test_other_pages_and_broken_requests_are_refused(shown):
    json_type = {"Content-Type": "application/json"}
    good = json.dumps({"question": "1 + 1", "text": "2"}).encode()
    assert answered(shown, "/check", good, **json_type) == 200
    assert answered(shown, "/check", good, **{"Content-Type": "text/plain"}) == 415
    assert answered(shown, "/check", good, Host="evil.example", **json_type) == 400
    assert answered(shown, "/check", b"{", **json_type) == 400
    assert answered(shown, "/ask", b'{"question": 3}', **json_type) == 400
    assert answered(shown, "/ask", b" " * (2 << 20), **json_type) == 413
    assert answered(shown, "/teacher", good, **json_type) == 502  # nobody to ask


def test_the_task_checks_what_it_can_work_out(tmp_path):
    origin = Origin(tmp_path, (Example("a row", "yes"),), MahjongTask())
    hand = "123456789m1122z"
    assert origin.check(hand, " 1z:2 => 12z") == Checked("12z", "12z", True)
    assert origin.check(f" {hand} ", "=> 1z") == Checked("1z", "12z", False)
    assert origin.check("123m", "=> 1z") == Checked("1z", None, None)
    assert origin.check("a row", "nothing") == Checked(None, "yes", False)
    item = DiscardTask().items("test", 1)[0]
    assert DiscardTask().typed(item.question) == item
    assert DiscardTask().typed(hand) is None


def test_a_bundle_alone_says_that_it_has_no_task(bundle):
    origin = origin_of(bundle)
    assert origin.task is None and "no folder of a run" in origin.why_not
    assert len(origin.examples) == 3
