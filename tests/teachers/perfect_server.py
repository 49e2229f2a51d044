"""A loopback endpoint behind which a perfect model sits: it knows every solution by its question.

It writes the whole solution, whatever it is asked for, and is cut at `max_tokens` as a real one
is: its tokens are pieces of four characters.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.teachers.chat_server import ChatServer

GSM8K = Path(__file__).parents[2].parent / "shared" / "gsm8k"
_CHARACTERS_A_TOKEN = 4


class PerfectServer(ChatServer):
    """Answers with `solutions[question]`; `cuts_at` is a limit of its own, whatever is asked."""

    def __init__(self, solutions: Mapping[str, str], cuts_at: int | None = None) -> None:
        super().__init__()
        self.solutions = solutions
        self.cuts_at = cuts_at

    def _completion(self, body: dict[str, Any]) -> dict[str, Any]:
        question = body["messages"][-1]["content"].partition("\nA) ")[0]  # options are no matter
        text = self.solutions[question]
        size = _CHARACTERS_A_TOKEN
        tokens = [text[start : start + size] for start in range(0, len(text), size)]
        most = min(body["max_tokens"], self.cuts_at or len(tokens) + 1)
        is_cut = len(tokens) > most
        reply = super()._completion(body)
        reply["choices"][0]["message"]["content"] = "".join(tokens[:most])
        reply["choices"][0]["finish_reason"] = "length" if is_cut else "stop"
        n_prompt = sum(len(message["content"]) for message in body["messages"]) // size
        n_written = min(len(tokens), most)
        reply["usage"] = {
            "prompt_tokens": n_prompt,
            "completion_tokens": n_written,
            "total_tokens": n_prompt + n_written,
        }
        return reply


def gsm8k_solutions() -> dict[str, str]:
    """Return question to worked solution, as the files of GSM8K have them."""
    lines = [
        json.loads(line)
        for name in ("train", "test")
        for line in (GSM8K / f"{name}.jsonl").read_text().splitlines()
    ]
    return {line["question"].strip(): line["answer"] for line in lines}
