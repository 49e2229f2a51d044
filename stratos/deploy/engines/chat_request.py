"""A request to the chat API: read and checked; and the form that an answer is constrained to."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import msgspec
from msgspec import Meta
from starlette.responses import Response

from stratos.core.redact import shown
from stratos.deploy.engines.base import facts_in
from stratos.deploy.engines.chat_ids import first_stop
from stratos.deploy.engines.gguf_file import has_byte_pairs
from stratos.deploy.engines.http_api import Turn, api_error, chat_of, completion, parsed
from stratos.models.decode.label_scores import LabelAnswers
from stratos.models.kinds.base import ToolChoice

Tokens = Annotated[int, Meta(ge=1, le=2**31 - 1)] | None
"""The context ends an answer before the most that may be asked for."""
Penalty = Annotated[float, Meta(ge=-2, le=2)] | None
Share = Annotated[float, Meta(ge=0, le=1)] | None
StopText = Annotated[str, Meta(min_length=1)]
SAMPLING = (
    "temperature", "top_p", "min_p", "top_k", "frequency_penalty", "presence_penalty", "seed",
)  # fmt: skip
"""Options that llama.cpp has by the same name."""
NOT_SERVED = ("top_logprobs", "functions", "function_call", "logit_bias")
"""Options of the API that would change an answer, and that servers of language models refuse in
place of ignoring them."""
MOST_TOKENS = 1024
"""Longest answer of a bundle that says none."""


class ChatRequest(msgspec.Struct):
    """What a request asks for, as far as servers of one student have it."""

    messages: Annotated[list[Turn], Meta(min_length=1)]
    n: Literal[1] | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    stop: StopText | Annotated[list[StopText], Meta(max_length=64)] | None = None
    max_tokens: Tokens = None
    max_completion_tokens: Tokens = None
    temperature: Annotated[float, Meta(ge=0, le=100)] | None = None
    top_p: Share = None
    min_p: Share = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    frequency_penalty: Penalty = None
    presence_penalty: Penalty = None
    seed: Annotated[int, Meta(ge=-1, le=2**32 - 1)] | None = None
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Literal["auto"] | None = None
    parallel_tool_calls: bool | None = None
    """Whether an answer may have several calls; where not, it has the first of them."""
    chat: list[dict[str, Any]] = []
    """The messages with all that came with them, each with a text."""
    streams_calls: ClassVar[bool] = False
    """Whether calls of tools are streamed, too."""

    @classmethod
    def read(cls, data: bytes, without: tuple[str, ...] = ()) -> Self:
        """Return what a request asks for.

        Args:
            data: its body.
            without: options that this server does not have; they are refused, and not ignored.

        Raises:
            ValueError: it cannot be answered.
        """
        body = parsed(data)
        for name in without:
            if body.get(name) not in (None, False, [], {}, {"type": "text"}):
                raise ValueError(f"{name}: this server does not have it.")
        request = msgspec.convert(body, cls)
        request.chat = chat_of(body["messages"])
        if request.stream and (request.logprobs or (request.tools and not cls.streams_calls)):
            what = "logprobs" if cls.streams_calls else "logprobs and tools"
            raise ValueError(f"{what}: answers are given whole. Leave stream out.")
        return request

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with an event of the tokens that it took."""
        return bool((self.stream_options or {}).get("include_usage"))

    @property
    def most_calls(self) -> int | None:
        """Calls that an answer may have; None where the request does not say, 0 without tools."""
        if not self.tools:
            return 0
        return 1 if self.parallel_tool_calls is False else None

    @property
    def stops(self) -> list[str]:
        """Texts that end the answer."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def most_tokens(self) -> int | None:
        """How many tokens the answer may have; None where the request does not say."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def sampling(self) -> dict[str, float]:
        """The options of `SAMPLING` that the request names."""
        options = {name: getattr(self, name) for name in SAMPLING}
        return {name: value for name, value in options.items() if value is not None}


class NamedTool(msgspec.Struct):
    """The tool that an answer has to call."""

    name: str


class NamedChoice(msgspec.Struct):
    """The same as a request has it."""

    type: Literal["function"]
    function: NamedTool


