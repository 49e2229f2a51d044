"""Wrong turns of agents' traces, in conversations with a bank."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest
from sklearn.linear_model import LogisticRegression

from stratos.contrib.logs.conversation import Call, Turn
from stratos.contrib.tools.grounding import is_grounded, times, tokens
from stratos.contrib.tools.trace_checks import cleaned, doubtful_turns
from stratos.contrib.tools.usual_tools import checked_usual, usual_tools
from stratos.contrib.tools.words import TurnDoubt

NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivo", "Jana")
CITIES = ("Rome", "Oslo", "Bern", "Lima", "Cairo", "Kyoto", "Porto", "Delhi")
BALANCE, TRANSFER, BRANCH = 1, 3, 5
"""Turns of `conversation`."""


def tool(name: str, **properties: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {key: {"type": kind} for key, kind in properties.items()},
        "required": list(properties),
    }
    return {"type": "function", "function": {"name": name, "parameters": schema}}


TOOLS = [
    tool("get_balance", account="string"),
    tool("send_money", recipient="string", amount="integer"),
    tool("find_branch", city="string"),
]


def call(name: str, **arguments: Any) -> Turn:
    return Turn("assistant", "", (Call("c", name, json.dumps(arguments)),))


def conversation(rng: random.Random) -> list[Turn]:
    account, amount = f"{rng.randrange(10**6, 10**7)}", rng.randint(20, 900)
    name, city = rng.choice(NAMES), rng.choice(CITIES)
    return [
        Turn("user", f"{rng.choice(('what is', 'tell me'))} the balance of account {account}"),
        call("get_balance", account=account),
        Turn("user", f"{rng.choice(('send', 'transfer'))} {amount} to {name}"),
        call("send_money", recipient=name, amount=amount),
        Turn("user", f"{rng.choice(('is there', 'I need'))} a branch in {city}"),
        call("find_branch", city=city),
        Turn("user", rng.choice(("thank you", "thanks, bye"))),
        Turn("assistant", rng.choice(("You are welcome.", "Glad to help."))),
    ]


def traces(n: int = 120) -> list[list[Turn]]:
    rng = random.Random(0)
    return [conversation(rng) for _ in range(n)]


def with_arguments(turn: Turn, **arguments: Any) -> Turn:
    [made] = turn.calls
    given = json.loads(made.arguments) | arguments
    return replace(turn, calls=(replace(made, arguments=json.dumps(given)),))


def renamed(trace: list[Turn]) -> list[Turn]:
    """Return a trace in which the transfer has other names."""
    [made] = trace[TRANSFER].calls
    given = json.loads(made.arguments)
    turn = call("SendMoney", to_recipient=given["recipient"], amountEuro=given["amount"])
    return [*trace[:TRANSFER], turn, *trace[TRANSFER + 1 :]]


def reasons(spoilt: list[list[Turn]], tools: Any = TOOLS) -> dict[tuple[int, int], TurnDoubt]:
    return {
        (doubt.conversation, doubt.turn): doubt.reason for doubt in doubtful_turns(spoilt, tools)
    }


def test_right_traces_have_no_doubtful_turn() -> None:
    assert reasons(traces()) == {}
    assert reasons(traces(), usual_tools(traces())) == {}


@pytest.mark.parametrize(
    ("place", "turn", "reason"),
    [
        (BALANCE, call("open_door", key="9"), TurnDoubt.UNKNOWN_TOOL),
        (BALANCE, call("get_balance", account="1", amount=5), TurnDoubt.UNKNOWN_ARGUMENT),
        (TRANSFER, call("send_money", recipient="Ada"), TurnDoubt.MISSING_ARGUMENT),
        (BALANCE, call("get_balance", account="7777777"), TurnDoubt.NOT_SAID),
        (BALANCE, call("find_branch", city="balance"), TurnDoubt.OTHER_TOOL),
        (BRANCH, Turn("assistant", "You are welcome."), TurnDoubt.CALL_DUE),
        (7, call("find_branch", city="branch"), TurnDoubt.TEXT_DUE),
    ],
)  # fmt: skip
def test_a_wrong_turn_is_named_with_its_reason(place: int, turn: Turn, reason: TurnDoubt) -> None:
    spoilt = traces()
    spoilt[5][place] = turn
    assert reasons(spoilt) == {(5, place): reason}


def test_half_of_the_turns_wrong() -> None:
    """Calls with arguments of other conversations, texts in place of calls, calls of texts."""
    rng = random.Random(1)
    right, spoilt = traces(300), traces(300)
    wrong = set()
    for number, trace in enumerate(spoilt):
        for k in range(1, len(trace), 2):
            if rng.random() < 0.5:
                source = right[rng.randrange(len(right))][rng.choice((1, 3, 5, 7))]
                if source != trace[k]:
                    trace[k] = source
                    wrong.add((number, k))
    for tools in (TOOLS, usual_tools(spoilt)):
        doubted = set(reasons(spoilt, tools))
        assert len(doubted & wrong) >= 0.9 * len(doubted)
        assert len(doubted & wrong) >= 0.8 * len(wrong)


def test_what_was_predicted_to_infer_tools_is_not_predicted_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fit, fitted = LogisticRegression.fit, []

    def counted(model: LogisticRegression, *args: Any, **kwargs: Any) -> LogisticRegression:
        fitted.append(model)
        return fit(model, *args, **kwargs)

    monkeypatch.setattr(LogisticRegression, "fit", counted)
    spoilt = traces()
    spoilt[5][BALANCE] = call("get_balance", account="7777777")
    tools, checks = checked_usual(spoilt)
    doubts = checks.doubts()
    n_together = len(fitted)
    assert tools == usual_tools(spoilt)
    assert doubts == doubtful_turns(spoilt, tools) != []
    assert len(fitted) == 3 * n_together, "the same once more for the tools, and for the doubts"


def test_names_that_drifted_are_those_of_the_schema_again() -> None:
    right = traces()
    spoilt = [renamed(trace) if k % 3 == 0 else trace for k, trace in enumerate(right)]
    for tools in (TOOLS, usual_tools(spoilt)):
        assert set(reasons(spoilt, tools).values()) == {TurnDoubt.RENAMED}
        assert cleaned(spoilt, tools) == right


def test_a_repeated_call_is_dropped_with_its_result() -> None:
    right = traces()
    right[3].insert(BALANCE + 1, Turn("tool", "12 euros", result_of="c"))
    spoilt = [list(trace) for trace in right]
    spoilt[3][BALANCE + 1 : BALANCE + 1] = [spoilt[3][BALANCE + 1], spoilt[3][BALANCE]]
    assert reasons(spoilt) == {(3, BALANCE + 2): TurnDoubt.REPEATED}
    assert cleaned(spoilt, TOOLS) == right


def test_a_call_that_is_polled_is_not_repeated() -> None:
    polled = traces()
    results = [Turn("tool", text, result_of="c") for text in ("wait", "12 euros")]
    polled[3][BALANCE + 1 : BALANCE + 1] = [results[0], polled[3][BALANCE], results[1]]
    assert TurnDoubt.REPEATED not in reasons(polled).values()


def test_a_doubtful_turn_stays_as_context_and_is_not_learnt() -> None:
    spoilt = traces()
    spoilt[5][BALANCE] = call("get_balance", account="7777777")
    [turn] = [turn for turn in cleaned(spoilt, TOOLS)[5] if not turn.is_learnt]
    assert turn == replace(spoilt[5][BALANCE], is_learnt=False)


def test_a_conversation_with_another_service_is_foreign() -> None:
    strangers = [
        Turn("user", "play some jazz"),
        call("play_song", title="jazz"),
        Turn("user", "louder"),
        call("set_volume", level=9),
        Turn("assistant", "Enjoy."),
    ]
    doubted = reasons([*traces(), *[strangers] * 3])
    assert {k for number, k in doubted if number == 120} == {1, 3, 4}
    assert doubted[120, 4] is TurnDoubt.FOREIGN


def test_where_most_calls_break_the_schema_no_call_is_doubtful() -> None:
    tools = [*TOOLS[:1], tool("send_money", recipient="string", amount="string"), TOOLS[2]]
    assert reasons(traces(), tools) == {}


def test_tools_are_inferred_from_traces_with_wrong_calls() -> None:
    rng = random.Random(2)
    spoilt = traces(200)
    for trace in spoilt:
        if rng.random() < 0.3:  # the tool alone is swapped
            name = rng.choice(("get_balance", "find_branch"))
            trace[TRANSFER] = replace(trace[TRANSFER], calls=tuple(
                replace(made, name=name) for made in trace[TRANSFER].calls))  # fmt: skip
        if rng.random() < 0.1:
            trace[rng.choice((1, 3, 5, 7))] = call("play_song", title="jazz")
    tools = usual_tools(spoilt)
    for tool in tools:
        for argument in tool["function"]["parameters"]["properties"].values():
            argument.pop("enum", None)  # the few cities of these traces
    assert tools == sorted(TOOLS, key=lambda made: made["function"]["name"])


def called(*calls: tuple[str, dict[str, Any]]) -> Turn:
    made = (Call(f"c{k}", name, json.dumps(given)) for k, (name, given) in enumerate(calls))
    return Turn("assistant", "", tuple(made))


def names_of(tools: list[dict[str, Any]]) -> set[str]:
    return {tool["function"]["name"] for tool in tools}


def test_tools_that_are_called_beside_others_are_tools() -> None:
    rng = random.Random(3)
    right = traces()
    for trace in right:
        word = rng.choice(CITIES)
        trace[6:6] = [
            Turn("user", f"what is new about {word}?"),
            called(("read_news", {"day": "today"}), ("search_mail", {"query": word})),
            Turn("user", f"find my note on {word}"),
            called(("find_note", {"query": word})),
        ]
    tools = usual_tools(right)
    assert {"read_news", "search_mail", "find_note"} <= names_of(tools)
    assert reasons(right, tools) == {}


def test_a_rare_tool_whose_values_are_said_is_a_tool() -> None:
    rng = random.Random(4)
    some = traces(200)
    for trace in some[:3]:
        code = f"card-{rng.randrange(1000)}"
        trace[6:6] = [Turn("user", f"please block {code}"), call("block_card", card=code)]
    for trace in some[3:7]:  # strayed in
        trace.insert(
            rng.choice((1, 3, 5, 7)), call("play_song", title=rng.choice(("jazz", "blues")))
        )
    names = names_of(usual_tools(some))
    assert "block_card" in names
    assert "play_song" not in names


def test_a_call_that_is_often_made_again_is_not_repeated() -> None:
    rng = random.Random(5)
    right = traces(60)
    for trace in right:
        louder = [call("volume_up"), Turn("tool", "ok", result_of="c")]
        trace[6:6] = [Turn("user", "louder"), *louder * rng.randint(1, 3)]
    right[0].insert(TRANSFER, right[0][TRANSFER])
    assert reasons(right, [*TOOLS, tool("volume_up")]) == {(0, TRANSFER + 1): TurnDoubt.REPEATED}


@pytest.mark.parametrize("n", [25, 200])
def test_a_value_that_the_words_of_the_user_imply_is_not_doubtful(n: int) -> None:
    rng = random.Random(6)
    right = []
    for _ in range(n):
        city = rng.choice(CITIES)
        where = f"in {city}"
        if rng.random() < 0.3:
            city, where = "Rome", "here"
        right.append([
            Turn("user", f"{rng.choice(('is there', 'I need'))} a branch {where}"),
            call("find_branch", city=city),
            Turn("user", "thanks"),
            Turn("assistant", "Glad to help."),
        ])  # fmt: skip
    assert reasons(right) == {}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (4, "a table for four people"),
        ("2026-03-08", "on March 8th"),
        ("2026-03-08", "the 8th of Mar"),
        ("19:30", "at 7:30 pm"),
        ("18:30", "half past six in the evening"),
        ("gift_card", "as a gift card, please"),
        (["a1", "b2"], "items B2 and A1"),
        (5.0, "5 euros"),
    ],
)  # fmt: skip
def test_values_are_grounded_in_other_words(value: Any, text: str) -> None:
    assert is_grounded(value, dict.fromkeys([*tokens(text), *times(text)]))


@pytest.mark.parametrize(
    ("value", "text"),
    [("Rome", "to Romeo"), (14, "for four"), ("19:30", "at 7 pm"), ("2026-03-08", "8 April")],
)
def test_values_that_are_not_said(value: Any, text: str) -> None:
    assert not is_grounded(value, dict.fromkeys([*tokens(text), *times(text)]))
