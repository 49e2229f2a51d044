"""The compiler of grammars inside llama.cpp, asked by its C interface whether it takes a schema.

llama.cpp constrains answers with llguidance. Where that refuses a schema, llama.cpp writes it to
its log and answers without any constraint, so the same code is asked before. A few patterns that
have to match at once take it minutes and gigabytes, which nothing in the schema tells: so it is
asked in a process of its own, with bounds of time and memory. The functions are those of
`llguidance.h`; the wheel of xllamacpp exports them.
"""

from __future__ import annotations

import ctypes
import json
import resource
import subprocess
import sys
import threading
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stratos.core.reasons import Reason

MOST_S = 0.5
"""CPU seconds that a grammar may take: llama.cpp makes it again for each request."""
MOST_MIB = 1024
"""Memory of the process that tries."""
_ROOM = 2000
"""Bytes of a message."""
_STEPS = 8
"""Bytes of an answer that are tried."""
_TOO_MUCH = "a grammar of it takes too long, or too much memory."
_AT_ONCE = threading.BoundedSemaphore(2)
"""Schemas that are tried at once."""


class _TokenizerInit(ctypes.Structure):
    """`LlgTokenizerInit`, and room for what later versions add to it."""

    _fields_ = (
        ("vocab_size", ctypes.c_uint32),
        ("tok_eos", ctypes.c_uint32),
        ("token_lens", ctypes.c_void_p),
        ("token_bytes", ctypes.c_void_p),
        ("tokenizer_json", ctypes.c_char_p),
        ("tokenize_assumes_string", ctypes.c_bool),
        ("tokenize_fn", ctypes.c_void_p),
        ("use_approximate_greedy_tokenize_fn", ctypes.c_bool),
        ("tokenize_user_data", ctypes.c_void_p),
        ("slices", ctypes.c_void_p),
        ("later", ctypes.c_char * 256),
    )


_POINTER, _TEXT = ctypes.c_void_p, ctypes.c_char_p
_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "llg_new_tokenizer": (_POINTER, _POINTER, _TEXT, ctypes.c_size_t),
    "llg_constraint_init_set_defaults": (None, _POINTER, _POINTER),
    "llg_validate_grammar": (ctypes.c_int32, _POINTER, _TEXT, _TEXT, _TEXT, ctypes.c_size_t),
    "llg_new_matcher": (_POINTER, _POINTER, _TEXT, _TEXT),
    "llg_matcher_compute_mask_into": (ctypes.c_int, _POINTER, _POINTER, ctypes.c_size_t),
    "llg_matcher_consume_token": (ctypes.c_int, _POINTER, ctypes.c_uint32),
}
"""Functions of the library: what each returns, and what it takes."""


@lru_cache(maxsize=256)
def why_no_grammar(schema: str) -> Reason | None:
    """Return why llama.cpp makes no grammar of a JSON Schema; None if it does.

    Args:
        schema: as JSON text.
    """
    from importlib.util import find_spec

    from stratos.core.reasons import Because

    spec = find_spec("xllamacpp")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    files = [file for one in folders for file in sorted(Path(one).glob("xllamacpp*.so"))]
    # This file needs nothing but Python, which starts in milliseconds without site-packages.
    command = [sys.executable, "-I", "-S", __file__, *map(str, files[:1])]
    with _AT_ONCE:
        try:
            done = subprocess.run(command, input=schema.encode(), capture_output=True, timeout=20)
        except subprocess.TimeoutExpired:
            return Because(_TOO_MUCH)
    try:
        result = json.loads(done.stdout)
    except ValueError:  # it was ended by one of its bounds
        return Because(_TOO_MUCH)
    why = _TOO_MUCH if result["cpu_s"] > MOST_S else result["why"]
    return Because(why) if why else None


def _main(path: str) -> None:
    """Print why a schema on standard input is refused, and the CPU seconds that this took."""
    try:
        library, settings, kept = _loaded(path)
    except (OSError, AttributeError):
        why: str | None = "this build of llama.cpp has no llguidance that could check it."
        print(json.dumps({"why": why, "cpu_s": 0.0}))
        return
    used_s = time.process_time()
    resource.setrlimit(resource.RLIMIT_CPU, (int(used_s + MOST_S) + 1,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MIB * 2**20,) * 2)
    said = ctypes.create_string_buffer(_ROOM)
    grammar = b"%llguidance {}\nstart: %json " + sys.stdin.buffer.read()
    # A negative number is an error; a positive one is the number of warnings.
    if library.llg_validate_grammar(settings, b"lark", grammar, said, _ROOM) < 0:
        why = _first_line(said.value.decode("utf-8", "replace"))
    else:
        can_begin = _can_begin(library, settings, grammar)
        why = None if can_begin else "no finite answer matches it."
    print(json.dumps({"why": why, "cpu_s": time.process_time() - used_s}))
    del kept


def _can_begin(library: ctypes.CDLL, settings: object, grammar: bytes) -> bool:
    """Return whether an answer can: some grammars turn out to have none where they are followed."""
    matcher = library.llg_new_matcher(settings, b"lark", grammar)
    mask = ctypes.create_string_buffer(36)  # a bit for each of 257 tokens, in words of 4 bytes
    for _ in range(_STEPS):
        error = library.llg_matcher_compute_mask_into(matcher, mask, len(mask))
        allowed = int.from_bytes(mask.raw, "little")
        if error or not allowed:
            return False
        # The lowest token that is more than white space: of a string, its first quote.
        token = next((one for one in range(33, 256) if allowed >> one & 1), None)
        if token is None or library.llg_matcher_consume_token(matcher, token):
            return True
    return True


def _first_line(said: str) -> str:
    """Return what is wrong, without the grammar that the message ends with."""
    wrong = said.partition("failed to compile JSON schema: ")[2] or said
    return " ".join(wrong.partition("\n   1 | %llguidance")[0].split())[:300]


def _loaded(path: str) -> tuple[ctypes.CDLL, ctypes.Array[ctypes.c_char], object]:
    """Return the library, settings with a token for each byte, and what these point to.

    Raises:
        OSError: the library cannot be loaded.
        AttributeError: it exports none of these functions.
    """
    library = ctypes.CDLL(path)
    for name, (result, *arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    end = b"\xff<end>"  # 0xff marks a special token, and is in no text
    lengths = (ctypes.c_uint32 * 257)(*([1] * 256), len(end))
    tokens = ctypes.create_string_buffer(bytes(range(256)) + end)
    asked = _TokenizerInit(
        vocab_size=257,
        tok_eos=256,
        token_lens=ctypes.addressof(lengths),
        token_bytes=ctypes.addressof(tokens),
        use_approximate_greedy_tokenize_fn=True,
    )
    said = ctypes.create_string_buffer(_ROOM)
    tokenizer = library.llg_new_tokenizer(ctypes.byref(asked), said, _ROOM)
    if not tokenizer:
        raise OSError(said.value.decode("utf-8", "replace"))
    settings = ctypes.create_string_buffer(512)  # `LlgConstraintInit`, which takes under 100
    library.llg_constraint_init_set_defaults(settings, tokenizer)
    return library, settings, (asked, lengths, tokens)


if __name__ == "__main__":
    _main(*sys.argv[1:])
