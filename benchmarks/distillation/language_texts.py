"""Weather notes that a language model writes: what it teaches in `language.py`."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

PLACES = (
    "a fishing harbour", "a mountain village", "the old town", "a desert camp", "the north coast",
    "a river valley", "an island ferry", "the city airport", "a vineyard", "a ski resort",
    "a lake town", "the southern plains", "a forest cabin", "the university campus",
    "a market square", "a lighthouse", "an apple farm", "the football stadium", "a railway pass",
    "the botanical garden", "a beach hotel", "the moor", "a canal city", "the high plateau",
)  # fmt: skip
SKIES = (
    "light rain", "heavy snow", "thick fog", "clear skies", "strong wind", "a thunderstorm",
    "scattered clouds", "freezing drizzle", "a heat wave", "hail", "morning frost", "a warm breeze",
    "steady rain", "sun and showers", "low clouds", "blowing dust", "a cold front", "humid air",
    "a first snowfall", "melting ice", "a rainbow after rain", "a gale warning", "hazy sunshine",
    "an overcast sky",
)  # fmt: skip
TIMES = (
    "early morning", "noon", "late afternoon", "evening", "midnight", "Monday morning",
    "Friday night", "the weekend", "the first day of spring", "a summer holiday", "mid-October",
    "New Year's Eve",
)  # fmt: skip
SYSTEM = "You write short weather notes."
BATCH = 96
"""Notes written at once; a killed run loses at most these."""
HELD_OUT = 8
"""One prompt in so many is never trained on."""


@dataclass(frozen=True)
class Note:
    """What was asked, what was written, and whether the writer came to its end."""

    prompt: str
    text: str
    ended: bool


def prompts(n: int, seed: int = 0) -> list[str]:
    """Return n different prompts, the same ones whatever n is."""
    every = list(itertools.product(PLACES, SKIES, TIMES))
    random.Random(seed).shuffle(every)
    return [
        f"In two sentences, write a weather note for {place}: {sky}, {time}."
        for place, sky, time in every[:n]
    ]


def chat(prompt: str) -> list[Any]:
    """Return the messages of a prompt."""
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt}]


def is_held_out(prompt: str) -> bool:
    """Return whether a prompt is for measuring alone."""
    return int(hashlib.sha256(prompt.encode()).hexdigest(), 16) % HELD_OUT == 0


def write_notes(
    path: Path, n: int, teacher: Any, max_tokens: int, temperature: float, seed: int = 0
) -> None:
    """Have the teacher write the first n notes, as far as the file lacks them, a line each."""
    lines = path.read_text().splitlines() if path.exists() else []
    n_batches = -(-n // BATCH)
    if len(lines) >= n_batches * BATCH:
        return
    import torch

    from stratos.models.decode.batched import write

    model, tokenizer = teacher.load()

    def sample(logits_BV: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        return torch.multinomial((logits_BV.float() / temperature).softmax(-1), 1)

    asked = prompts(n_batches * BATCH)
    with path.open("a") as file:
        file.truncate(sum(len(line.encode()) + 1 for line in lines[: len(lines) // BATCH * BATCH]))
        for number in range(len(lines) // BATCH, n_batches):
            batch = asked[number * BATCH : (number + 1) * BATCH]
            ids = [
                tokenizer.apply_chat_template(
                    chat(prompt), add_generation_prompt=True, return_dict=True
                )["input_ids"]
                for prompt in batch
            ]
            torch.manual_seed(seed * 1_000_003 + number)
            written = write(
                model, tokenizer, ids, max_new_tokens=max_tokens, batch_size=BATCH, pick=sample
            )
            notes = [
                Note(
                    prompt,
                    tokenizer.decode(tokens, skip_special_tokens=True),
                    tokens[-1] == tokenizer.eos_token_id,
                )
                for prompt, tokens in zip(batch, written, strict=True)
            ]
            file.write("".join(json.dumps(asdict(note)) + "\n" for note in notes))
            file.flush()
            print(
                f"{(number + 1) * BATCH:,} of {n_batches * BATCH:,} notes written",
                file=sys.stderr,
                flush=True,
            )


def read_notes(path: Path, n: int) -> tuple[list[Note], list[Note]]:
    """Return notes to learn, and held-out ones; no text twice, none with a part of a character."""
    seen: set[str] = set()
    kept: list[Note] = []
    for line in path.read_text().splitlines()[:n]:
        note = Note(**json.loads(line))
        if note.text.strip() and "�" not in note.text and note.text not in seen:
            seen.add(note.text)
            kept.append(note)
    held_out = [note for note in kept if is_held_out(note.prompt)]
    return [note for note in kept if not is_held_out(note.prompt)], held_out


def documents(tokenizer: Any, notes: Sequence[Note]) -> Any:
    """Return notes as documents of tokens; a note that was cut has no end to learn."""
    import numpy as np

    from stratos.distill.data import encode

    chats, texts = [chat(note.prompt) for note in notes], [note.text for note in notes]
    data, _ = encode(tokenizer, chats, texts, 10_000)
    cut_D = np.array([not note.ended for note in notes])
    kept_N = np.ones(len(data.tokens), bool)
    kept_N[data.starts[1:][cut_D] - 1] = False
    starts = np.concatenate([[0], np.cumsum(data.lengths - cut_D)])
    return replace(data, tokens=data.tokens[kept_N], starts=starts)


def n_bytes(notes: Sequence[Note]) -> int:
    """Return the bytes of the texts."""
    return sum(len(note.text.encode()) for note in notes)