class ToolRequest(ChatRequest):
    """What a request asks for of a student that chooses calls."""

    tool_choice: Literal["none", "auto", "required"] | NamedChoice | None = None  # type: ignore[assignment]
    streams_calls: ClassVar[bool] = True

    @property
    def choice(self) -> ToolChoice:
        """Whether a call has to be made, or a text."""
        if isinstance(self.tool_choice, NamedChoice):
            return "required"
        return self.tool_choice or "auto"

    @property
    def allowed(self) -> list[dict[str, Any]]:
        """The tools that may be called: all, or the one that the request names.

        Raises:
            ValueError: it offers none to choose from, or none of this name.
        """
        tools = self.tools or []
        if self.tool_choice is not None and not tools:
            raise ValueError("tool_choice: it goes with tools, and the request has none.")
        if not isinstance(self.tool_choice, NamedChoice):
            return tools
        name = self.tool_choice.function.name
        named = [tool for tool in tools if tool.get("function", tool).get("name") == name]
        if not named:
            raise ValueError(f"tool_choice: no tool of the request is called {shown(name)}.")
        return named


# The form of an answer that a request names, as llama.cpp takes it.
#
# A schema that llama.cpp cannot follow, or that would take it seconds and gigabytes, is refused
# here: llama.cpp itself would answer without it, or not at all.

MOST_KIB = 64
"""Of a schema as JSON."""
MOST_S, MOST_MIB = 0.5, 1024
"""CPU seconds and memory that its grammar may take: llama.cpp makes it again for each request."""
_TOO_MUCH = "a grammar of it takes too long, or too much memory."


