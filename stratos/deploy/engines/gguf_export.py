"""Make a bundle's GGUF files, and compare token by token how chats are cut."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from stratos.deploy.engines.base import ExportError, Message, export_path
from stratos.deploy.engines.chat_ids import ChatIds
from stratos.deploy.engines.gguf_file import write_gguf
from stratos.deploy.engines.same_tokens import by_transformers, first_difference

_TOKENS_S = 120.0
_LOG_LINES = 6


def export(bundle: Path, forms: Sequence[str], chats: Sequence[list[Message]]) -> str:
    """Write a bundle's GGUF files; return what a program that loads one alone has to know.

    The server's ids have to be those of transformers, for every chat. Where llama.cpp's own ids
    are not, the files are written without a tokenizer.

    Args:
        bundle: Hugging Face folder.
        forms: formats to write.
        chats: held-out questions.

    Raises:
        ExportError: the server would cut a chat otherwise than transformers, or llama.cpp does
            not load the file.
    """
    own, expected = ChatIds(bundle), by_transformers(bundle, chats)
    if told := first_difference(expected, [own.ids(chat) for chat in chats], own):
        raise ExportError(
            f"{bundle} cannot be served by llama.cpp: its chat template and tokenizer, read "
            f"without transformers, give other tokens ({told}). Serve it with deploy=transformers."
        )
    files = {form: export_path(bundle, f"{form}.gguf") for form in forms}
    first = min(forms, key=list(files).index)
    why = "GGUF cannot express the tokenizer"
    ids_only = not write_gguf(bundle, files[first], first)
    if not ids_only and (told := first_difference(expected, by_llama(files[first], chats), own)):
        why, ids_only = f"llama.cpp's own tokens are others ({told})", True
    for form in forms:
        if form != first or ids_only:
            write_gguf(bundle, files[form], form, ids_only=ids_only)
    if not ids_only:
        return (
            f"llama.cpp's own tokens are those of transformers for all {len(chats):,} questions: "
            "the files hold chat template and tokenizer."
        )
    return (
        f"The files take token ids alone: {why}. Serve them with the bundle; other programs refuse "
        "them."
    )


def by_llama(path: Path, chats: Sequence[list[Message]]) -> list[list[int]]:
    """Return the ids that llama.cpp makes of chats by the template and tokenizer in a file.

    Raises:
        ExportError: it does not load the file, or does not answer.
    """
    try:
        done = subprocess.run(
            [
                sys.executable,
                "-P",
                "-m",
                "stratos.deploy.engines.llama_server",
                "tokens",
                str(path),
            ],
            input="".join(json.dumps(chat) + "\n" for chat in chats),
            capture_output=True,
            text=True,
            timeout=_TOKENS_S,
        )
    except subprocess.TimeoutExpired:
        raise ExportError(
            f"llama.cpp did not cut {len(chats)} chats within {_TOKENS_S:g} seconds."
        ) from None
    lines = done.stdout.splitlines()
    if done.returncode != 0 or len(lines) != len(chats):
        last = "\n".join(f"  {line}" for line in done.stderr.splitlines()[-_LOG_LINES:])
        raise ExportError(f"llama.cpp cannot load {path}. Its last lines:\n{last}")
    return [json.loads(line) for line in lines]
