"""Requests that name what a tool does and its arguments, and values that descriptions give."""

from __future__ import annotations

import random
from typing import Any

from stratos.tasks.tools.calls import Call, written
from stratos.tasks.tools.drawing import Drawer, examples_in
from stratos.tasks.tools.plain_requests import read, write
from stratos.tasks.tools.signatures import tools_of

BOOK: dict[str, Any] = {
    "name": "Hotels_2_BookRoom",
    "description": "Books a room in a hotel, given the place of it and other details.",
    "parameters": {
        "properties": {
            "place": {"type": "string", "description": "City and state, such as 'Reno, NV'."},
            "kind": {"enum": ["single_bed", "double_bed"]},
            "day": {"type": "string", "description": "In the form YYYY-MM-DD."},
        },
        "required": ["place"],
    },
}
AREA: dict[str, Any] = {
    "name": "area",
    "description": "Calculate the area of a rectangle.",
    "parameters": {
        "properties": {"width": {"type": "number"}, "height": {"type": "number"}},
        "required": ["width", "height"],
    },
}


def test_plain_requests_are_read_back_however_they_are_said() -> None:
    book, area = tools_of([BOOK, AREA])
    for said, tool, arguments in (
        ("Book room in Reno, NV", book, {"place": "Reno, NV"}),
        (
            "Could you book a room for Reno, NV. The kind is Double bed",
            book,
            {"place": "Reno, NV", "kind": "double_bed"},
        ),
        (
            "I'd like to book a room with place Reno, NV and kind single bed",
            book,
            {"place": "Reno, NV", "kind": "single_bed"},
        ),
        (
            "Calculate the area of 4 and 2.5",
            area,
            {"width": 4, "height": 2.5},
        ),
        (
            "Help me calculate the area of a rectangle with a width of 4 and a height of 7",
            area,
            {"width": 4, "height": 7},
        ),
    ):
        assert list({written([one]): one for one in read(said, tool)}.values()) == [
            Call(tool.name, arguments)
        ]
    for unread in (
        "Book room",
        "Calculate the area of four and 7",
        "Calculate the areas of 1 and 2",
    ):
        assert not [*read(unread, book), *read(unread, area)]
    rng = random.Random(0)
    n_read, wordings = 0, set()
    for k in range(400):
        call = Drawer().call([book, area][k % 2], rng)
        request = write(call, [book, area][k % 2], rng)
        found = [one for tool in (book, area) for one in read(request, tool)]
        assert all(one.name == call.name for one in found)
        n_read += {written([one]) for one in found} == {written([call])}
        wordings.add(request.split()[0])
    assert n_read > 300
    assert len(wordings) >= 6


def test_values_follow_what_a_description_says() -> None:
    rng = random.Random(0)
    [book] = tools_of([BOOK])
    calls = [Drawer().call(book, rng).arguments for _ in range(200)]
    places = {call["place"] for call in calls}
    assert {"Reno, NV", "Austin, TX"} <= places
    assert all(len(call["day"]) == 10 and call["day"][4] == "-" for call in calls if "day" in call)
    assert examples_in("Unit, e.g. 'km' or \"mi\". Default is 'km'. The king's 'own'.") == (
        "km",
        "mi",
    )
    assert examples_in("One of many.") == ()