class AnswerForms:
    """What the answers of a bundle can be constrained to: its labels, or else a form of JSON."""

    def __init__(self, bundle: Path) -> None:
        """Read its labels, and which characters its vocabulary has."""
        self._missing = _missing_characters(bundle)
        answers = LabelAnswers.read(bundle)
        self.labels = () if answers is None else answers.labels
        self._spellings = _spellings(bundle, self.labels)

    def options(self, response_format: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return what llama.cpp is asked so that an answer has the form that a request names.

        Raises:
            ValueError: there is no such form, or this server cannot give it.
        """
        if self.labels:
            return {"grammar": f"%llguidance {{}}\nstart: {' | '.join(self._spellings)}"}
        form = response_format or {"type": "text"}
        if form == {"type": "text"}:
            return {}
        named = form.get("json_schema") if form.get("type") == "json_schema" else {}
        schema: dict[str, Any] | None = (
            {"type": "object"} if form.get("type") == "json_object" else None
        )
        if isinstance(named, Mapping) and isinstance(named.get("schema"), Mapping):
            schema = named["schema"]
        if schema is None or not isinstance(named, Mapping):
            raise ValueError(
                'response_format: expected {"type": "json_schema", "json_schema": {"schema": {…}}},'
                " json_object or text."
            )
        if self._missing:
            raise ValueError(
                "response_format: the vocabulary of this model cannot write JSON. It has no token "
                f"for {' '.join(self._missing[:5])}."
            )
        # As in the evaluation: what a grammar cannot say makes it wider, unless asked to be strict.
        is_strict = named.get("strict") is True
        schema = {**dict[str, Any](schema), "x-guidance": {"lenient": not is_strict}}
        if problem := why_no_grammar(json.dumps(schema)):
            raise ValueError(f"response_format: the schema is refused: {problem}")
        return {"json_schema": schema}

    def fits(self, text: str, form: Mapping[str, Any]) -> bool:
        """Return whether a text has a form that `asked` returned."""
        if self.labels:
            return text in self.labels
        return "json_schema" not in form or is_json(text)


def longest_answer(bundle: Path) -> int:
    """Return the most tokens of an answer of a bundle, where a request does not say."""
    facts = facts_in(bundle, "generation_config.json")
    return int(facts.get("max_new_tokens") or MOST_TOKENS)


def calls_of(text: str) -> list[dict[str, Any]]:
    """Return the calls that an answer is, as the API has them; none where it is none."""
    calls = json.loads(text) if is_json(text) else None
    if not isinstance(calls, list):
        return []
    if not all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls):
        return []
    return [
        {
            "id": f"call_{uuid.uuid4().hex}",
            "type": "function",
            "function": {
                "name": call["name"],
                "arguments": json.dumps(call.get("arguments", {}), ensure_ascii=False),
            },
        }
        for call in calls
    ]


def whole_answer(
    model: str,
    request: ChatRequest,
    text: str,
    finish: str,
    usage: Mapping[str, int],
    logprobs: list[dict[str, Any]] | None,
    fits: bool = True,
) -> Response:
    """Return a whole answer of a language model as the API has it.

    Args:
        model: its name.
        request: which may end the answer, and have tools that it calls.
        text: all that was written.
        finish: why the model ended.
        usage: tokens that it took.
        logprobs: of its tokens, where they were asked for.
        fits: whether the text has the form that was asked for.
    """
    cut = first_stop(text, request.stops)
    if cut < len(text):
        finish = "stop"
    elif finish == "stop" and not fits:
        return api_error(
            500, "response_format: the model could not keep to it; there is no answer."
        )
    message, finish = message_of(text[:cut], finish, request.most_calls)
    return completion(model, message, finish, usage, logprobs)


def message_of(text: str, finish: str, most_calls: int | None) -> tuple[dict[str, Any], str]:
    """Return an answer as a message of the API, and why it ended.

    Args:
        text: that a student wrote.
        finish: why it ended, where the text calls nothing.
        most_calls: that the answer may have; None for any number. Where it may have some, the text
            may be calls, and "[]", by which a student calls none, is an empty text.
    """
    if most_calls != 0 and (calls := calls_of(text)[:most_calls]):
        return {"role": "assistant", "content": None, "tool_calls": calls}, "tool_calls"
    is_no_call = most_calls != 0 and text.strip() == "[]"
    return {"role": "assistant", "content": "" if is_no_call else text}, finish


def deltas_of(calls: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield calls as a stream has them: each one's name, then its arguments."""
    for index, call in enumerate(calls):
        function = {"name": call["function"]["name"], "arguments": ""}
        yield {"tool_calls": [{"index": index, **call, "function": function}]}
        rest = {"arguments": call["function"]["arguments"]}
        yield {"tool_calls": [{"index": index, "function": rest}]}


def is_json(text: str) -> bool:
    """Return whether a text is JSON."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _spellings(bundle: Path, labels: Sequence[str]) -> list[str]:
    """Return labels as llama.cpp has them in a file: as text, or as the tokens are spelled."""
    from tokenizers import Tokenizer

    if labels and not has_byte_pairs(bundle):
        tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
        cut = [tokenizer.encode(label, add_special_tokens=False).tokens for label in labels]
        labels = ["".join(tokens) for tokens in cut]
    return [json.dumps(label) for label in labels]


def _missing_characters(bundle: Path) -> list[str]:
    """Return the characters of JSON that no token of a bundle's vocabulary is."""
    model = json.loads((bundle / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):  # Unigram: piece and score
        vocabulary = {piece for piece, _ in vocabulary}
    space = "Ġ" if has_byte_pairs(bundle) else " "
    printable = (chr(code) for code in range(ord(" "), 0x7F))
    return [char for char in printable if (space if char == " " else char) not in vocabulary]


_CHECK = f"""
import json, resource, sys, time
from llguidance import LLMatcher, LLTokenizer
tokenizer, used_s = LLTokenizer("byte"), time.process_time()
resource.setrlimit(resource.RLIMIT_CPU, (int(used_s + {MOST_S}) + 1,) * 2)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_AS, ({MOST_MIB} * 2**20,) * 2)
grammar = "%llguidance {{}}\\nstart: %json " + sys.stdin.read()
why = LLMatcher.validate_grammar(grammar, tokenizer)
matcher = None if why else LLMatcher(tokenizer, grammar)
for _ in range(8 if matcher else 0):  # some turn out to have no answer where they are followed
    allowed = int.from_bytes(matcher.compute_bitmask(), "little")
    if matcher.is_error() or not allowed:
        why = "no finite answer matches it."
        break
    token = next((byte for byte in range(33, 256) if allowed >> byte & 1), None)
    if token is None or not matcher.consume_token(token):
        break
print(json.dumps([why, time.process_time() - used_s]))
"""
"""llama.cpp follows a schema with llguidance, and a few patterns that have to match at once may
take that minutes and gigabytes, which nothing in the schema tells: it is tried in a process."""


@lru_cache(maxsize=256)
def why_no_grammar(schema: str) -> str:
    """Return why llama.cpp makes no grammar of a JSON Schema; "" if it does.

    Args:
        schema: as JSON text.
    """
    if len(schema) > MOST_KIB * 1024:
        return f"it may have {MOST_KIB} KiB."
    command = [sys.executable, "-I", "-c", _CHECK]
    try:
        done = subprocess.run(command, input=schema.encode(), capture_output=True, timeout=20)
        why, used_s = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):  # it was ended by one of its bounds
        return _TOO_MUCH
    if used_s > MOST_S or b"too many expressions" in done.stderr:  # llguidance only warns of it
        return _TOO_MUCH
    # Without the grammar that the message ends with.
    wrong = why.partition("failed to compile JSON schema: ")[2] or why
    return " ".join(wrong.partition("\n   1 | %llguidance")[0].split())[:300]
