"""A request to the chat API: read, checked, and as llama.cpp is asked."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from stratos.core.formats import listed
from stratos.deploy.engines.chat_ids import ChatIds
from stratos.deploy.engines.gguf_file import has_byte_pairs
from stratos.deploy.engines.llguidance_c import why_no_grammar
from stratos.deploy.engines.words import SchemaTooLarge
from stratos.models.decode.labels import LabelAnswers

# The form of an answer that a request names: checked, bounded, and as llama.cpp takes it.
#
# A schema that llama.cpp cannot follow, or that would take it seconds and gigabytes, is refused
# here: llama.cpp itself would answer without it, or not at all.

MOST_KIB = 64
"""Of a schema as JSON."""
DEEPEST = 64
"""Objects and lists inside each other."""
MOST_VALUES = 10_000
"""Values of a schema, with its lists and objects."""
MOST_ITEMS = 1_000
"""minItems, maxItems, minProperties, maxProperties, and a repetition in a pattern."""
MOST_ITEMS_IN_ALL = 10_000
"""Sum of these over a schema: llama.cpp takes memory for each."""
MOST_CHARACTERS = 10_000
"""minLength, maxLength."""
LONGEST_PATTERN = 1_000
_OF_ITEMS = ("minItems", "maxItems", "minProperties", "maxProperties", "minContains", "maxContains")
_OF_TEXT = ("minLength", "maxLength")
_PIECE = re.compile(
    r"\\. | \[ (?: \\. | [^\]\\] )* \] | (?P<count> \{ [\ \d,]* \d [\ \d,]* \} ) | .",
    re.VERBOSE | re.DOTALL,
)
"""An escaped character, a class, a repetition, or another character of a pattern."""
_FORMS = (
    'response_format: expected {"type": "json_schema", "json_schema": {"schema": {…}}}, '
    "json_object or text."
)


class AnswerForms:
    """What the answers of a bundle can be constrained to: its labels, or else a form of JSON."""

    def __init__(self, bundle: Path) -> None:
        """Read its labels, and which characters its vocabulary has."""
        self._missing = _missing_characters(bundle)
        answers = LabelAnswers.read(bundle)
        self.labels = () if answers is None else answers.labels
        self._spellings = _spellings(bundle, self.labels)

    def asked(self, response_format: Any) -> dict[str, Any]:
        """Return what llama.cpp is asked so that an answer has the form that a request names.

        Raises:
            ValueError: there is no such form, or this server cannot give it.
        """
        is_free = response_format in (None, {}, {"type": "text"})
        if self.labels:
            _expect(is_free, "response_format: this model answers with one of its labels.")
            return {"grammar": f"%llguidance {{}}\nstart: {' | '.join(self._spellings)}"}
        if is_free:
            return {}
        if not isinstance(response_format, Mapping):
            raise ValueError(_FORMS)
        is_strict = False
        if response_format.get("type") == "json_object":
            schema: Any = {"type": "object"}
        elif response_format.get("type") == "json_schema":
            named = response_format.get("json_schema")
            named = named if isinstance(named, Mapping) else {}
            schema, is_strict = named.get("schema"), named.get("strict") is True
        else:
            raise ValueError(_FORMS)
        if not isinstance(schema, Mapping):
            raise ValueError(_FORMS)
        if self._missing:
            raise ValueError(
                "response_format: the vocabulary of this model cannot write JSON. It has no token "
                f"for {' '.join(self._missing[:5])}."
            )
        # As in the evaluation: what a grammar cannot say makes it wider, unless asked to be strict.
        schema = {**schema, "x-guidance": {"lenient": not is_strict}}
        if problem := why_too_large(schema) or why_no_grammar(json.dumps(schema)):
            raise ValueError(f"response_format: the schema is refused: {problem}")
        return {"json_schema": schema}

    def is_label(self, text: str) -> bool:
        """Return whether a text is one of the labels."""
        return text.strip() in self.labels


def is_json(text: str) -> bool:
    """Return whether a text is JSON."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def why_too_large(schema: Mapping[str, Any]) -> SchemaTooLarge | None:
    """Return which bound a schema breaks; None if it keeps all."""
    n_items = 0.0
    for n_values, (name, value, depth) in enumerate(_values(schema), 1):
        if depth > DEEPEST:
            return SchemaTooLarge("objects and lists inside each other", DEEPEST)
        if n_values > MOST_VALUES:
            return SchemaTooLarge("values", MOST_VALUES)
        counts, most = _counts(name, value)
        if any(one > most for one in counts):
            return SchemaTooLarge(name, most, MOST_ITEMS)
        if name == "pattern" and isinstance(value, str) and len(value) > LONGEST_PATTERN:
            return SchemaTooLarge("characters in a pattern", LONGEST_PATTERN)
        n_items += sum(counts) if most == MOST_ITEMS else 0
        if n_items > MOST_ITEMS_IN_ALL:
            return SchemaTooLarge("items and repetitions in all", MOST_ITEMS_IN_ALL)
    if len(json.dumps(schema)) > MOST_KIB * 1024:
        return SchemaTooLarge("KiB", MOST_KIB)
    return None


