"""Requests that name what a tool does and its arguments, and values that descriptions give."""

from __future__ import annotations

import random
from typing import Any

from stratos.contrib.tools.calls import Call, written
from stratos.contrib.tools.drawing import Drawer, examples_in
from stratos.contrib.tools.plain_requests import read, write
from stratos.contrib.tools.request_templates import Requests
from stratos.contrib.tools.signatures import tools_of

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


SAVE: dict[str, Any] = {
    "name": "bank.save",
    "description": "Get the interest on savings.",
    "parameters": {
        "properties": {
            "deposit": {"type": "integer"},
            "yearly_rate": {"type": "number"},
            "years": {"type": "integer"},
            "tax": {"type": "number", "description": "In percent."},
            "is_joint": {"type": "boolean"},
        },
        "required": ["deposit"],
    },
}


def test_values_are_read_as_people_say_them() -> None:
    save, book = tools_of([SAVE, BOOK])
    for said, tool, arguments in (
        (
            "I need the interest on savings with deposit $5,000 with yearly rate 5% for 3 years",
            save,
            {"deposit": 5000, "yearly_rate": 0.05, "years": 3},
        ),
        (
            "Show me the interest on savings, where deposit is 70 and tax is 5% and is joint is no",
            save,
            {"deposit": 70, "tax": 5, "is_joint": False},
        ),
        (
            "Hello! Could you book a room near 'Reno, NV' on May 3, 2024 please.",
            book,
            {"place": "Reno, NV", "day": "2024-05-03"},
        ),
        (
            "I need to book a room of type double bed near Reno, NV for 3 May 2024. Thanks!",
            book,
            {"place": "Reno, NV", "kind": "double_bed", "day": "2024-05-03"},
        ),
    ):
        assert [one.arguments for one in read(said, tool)] == [arguments], said
    # What is no number or no day of a schema is nothing of it.
    for unread, tool in (
        ("What is the interest on savings with deposit $5,0", save),
        ("Book a room near Reno, NV for the 3rd of May", book),
    ):
        assert not list(read(unread, tool))


def test_several_calls_of_one_tool_share_what_they_do() -> None:
    tools = tools_of([AREA, BOOK])
    requests = Requests({})

    def found(said: str) -> list[list[dict[str, Any]]]:
        return [[call.arguments for call in calls] for calls in requests.read(said, tools)]

    first, second = {"width": 4, "height": 2.5}, {"width": 1, "height": 7}
    alone = "Give me the area: width = 4 and height = 2.5"
    assert found(alone) == [[first]]
    for said in (
        "Calculate the area of 4 and 2.5, and also with width 1 with height 7",
        "Calculate the area of 4 and 2.5. Also, Help me calculate the area of 1 and 7",
        "Calculate the area with width 4 and height 2.5 and also with height 7 with width 1",
    ):
        assert found(said) == [[first, second]], said
    places = [{"place": "Reno, NV"}, {"place": "Oslo"}]
    both = "Book a room in 'Reno, NV', as well as 'Oslo'"
    assert found(both) == [places]
    rng = random.Random(1)
    n_read = 0
    for k in range(300):
        calls = Drawer().calls([tools[k % 2]] * (2 + k % 2), rng)
        request = requests.write_all(calls, [tools[k % 2]] * len(calls), rng)
        read_back = [written(some) for some in requests.read(request, tools)]
        n_read += read_back == [written(calls)]
    assert n_read > 200


def test_values_follow_what_a_description_says() -> None:
    rng = random.Random(0)
    [book] = tools_of([BOOK])
    calls = [Drawer().call(book, rng).arguments for _ in range(200)]
    places = {call["place"] for call in calls}
    assert {"Reno, NV", "Austin, TX"} <= places
    assert all(len(call["day"]) == 10 and call["day"][4] == "-" for call in calls if "day" in call)
    quoted = "Unit, e.g. 'km' or \"mi\". Default is 'km'. The king's 'own'."
    assert examples_in(quoted) == ("km", "mi")
    assert examples_in("One of many.") == ()
    assert examples_in("City, e.g. Reno, NV") == ("Reno, NV",)
    listed = "Color (e.g., red, light blue, or green etc.)"
    assert examples_in(listed) == ("red", "light blue", "green")
    assert examples_in("Such as the one that is nearest to you.") == ()
    # A name says what an unnamed kind of value is; few optional arguments are given at once.
    [save] = tools_of([SAVE])
    saved = [Drawer().call(save, rng).arguments for _ in range(200)]
    assert all(0 < one["yearly_rate"] <= 0.3 for one in saved if "yearly_rate" in one)
    assert all(1 <= one["tax"] <= 30 for one in saved if "tax" in one)
    assert 1.5 < sum(map(len, saved)) / len(saved) < 3
