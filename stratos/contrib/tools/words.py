"""What is wrong with rows of calls, and with the calls of an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum
from typing import Any

from stratos.core.formats import counted, listed
from stratos.core.reasons import Reason
from stratos.core.redact import shown

MOST_NAMED = 20
"""Tools that a warning names before it only counts."""


class NoTools(Reason):
    """A row offers no tool."""

    field: str

    says = "{field} is empty, so that nothing can be called"


class ToolsInferred(Reason):
    """No row of a file names the tools that it calls."""

    path: str
    signatures: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"No row of {self.path} names its tools. They are inferred from the calls: "
            f"{listed(self.signatures[:MOST_NAMED])}. task.tools_path=tools.json writes them into "
            "that file for you to correct, and takes them from it."
        )


class UnknownTool(Reason):
    """A call is of a tool that the row does not offer."""

    number: int
    """Of the call, from 1."""
    name: str
    tools: tuple[str, ...]

    def __str__(self) -> str:
        known = ", ".join(self.tools) or "none"
        return (
            f"call {self.number} is of {shown(self.name)}, which is no tool of the row; it has "
            f"{known}"
        )


class WrongArguments(Reason):
    """The arguments of a call do not match the schema of its tool."""

    pointer: str
    problem: str
    """What the validator says."""

    def __str__(self) -> str:
        return f"{shown(self.pointer, 120)}: {shown(self.problem, 120)}"


class NestedTooDeep(Reason):
    """The arguments of a call cannot be checked."""

    says = "the arguments are nested too deep"


class WrongCall(Reason):
    """Something is wrong with the arguments of a call."""

    number: int
    """Of the call, from 1."""
    tool: str
    reason: Reason

    says = "call {number} of {tool}: {reason}"


class NoArgument(Reason):
    """What else is right names an argument that the tool does not have."""

    key: str
    """optional or accept."""
    number: int
    """Of the call, from 1."""
    name: str
    tool: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        known = ", ".join(self.arguments) or "none"
        return (
            f"{self.key} of call {self.number} names {shown(self.name)}, which is no argument of "
            f"{self.tool}; it has {known}"
        )


class WrongAccept(Reason):
    """A value that is to be right, too, does not match the schema of the tool."""

    number: int
    """Of the call, from 1."""
    name: str
    value: Any
    tool: str

    def __str__(self) -> str:
        value = shown(json.dumps(self.value, ensure_ascii=False))
        return (
            f"accept of call {self.number} has {value} for {self.name}, which does not match the "
            f"schema of {self.tool}"
        )


class NoCalls(Reason):
    """An answer is neither calls nor a text that may be due."""

    says = "it makes no call"


class NotRecovered(Reason):
    """The calls of an item are not read back from its answer."""

    says = "its calls cannot be read back"


class NoDraw(Enum):
    """Why a draw makes no request, worded with the name and the form of an argument."""

    NOT_READ = "its request can be read in another way, or in none"
    NO_MATCH = "none of the values that were tried match its schema"
    UNKNOWN_VALUES = "the schema of {name} does not say what its values are"
    NO_FIELDS = "the schema of {name} names no fields"
    NO_EXAMPLES = "{name} has {form} and no examples"


class NotDrawn(Reason):
    """A draw of calls of a tool makes no request."""

    problem: NoDraw
    name: str = ""
    """Of an argument."""
    form: str = ""
    """What its schema asks for."""

    def __str__(self) -> str:
        return self.problem.value.format(name=self.name, form=self.form)


class NeverDrawn(Reason):
    """Nothing could be made for some tools."""

    reasons: Mapping[str, Reason]
    """Name of a tool to why."""
    n_tools: int
    """That were drawn."""

    def __str__(self) -> str:
        n = len(self.reasons)
        named = list(self.reasons.items())[:MOST_NAMED]
        listed = "; ".join(f"{name} ({reason})" for name, reason in named)
        more = f"; and {n - MOST_NAMED} more" if n > MOST_NAMED else ""
        are = "is" if n == 1 else "are"
        return (
            f"No request could be made for {n} of {counted(self.n_tools, 'tool')}, which {are} not "
            f"taught: {listed}{more}. Give examples of such values in the schema "
            '("examples": […]), or training rows with such calls and task.drawn_from=rows.'
        )


class TurnDoubt(Reason, Enum):
    """Why a turn of an agent is probably wrong."""

    UNKNOWN_TOOL = "a call of a tool that the schema does not have"
    UNKNOWN_ARGUMENT = "an argument that the tool does not have"
    MISSING_ARGUMENT = "a call without an argument that the tool needs"
    SCHEMA = "arguments that do not match the schema"
    NOT_SAID = "a value that nothing before it says, where nearly all others are said"
    TOO_EARLY = "a value that another tool's result gives, before there is one"
    OTHER_ARGUMENT = "a value that looks like those of another argument"
    OTHER_TOOL = "another tool than such places call"
    TEXT_DUE = "a call where such places have a text"
    CALL_DUE = "a text where such places have a call"
    OTHER_TEXT = "a text that such places do not have"
    FOREIGN = "a turn of a conversation with another service"
    REPEATED = "the same call once more"
    RENAMED = "another name of a tool or argument of the schema"


class DoubtfulTurns(Reason):
    """Turns of an agent's conversations are probably wrong."""

    path: str
    counts: tuple[tuple[int, TurnDoubt, str], ...]
    """How many there are for each reason, and where the first stands; the most frequent first."""
    listed_in: str | None = None
    """File that lists them all."""
    test_path: str | None = None
    """File of test rows, which are not looked at."""
    n_relabelled: int | None = None
    """Turns that a teacher answers anew; None where nobody is asked."""

    def __str__(self) -> str:
        lost = [
            f"{n:,} {why} (the first: {where})"
            for n, why, where in self.counts
            if why is not TurnDoubt.RENAMED
        ]
        renamed = sum(n for n, why, _ in self.counts if why is TurnDoubt.RENAMED)
        parts = []
        if lost:
            more = ""
            if self.n_relabelled is not None:
                more = f"; {self.n_relabelled:,} of them go to a teacher, the others stay left out"
            parts.append(
                f"Turns of {self.path} that are probably wrong are neither learnt nor tested: "
                f"{listed(lost)}{more}. Whether a text is true is not checked: task.texts=no_call "
                "learns none."
            )
        if renamed:
            parts.append(f"Names of tools in {renamed:,} turns were mapped to the usual ones.")
        if self.test_path is not None:
            parts.append(f"Turns of {self.test_path} are tested as they are.")
        all_of_them = self.listed_in or "task.doubts_path=doubts.jsonl"
        parts.append(f"{all_of_them} lists all of them.")
        return f"{' '.join(parts)} task.answers=trust takes all turns as they are."


class UncheckedTurns(Reason):
    """An agent's conversations are too many to look for turns that are wrong."""

    path: str
    most: int

    says = (
        "{path} has more than {most:,} conversations: nobody looked for turns that are probably "
        "wrong."
    )
