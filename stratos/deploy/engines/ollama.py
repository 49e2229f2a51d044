"""Write a Modelfile: what Ollama has to know of a GGUF file, whose Jinja template it does not read.

Ollama writes chats with Go's templates, message by message. The texts around each role's messages
are found by writing chats with the bundle's own template, and every chat is compared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from stratos.core.atomic_files import write_atomically
from stratos.deploy.engines.base import EXPORTS, Message
from stratos.deploy.engines.chat_ids import ChatError, ChatIds

MODELFILE = f"{EXPORTS}/Modelfile"
_SYSTEM, _QUESTION, _ANSWER, _NEXT = "s9q4", "u7w1", "a3k8", "n5x2"
"""Texts that no template has."""


@dataclass(frozen=True)
class ChatFormat:
    """What stands before and behind the text of each role."""

    opening: str
    """Before a chat without a system message."""
    around: Mapping[str, tuple[str, str]]
    """By role; a role that is not named is left out."""
    answer: str
    """Where the answer begins."""

    def written(self, chat: Sequence[Mapping[str, Any]]) -> str:
        """Return a chat as Ollama writes it."""
        has_system = any(message["role"] == "system" for message in chat)
        parts = ["" if has_system else self.opening]
        for message in chat:
            if (around := self.around.get(message["role"])) is not None:
                parts.append(f"{around[0]}{message['content']}{around[1]}")
        return "".join([*parts, self.answer])

    def template(self) -> str:
        """Return it as a template of Go; texts are literals, since Go trims around actions."""
        roles = "{{ else ".join(
            f'if eq .Role "{role}" }}}}{_text(before)}{{{{ .Content }}}}{_text(after)}'
            for role, (before, after) in self.around.items()
        )
        opening = f"{{{{ if not .System }}}}{_text(self.opening)}{{{{ end }}}}"
        messages = f"{{{{ range .Messages }}}}{{{{ {roles}{{{{ end }}}}{{{{ end }}}}"
        return f"{opening if self.opening else ''}{messages}{_text(self.answer)}"


def _text(text: str) -> str:
    return f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}" if text else ""


def chat_format(chats: ChatIds, examples: Sequence[list[Message]]) -> ChatFormat | None:
    """Return how a bundle writes chats; None where that is not message by message."""
    question = {"role": "user", "content": _QUESTION}
    answered = [question, {"role": "assistant", "content": _ANSWER}, {**question, "content": _NEXT}]
    system = [{"role": "system", "content": _SYSTEM}, question]
    twice = [question, answered[-1]]
    try:
        before, behind = chats.written([question]).split(_QUESTION)
        _, between, _ = _cut(chats.written(twice), _QUESTION, _NEXT)
        _, answering, asking, _ = _cut(chats.written(answered), _QUESTION, _ANSWER, _NEXT)
        # All questions begin alike, whatever stands before, and end alike, whatever comes then.
        user = _common_end(before, between, asking)
        end = between.removesuffix(user)
        around = {
            "user": (user, end),
            "assistant": (answering.removeprefix(end), asking.removesuffix(user)),
        }
        if _SYSTEM in (text := chats.written(system)):
            first, second, _ = _cut(text, _SYSTEM, _QUESTION)
            around["system"] = (first, second.removesuffix(user))
        made = ChatFormat(before.removesuffix(user), around, behind.removeprefix(end))
        spaced = [{**message, "content": f" {message['content']}\n "} for message in answered]
        same = all(
            made.written(chat) == chats.written(chat)
            for chat in (answered, twice, system, [*system[:1], *answered], spaced, *examples)
        )
    except (ChatError, ValueError):
        return None
    return made if same else None


def _common_end(*texts: str) -> str:
    """Return the longest text that all texts end in."""
    equal = takewhile(lambda chars: len({*chars}) == 1, zip(*map(reversed, texts), strict=False))
    return "".join(chars[0] for chars in equal)[::-1]


def _cut(text: str, *marks: str) -> list[str]:
    """Return what stands before, between and behind marks that come in this order, each once."""
    parts = []
    for mark in marks:
        part, text = text.split(mark)
        parts.append(part)
    return [*parts, text]


def write_modelfile(bundle: Path, form: str, examples: Sequence[list[Message]]) -> bool:
    """Write the Modelfile of a GGUF file; return False where Ollama cannot write its chats.

    Args:
        bundle: holds the file, which has a tokenizer.
        form: format of the file.
        examples: chats that have to be written as the bundle does.
    """
    chats = ChatIds(bundle)
    if (made := chat_format(chats, examples)) is None:
        return False
    lines = [
        f"# ollama create NAME -f {MODELFILE}",
        f"FROM ./{form}.gguf",
        f'TEMPLATE """{made.template()}"""',
        f"PARAMETER stop {json.dumps(chats.tokenizer.eos_token)}",
        "PARAMETER temperature 0",
    ]
    write_atomically(bundle / MODELFILE, "".join(f"{line}\n" for line in lines).encode())
    return True
