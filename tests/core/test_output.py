"""What a process writes: nothing in it steers a terminal, or turns the direction of a text."""

import io
import json

import pytest

from stratos.core.output import Guarded

BIDI = "\u202e"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (f"a{BIDI}b", "a\\u202eb"),
        ("a\u2066b\u2069", "a\\u2066b\\u2069"),
        ("\x1b[2J\x1b[3;4Hx", "\\u001b[2J\\u001b[3;4Hx"),
        ("\x1b]0;title\x07", "\\u001b]0;title\\u0007"),
        ("\x1b]52;c;AAAA\x1b\\", "\\u001b]52;c;AAAA\\u001b\\"),
        ("\x9b2J\x08\x08", "\\u009b2J\\u0008\\u0008"),
        ("\x1b[1;31mred\x1b[0m\x1b[2K\x1b[1A\x1b[?25l\r\n\t", None),
        ("שלום, سلام, 👩‍👩‍👧, ü\u00a0", None),
    ],
)
def test_a_stream_passes_colours_and_no_other_control(text, written):
    stream = io.StringIO()
    Guarded(stream).write(text)
    assert stream.getvalue() == (text if written is None else written)


def test_what_is_written_as_json_stays_the_same():
    stream = io.StringIO()
    Guarded(stream).write(json.dumps({"a": BIDI}, ensure_ascii=False))
    assert json.loads(stream.getvalue()) == {"a": BIDI}