def _counts(name: str, value: Any) -> tuple[list[float], int]:
    """Return the repetitions that a value of a schema asks for, and how large each may be."""
    if isinstance(value, str):
        # A pattern may be a value, or the name of one in patternProperties.
        texts = [value] if name == "pattern" else []
        return [n for text in texts for n in _repetitions(text)], MOST_ITEMS
    if isinstance(value, Mapping):
        patterns = value if name == "patternProperties" else ()
        return [n for text in patterns for n in _repetitions(text)], MOST_ITEMS
    if isinstance(value, bool) or not isinstance(value, int | float):
        return [], MOST_ITEMS
    if name in _OF_TEXT:
        return [value], MOST_CHARACTERS
    return [value] if name in _OF_ITEMS else [], MOST_ITEMS


def _repetitions(pattern: str) -> Iterator[float]:
    """Yield the repetitions of a pattern; those inside each other are multiplied."""
    last, groups = 1.0, [1.0]  # of what has just ended, and of the groups that are open
    for found in _PIECE.finditer(pattern):
        piece = found.group()
        if piece == "(":
            groups.append(1.0)
        elif piece == ")" and len(groups) > 1:
            last = groups.pop()
            groups[-1] = max(groups[-1], last)
        elif found.lastgroup:
            # Digits beyond these are a large number, whichever it is.
            last *= max(float(text[:9]) for text in re.findall(r"\d+", piece))
            groups[-1] = max(groups[-1], last)
            yield last
        else:
            last = 1.0


def _values(schema: Any) -> Iterator[tuple[str, Any, int]]:
    """Yield every value of a schema with its name and depth, without recursion."""
    left: list[tuple[str, Any, int]] = [("", schema, 1)]
    while left:
        name, value, depth = left.pop()
        yield name, value, depth
        if isinstance(value, Mapping):
            left += [(key, inner, depth + 1) for key, inner in value.items()]
        elif isinstance(value, list):
            left += [("", inner, depth + 1) for inner in value]


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
    printable = map(chr, range(ord(" "), 0x7F))
    return [one for one in printable if (space if one == " " else one) not in vocabulary]


