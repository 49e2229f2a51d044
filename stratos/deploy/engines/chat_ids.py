"""Chats as token ids, and ids as text, by a bundle's chat template and tokenizer.

`deploy` compares the ids with those of the evaluation before it serves a bundle this way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from stratos.core.errors import StratosError
from stratos.deploy.engines.base import Message
from stratos.models.pretrained.folder import load_tokenizer, quiet_loading, reading
from stratos.models.pretrained.sample_chat import why_endless


class ChatError(StratosError):
    """A chat that the bundle's template cannot write."""


class ChatIds:
    """What a bundle makes of chats and of token ids."""

    def __init__(self, bundle: Path) -> None:
        from transformers import PreTrainedTokenizerFast  # unlike AutoTokenizer without torch

        with reading(f"The tokenizer in {bundle}"), quiet_loading():
            if (endless := why_endless(bundle)) is not None:
                raise ValueError(str(endless))
            self.tokenizer = PreTrainedTokenizerFast.from_pretrained(bundle, local_files_only=True)
        self._longest = max(map(len, self.tokenizer.get_vocab()))

    def ids(
        self, messages: Sequence[Mapping[str, Any]], tools: Any = None, most: int | None = None
    ) -> list[int]:
        """Return the token ids of a chat, up to where the answer begins.

        Args:
            messages: of the chat.
            tools: that are offered, as the API has them; None for none.
            most: tokens that it may have; a text that is far longer is not cut for it.

        Raises:
            ChatError: the template does not take the chat, or no tools, or the chat is too long.
        """
        text = self.written(messages, tools)
        if tools is not None and text == self.written(messages):
            raise ChatError("tools: the chat template of this model takes none.")
        is_short = most is None or len(text) <= most * self._longest
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"] if is_short else []
        if not is_short or (most is not None and len(ids) > most):
            raise ChatError(f"messages: the chat exceeds the context of {most:,} tokens.")
        return list(ids)

    def written(self, messages: Sequence[Mapping[str, Any]], tools: Any = None) -> str:
        """Return a chat as the template writes it, up to where the answer begins.

        Raises:
            ChatError: the template does not take the chat.
        """
        import jinja2

        try:
            return str(
                self.tokenizer.apply_chat_template(
                    [_with_objects(message) for message in messages],
                    tools=tools,
                    add_generation_prompt=True,
                    tokenize=False,
                )
            )
        except (jinja2.TemplateError, TypeError, AttributeError, KeyError) as error:
            raise ChatError(f"The chat template does not take this chat: {error}") from error

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of an answer, without special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))


def _with_objects(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a message whose calls have objects as arguments, as templates take them.

    The API has them as JSON.
    """
    calls = []
    for call in message.get("tool_calls") or ():
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            arguments = json.loads(call["function"]["arguments"] or "{}")
            call = {**call, "function": {**call["function"], "arguments": arguments}}
        calls.append(call)
    return {**message, "tool_calls": calls} if calls else message


def first_stop(text: str, stops: Sequence[str]) -> int:
    """Return where the first stop sequence begins; the length of the text if there is none."""
    return min((start for stop in stops if (start := text.find(stop)) >= 0), default=len(text))


def by_transformers(bundle: Path, chats: Sequence[list[Message]]) -> list[list[int]]:
    """Return the ids of chats, up to where the answer begins, as the evaluation had them."""
    tokenizer = load_tokenizer(bundle)
    return [
        list(tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"])
        for chat in chats
    ]


def first_difference(
    expected: Sequence[Sequence[int]], actual: Sequence[Sequence[int]], own: ChatIds
) -> str:
    """Return where two lists of token ids part, with both tokens; "" if nowhere."""
    for number, pair in enumerate(zip(expected, actual, strict=True), 1):
        a, b = map(list, pair)
        if a == b:
            continue
        same = zip(a, b, strict=False)
        at = next((i for i, (x, y) in enumerate(same) if x != y), min(len(a), len(b)))
        x, y = (
            f"{ids[at]} ({own.tokenizer.convert_ids_to_tokens(ids[at])!r})"
            if at < len(ids)
            else "the end"
            for ids in (a, b)
        )
        return f"question {number}, token {at + 1}: {x} becomes {y}"
    return ""
