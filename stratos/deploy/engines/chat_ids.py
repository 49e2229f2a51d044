"""A bundle's chat template and tokenizer without transformers and torch: chats, ids and text.

`deploy` compares the ids with those of transformers before it serves a bundle this way.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from stratos.core.errors import StratosError
from stratos.deploy.engines.base import ExportError, Message
from stratos.models.pretrained import load_tokenizer

if TYPE_CHECKING:
    import jinja2
    from tokenizers import Tokenizer

LEAST_LOGPROB = -9999.0
"""What the API writes for minus infinity, which JSON does not have."""

_FIRST = 4
"""Characters for each token that a chat may have, in the part of it that is cut first."""


class ChatError(StratosError):
    """A chat that the bundle's template cannot write."""


class ChatIds:
    """What a bundle makes of chats and of token ids."""

    def __init__(self, bundle: Path) -> None:
        """Read the files of a bundle.

        Raises:
            ExportError: they cannot be read.
        """
        from tokenizers import Tokenizer

        try:
            facts = json.loads((bundle / "tokenizer_config.json").read_text(encoding="utf-8"))
            self.template = _template_of(bundle, facts)
            self.tokenizer: Tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
        except Exception as error:  # tokenizers raises a bare Exception
            raise ExportError(f"The tokenizer in {bundle} cannot be read ({error}).") from error
        # The server adds nothing and cuts nothing: the template writes all that a chat needs.
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self._special = {
            name: _text_of(facts[name])
            for name in ("bos_token", "eos_token", "unk_token", "pad_token")
            if facts.get(name)
        }
        self._compiled = _environment().from_string(self.template)
        self._longest = _longest_of(self.tokenizer)

    def ids(
        self, messages: Sequence[Mapping[str, Any]], tools: Any = None, most: float = math.inf
    ) -> list[int]:
        """Return the token ids of a chat, up to where the answer begins.

        Args:
            messages: of the chat.
            tools: that are offered, as the API has them; None for none.
            most: tokens that it may have; a text that is far longer is not cut for it.

        Raises:
            ChatError: the template does not take the chat, or no tools, or the chat is too long.
        """
        text = self._written(messages, tools)
        if tools is not None and text == self._written(messages, None):
            raise ChatError("tools: the chat template of this model takes none.")
        if self._exceeds(text, most) or len(ids := self._cut(text)) > most:
            raise ChatError(f"messages: the chat exceeds the context of {most:,} tokens.")
        return ids

    def _cut(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def _exceeds(self, text: str, most: float) -> bool:
        """Tell from a part of a text, where it can be told, that it has too many tokens.

        The start of a text has about the tokens that the whole begins with: a few at its end may be
        others. Twice as many as there may be leave ample room for these.
        """
        if len(text) > most * self._longest:
            return True
        n = _FIRST * most
        while n < len(text):
            if len(self._cut(text[: int(n)])) > 2 * most:
                return True
            n *= _FIRST
        return False

    def _written(self, messages: Sequence[Mapping[str, Any]], tools: Any) -> str:
        import jinja2

        try:
            return self._compiled.render(
                messages=[_with_objects(one) for one in messages],
                tools=tools,
                add_generation_prompt=True,
                **self._special,
            )
        except (jinja2.TemplateError, TypeError, AttributeError, KeyError) as error:
            raise ChatError(f"The chat template does not take this chat: {error}") from error

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of an answer, without special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def likelihood(self, places: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return llama.cpp's tokens with their log-probabilities as the API has them.

        The token that ends the answer is among them: how sure a short answer is shows there.
        """
        return [
            {
                "token": self.tokenizer.id_to_token(one["id"]) or "",
                "logprob": max(LEAST_LOGPROB, one["logprob"]),
                "top_logprobs": [],
            }
            for one in places
        ]

    def pieces(self) -> Pieces:
        """Return what turns an answer into text while it is written."""
        return Pieces(self.tokenizer)


class Pieces:
    """Turns token ids into text one by one: a character may take several."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        from tokenizers.decoders import DecodeStream

        self._tokenizer = tokenizer
        self._stream = DecodeStream(ids=[], skip_special_tokens=True)

    def take(self, ids: Sequence[int]) -> str:
        """Return the text that has become whole by further ids."""
        return "".join(self._stream.step(self._tokenizer, one) or "" for one in ids)


def _with_objects(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a message whose calls have objects as arguments, as templates take them.

    The API has them as JSON.
    """
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return message
    return {**message, "tool_calls": [_with_object(one) for one in calls]}


def _with_object(call: Any) -> Any:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"] or "{}")
    except (ValueError, RecursionError):
        return call
    return {**call, "function": {**function, "arguments": arguments}}


def _longest_of(tokenizer: Tokenizer) -> float:
    """Return the most characters that one token may stand for; infinite where it is not bound.

    Where a text is cut by its bytes, each is in a token, and each token is in the vocabulary.
    """
    from tokenizers.decoders import ByteLevel

    if tokenizer.normalizer is not None or not isinstance(tokenizer.decoder, ByteLevel):
        return math.inf
    return max(map(len, tokenizer.get_vocab()))


def _template_of(bundle: Path, facts: Mapping[str, Any]) -> str:
    path = bundle / "chat_template.jinja"
    return path.read_text(encoding="utf-8") if path.exists() else str(facts["chat_template"])


def _text_of(token: Any) -> str:
    """Return a special token's text: older files have a mapping for it."""
    return str(token["content"] if isinstance(token, Mapping) else token)


def _environment() -> jinja2.Environment:
    """Return Jinja as chat templates expect it: that of transformers."""
    from jinja2.ext import Extension, loopcontrols
    from jinja2.nodes import Node
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks what a model is trained on; here it changes nothing."""

        tags = {"generation"}  # noqa: RUF012 - as Jinja has it

        def parse(self, parser: Parser) -> list[Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def raise_exception(message: str) -> NoReturn:
        import jinja2

        raise jinja2.TemplateError(message)

    def tojson(value: Any, indent: int | None = None, **more: Any) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent, **more)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


class StopCut:
    """Cuts a text that comes in parts at the first stop sequence.

    What may be the beginning of one is held back.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._most_held = max(map(len, stops), default=1) - 1
        self._held = ""
        self.is_over = False
        """Whether a stop sequence came."""

    def take(self, part: str) -> str:
        """Return what of the text is certain now."""
        text = self._held + part
        cut = first_stop(text, self._stops)
        self.is_over = self.is_over or cut < len(text)
        until = cut if self.is_over else max(0, len(text) - self._most_held)
        self._held = "" if self.is_over else text[until:]
        return text[:until]

    def rest(self) -> str:
        """Return what was held back, where no stop sequence came."""
        held, self._held = self._held, ""
        return held


def first_stop(text: str, stops: Sequence[str]) -> int:
    """Return where the first stop sequence begins; the length of the text if there is none."""
    return min((place for stop in stops if (place := text.find(stop)) >= 0), default=len(text))


# Compare how an engine cuts chats into tokens with how transformers does.


def by_transformers(bundle: Path, chats: Sequence[list[Message]]) -> list[list[int]]:
    """Return the ids of chats, up to where the answer begins, as the evaluation had them."""
    tokenizer = load_tokenizer(bundle)
    return [
        list(
            tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)[
                "input_ids"
            ]
        )
        for chat in chats
    ]


def first_difference(
    expected: Sequence[Sequence[int]], found: Sequence[Sequence[int]], names: ChatIds
) -> str:
    """Return where two lists of token ids part, with the texts of both tokens; "" if nowhere."""
    for place, (a, b) in enumerate(zip(expected, found, strict=True), 1):
        if list(a) == list(b):
            continue
        n_same = next(
            (n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
        )
        told, other = (
            "the end" if n_same == len(ids) else
            f"{ids[n_same]} ({names.tokenizer.id_to_token(ids[n_same])!r})"
            for ids in (a, b)
        )  # fmt: skip
        return f"question {place}, token {n_same + 1}: {told} becomes {other}"
    return ""
