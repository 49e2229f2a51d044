"""A sample chat, written by a model's chat template and read by its tokenizer, within a limit.

Both come with a model from whoever made it, and both are programs: two loops of a template, or
rules of a tokenizer that double a text each, never end. So a model of this machine is tried before
anything else uses them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import string
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from stratos.core.limited import CallError, OverLimitError, limited
from stratos.models.words import Endless

SECONDS = 5.0
"""Of CPU; the largest vocabularies take one."""
_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
_QUESTION = {"role": "user", "content": f"{string.printable} Ä é 中 🙂"}
_ANSWER = {"role": "assistant", "content": "7"}
_RULES = {"role": "system", "content": "Answer with one number."}
_CHATS = (
    [_QUESTION],
    [_RULES, _QUESTION],
    [_QUESTION, _ANSWER],
    [_RULES, _QUESTION, _ANSWER, _QUESTION],
    [_RULES, *[_QUESTION, _ANSWER] * 8, _QUESTION],
)

Writer = Callable[[Sequence[Mapping[str, Any]], bool], str | None]
"""Writes a chat; takes whether an answer is to follow."""


def why_endless(folder: Path) -> Endless | None:
    """Return that a sample chat takes too long, or too much memory; None if it does not.

    What else is wrong with it is for the loaders to say.
    """
    return _why_endless(folder, tuple(_state(folder / name) for name in _FILES))


def _state(path: Path) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        stat = os.stat(path)
        return stat.st_mtime_ns, stat.st_size
    return None


@lru_cache(maxsize=100)
def _why_endless(folder: Path, states: tuple[tuple[int, int] | None, ...]) -> Endless | None:
    if not any(states):
        return None
    return _why_over(_try, folder)


@lru_cache(maxsize=100)
def why_endless_template(source: str) -> Endless | None:
    """Return the same of a chat template alone, as that of a GGUF file."""
    return _why_over(_try_template, source) if source else None


def _why_over(attempt: Callable[..., None], *arguments: Any) -> Endless | None:
    try:
        limited(attempt, *arguments, seconds=SECONDS)
    except OverLimitError as error:
        return Endless(str(error))
    except CallError:
        return None
    return None


def _try_template(source: str) -> None:
    _written(_writer(source, {}))


def _written(write: Writer) -> list[str]:
    return [write(chat, is_asked) or "" for chat in _CHATS for is_asked in (True, False)]


def _try(folder: Path) -> None:
    """Write each chat, and read what was written."""
    texts = _written(chat_writer(folder))
    if (folder / "tokenizer.json").is_file():
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        for text in (str(_QUESTION["content"]), *texts):
            tokenizer.encode(text)


def chat_writer(folder: Path) -> Writer:
    """Return what writes a chat by the template of a folder; None where it cannot be used."""
    try:
        own = folder / "chat_template.jinja"
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        source = own.read_text(encoding="utf-8") if own.is_file() else config["chat_template"]
    except (OSError, ValueError, KeyError, TypeError):
        return lambda chat, is_asked: None
    return _writer(source, config)


def _writer(source: Any, config: Mapping[str, Any]) -> Writer:
    from jinja2.exceptions import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    try:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        # A mark of transformers' own, which writes nothing.
        source = re.sub(r"{%-?\s*(end)?generation\s*-?%}", "", source)
        template = environment.from_string(source)
    except (ValueError, TypeError, AttributeError, TemplateError):
        return lambda chat, is_asked: None

    def write(chat: Sequence[Mapping[str, Any]], is_asked: bool) -> str | None:
        try:
            return template.render(
                messages=list(chat), add_generation_prompt=is_asked, **_special(config)
            )
        except (TemplateError, TypeError, ValueError):
            return None

    return write


def _special(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the special tokens that templates name."""
    names = ("bos_token", "eos_token", "pad_token", "unk_token")
    return {name: config[name] for name in names if isinstance(config.get(name), str)}