PLAIN = {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
"""Greedy where a request says nothing else, as the bundle is; what is drawn is drawn from all."""
NOT_SERVED = ("top_logprobs", "functions", "logit_bias")
"""Options of the API that would change an answer, and that are refused in place of ignored."""
NUMBERS = {
    "temperature": (0, 100),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
}
"""Options that llama.cpp has by the same name, and from where to where they go."""
WHOLE = {"top_k": (0, 2**31 - 1), "seed": (-1, 2**32 - 1)}
"""Those that are whole numbers."""
MOST_TOKENS = 2**31 - 1
"""What `max_tokens` may say; the context ends an answer before."""
MOST_STOPS = 64
ROLES = ("system", "user", "assistant", "tool")
"""Of messages, as chat templates know them."""
TOO_DEEP = "the request has too many lists and objects inside each other."


@dataclass(frozen=True)
class Asked:
    """What a request asks for."""

    llama: Mapping[str, Any]
    """What llama.cpp is asked."""
    stops: list[str]
    is_stream: bool
    has_tools: bool
    fits: Callable[[str], bool] | None
    """Whether a text has the form that answers are constrained to; None where they are free."""
    has_logprobs: bool
    """Whether the answer is to tell how likely each of its tokens was."""


class Requests:
    """Reads requests to a bundle."""

    def __init__(
        self, chats: ChatIds, forms: AnswerForms, most_tokens: int, context: float = math.inf
    ) -> None:
        self._chats, self._forms, self._most_tokens = chats, forms, most_tokens
        self._context = context

    def read(self, data: bytes) -> Asked:
        """Return what a request asks for.

        Raises:
            ValueError: the request is not one that can be answered.
            ChatError: the bundle's template does not take the chat.
        """
        try:
            return self._asked(parsed(data))
        except RecursionError:
            raise ValueError(TOO_DEEP) from None

    def _asked(self, body: Mapping[str, Any]) -> Asked:
        messages = chat_of(body.get("messages"))
        for name in NOT_SERVED:
            _expect(
                body.get(name) in (None, False, [], {}), f"{name}: this server does not have it."
            )
        stream, logprobs, stops = common_of(body)
        tools = body.get("tools") or None
        if tools is not None:
            are_tools = isinstance(tools, list) and all(isinstance(t, Mapping) for t in tools)
            _expect(are_tools, "tools: expected a list of tools.")
            _expect(not stream, "tools: calls are given whole. Leave stream out.")
            _expect(not self._forms.labels, "tools: this model answers with one of its labels.")
        is_auto = body.get("tool_choice") in (None, "auto")
        _expect(is_auto, "tool_choice: this server has auto alone.")
        form = self._forms.asked(body.get("response_format"))
        llama = {
            **PLAIN,
            **options_of(body),
            **form,
            "n_predict": n_tokens_of(body) or self._most_tokens,
            "prompt": self._chats.ids(messages, tools, self._context),
            "return_tokens": True,
            "stream": stream,
            # Of the distribution before sampling options: how likely the model itself finds it.
            **({"n_probs": 1} if logprobs else {}),
        }
        fits = None if not form else self._forms.is_label if self._forms.labels else is_json
        return Asked(llama, stops, stream, tools is not None, fits, logprobs)


def common_of(body: Mapping[str, Any]) -> tuple[bool, bool, list[str]]:
    """Return whether an answer is streamed and has log-probabilities, and the texts that end it.

    Raises:
        ValueError: an option has no such value, or several answers are asked for.
    """
    n, stream, logprobs = body.get("n"), body.get("stream"), body.get("logprobs")
    is_one = n is None or (n == 1 and not isinstance(n, bool))
    _expect(is_one, "n: this server gives one answer to a request.")
    _expect(isinstance(stream, bool | None), "stream: expected true or false.")
    _expect(isinstance(logprobs, bool | None), "logprobs: expected true or false.")
    _expect(not (logprobs and stream), "logprobs: they are given whole. Leave stream out.")
    stops = body.get("stop")
    stops = [] if stops is None else [stops] if isinstance(stops, str) else stops
    are_texts = isinstance(stops, list) and all(isinstance(s, str) and s for s in stops)
    _expect(are_texts, "stop: expected a text, or a list of texts.")
    _expect(len(stops) <= MOST_STOPS, f"stop: expected {MOST_STOPS} texts at most.")
    return bool(stream), bool(logprobs), stops


def n_tokens_of(body: Mapping[str, Any]) -> int | None:
    """Return how many tokens an answer may have; None where a request does not say.

    Raises:
        ValueError: it says no such number.
    """
    found = None
    for name in ("max_tokens", "max_completion_tokens"):  # the latter counts
        value = body.get(name)
        if value is None:
            continue
        if type(value) is not int or not 1 <= value <= MOST_TOKENS:
            raise ValueError(
                f"{name}={_shown(value)}: expected a whole number of at least 1, and at most "
                f"{MOST_TOKENS:,}."
            )
        found = value
    return found


def _expect(is_met: bool, message: str) -> None:
    """Refuse a request that does not meet what it has to.

    Raises:
        ValueError: it does not.
    """
    if not is_met:
        raise ValueError(message)


def parsed(data: bytes) -> Mapping[str, Any]:
    """Return the object that the text of a request is.

    Raises:
        ValueError: it is none, or holds what JSON does not have.
        RecursionError: it is nested too deeply.
    """
    try:
        body = json.loads(data, parse_constant=_no_number, parse_int=_whole)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"the request is not JSON: {error}.") from None
    if not isinstance(body, Mapping):
        raise ValueError("messages: expected a list of messages.")
    try:
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise ValueError("the request has half of a surrogate pair, which is no text.") from None
    except ValueError:
        raise ValueError("the request has a number that is too large.") from None
    return body


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:  # Python reads no more than some thousand digits
        raise ValueError("the request has a number that is too large.") from None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"the request has {name}, which is no number in JSON.")


def options_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a request that llama.cpp has by the same name.

    Raises:
        ValueError: one is no number, or out of its range.
    """
    found = {}
    for name, (least, most) in (NUMBERS | WHOLE).items():
        value = body.get(name)
        if value is None:
            continue
        kinds: Any = int if name in WHOLE else int | float
        is_number = isinstance(value, kinds) and not isinstance(value, bool)
        if not is_number or not least <= value <= most:
            kind = "a whole number" if name in WHOLE else "a number"
            raise ValueError(f"{name}={_shown(value)}: expected {kind} from {least} to {most}.")
        found[name] = value
    return found


def _shown(value: Any) -> str:
    text = json.dumps(value) if not isinstance(value, int) or abs(value) < 2**256 else "(large)"
    return text if len(text) <= 60 else f"{text[:60]}…"


def chat_of(messages: Any) -> list[dict[str, Any]]:
    """Return the messages of a request, each with a text.

    Raises:
        ValueError: they are none, one has a role that no chat template knows, or no user asks.
    """
    _expect(isinstance(messages, list), "messages: expected a list of messages.")
    _expect(bool(messages), "messages: expected one message at least.")
    chat = [plain(message) for message in messages]
    for message in chat:
        if message["role"] not in ROLES:
            raise ValueError(f"role={_shown(message['role'])}: expected {listed(ROLES, 'or')}.")
    has_user = any(message["role"] == "user" for message in chat)
    _expect(has_user, "messages: expected one of role user at least.")
    return chat


def plain(message: Any) -> dict[str, Any]:
    """Return a message whose content is a text, also where it came in parts.

    Raises:
        ValueError: it is no message, or has parts that are no text.
    """
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise ValueError("messages: each needs a role and a content.")
    content = message.get("content")
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, Mapping)]
        if len(parts) < len(content) or any(part.get("type") != "text" for part in parts):
            raise ValueError("messages: this server reads text alone.")
        content = "".join(str(part.get("text", "")) for part in parts)
    if not isinstance(content, str):
        raise ValueError("messages: each needs a role and a content.")
    return {**message, "content": content}
