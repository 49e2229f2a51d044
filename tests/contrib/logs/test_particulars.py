"""Times and token counts of rows: wild values are none, and end no reading."""

from __future__ import annotations

import json
import random
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stratos.contrib.logs.conversation import Conversation, particulars, seconds_of
from stratos.contrib.logs.turn_rows import Seen, read_conversations, workload_of
from stratos.tasks.dedup.hashes import normalised

WILD = ["1e999", "Infinity", "NaN", "1" + "0" * 400, '"²"', f'"{"9" * 5000}"', "-5", '"x"', "[1]"]
ASKED, SAID = '[{"role": "user", "content": "x"}]', '"gen_ai.completion": "y"'
OCTOBER = datetime(2025, 10, 1, tzinfo=UTC).timestamp()


def read(path: Path, line: str) -> list[Any]:
    path.write_text(line + "\n")
    return [found for _, found in read_conversations(str(path), Seen())]


@pytest.mark.parametrize("value", WILD)
def test_a_wild_number_is_no_count_and_no_time_and_ends_nothing(value: str, tmp_path: Path) -> None:
    usage = f'{{"prompt_tokens": {value}, "completion_tokens": {value}}}'
    row = f'{{"created": {value}, "usage": {usage}, "prompt": "a", "completion": "b"}}'
    attributes = f'{{"gen_ai.usage.input_tokens": {value}, "gen_ai.prompt": {ASKED}, {SAID}}}'
    span = f'{{"attributes": {attributes}, "startTimeUnixNano": {value}}}'
    for line in (row, span):
        [found] = read(tmp_path / "a.jsonl", line)
        assert isinstance(found, Conversation), found
        assert (found.about.time_s, found.about.input_tokens) == (None, None)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("20251001", OCTOBER),
        (20251001, OCTOBER),
        (20251001.0, OCTOBER),
        ("20251001003000", OCTOBER + 1800),
        ("2025-10-01T00:00:00Z", OCTOBER),
        ("2025-10-01 02:00:00+02:00", OCTOBER),
        (OCTOBER, OCTOBER),
        (int(OCTOBER * 1000), OCTOBER),
        (str(int(OCTOBER * 1e9)), OCTOBER),
        ("0001-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+12:00", None),
        ("1970-01-01T00:00:00Z", None),
        ("9999-12-31T23:59:59-12:00", None),
        ("01/10/2025", None),
    ],
)
def test_times_are_read_in_every_form(value: Any, seconds: float | None) -> None:
    assert seconds_of(value) == seconds


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 0, "completion_tokens": 0}, (None, None)),
        ({"prompt_tokens": "12", "completion_tokens": 5.0}, (12, 5)),
        ({"input_tokens": 12, "output_tokens": 5, "cache_read_input_tokens": 9000,
          "cache_creation_input_tokens": 1000}, (10_012, 5)),
        ({"input_tokens": 12, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 8}},
         (12, 5)),
        ({"prompt_tokens": 10_012, "completion_tokens": 5, "cache_read_input_tokens": 9000},
         (10_012, 5)),
        ({"input": 12, "output": 5, "cache_read_input_tokens": 9000}, (9012, 5)),
    ],
)  # fmt: skip
def test_tokens_from_a_cache_are_counted_once(usage: dict[str, Any], counts: Any) -> None:
    about = particulars("x", {"usage": usage})
    assert (about.input_tokens, about.output_tokens) == counts


def test_the_words_of_a_workload_are_found_in_linear_time(tmp_path: Path) -> None:
    """One by one they are what a pattern over the whole text finds."""
    pattern = re.compile(r"https?://\S+|\S+@\S+|\S*\d\S*")
    rng = random.Random(0)
    parts = ["http://", "https://", "a", "B", "@", "7", " ", "(", ".", "é", "的", "٣", "\n"]
    for _ in range(300):
        text = "x " + "".join(rng.choices(parts, k=rng.randrange(1, 40)))
        row = {
            "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "b"}]
        }
        [found] = read(tmp_path / "a.jsonl", json.dumps(row))
        words = pattern.sub("…", normalised(text)).split()
        assert workload_of(found).beginning == " ".join(words[:4])
    row["messages"][0]["content"] = "的" * 2000
    [found] = read(tmp_path / "a.jsonl", json.dumps(row))
    start = time.process_time()
    for _ in range(100):
        workload_of(found)
    assert time.process_time() - start < 0.5
