"""What a teacher's last layer says of each document, kept on disk, so that it reads them once."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from stratos.distill.objectives.signals import Hidden, LMHead
from stratos.distill.signal.local import Reader, TeacherRow

BATCH = 32
"""Documents that the teacher reads at once."""
STEP = 256
"""Places whose logits exist at once."""


class Remembered:
    """Stands in for a `Reader` of documents that the teacher has read: no weights but its head."""

    gives_hidden, layers = True, None

    def __init__(self, folder: Path) -> None:
        """Open what `remember` has written."""
        self._states = safe_open(folder / "states.safetensors", "pt")
        self.head = LMHead(self._states.get_tensor("head"))

    def __call__(self, row: TeacherRow, device: torch.device) -> Hidden:
        """Return what the teacher said of the row's places."""
        texts = row.tokens_N.split(row.lengths)
        states_NH = torch.cat([self._states.get_tensor(address(text)) for text in texts])
        return Hidden(states_NH.to(device), self.head, row.rows_M.to(device))


def remember(folder: Path, teacher: Any, data: Any) -> None:
    """Have a teacher with a linear head read all documents, unless it has."""
    path = folder / "states.safetensors"
    if path.exists():
        with safe_open(path, "pt") as known:
            if {address(torch.from_numpy(data.text(d))) for d in range(len(data))} <= set(
                known.keys()
            ):
                return
    model, tokenizer = teacher.load()
    reader = Reader(model, len(tokenizer), int(data.lengths.max()))
    assert reader.gives_hidden and reader.head.bias_V is None and reader.head.scale == 1
    states = {"head": reader.head.weight_VH.float().contiguous()}
    for start in range(0, len(data), BATCH):
        texts = [data.text(d) for d in range(start, min(start + BATCH, len(data)))]
        row = TeacherRow.of(texts, [text[:0] for text in texts])
        given = reader(row, torch.device("cpu"))
        for text, states_LH in zip(texts, given.hidden_NH.split(row.lengths), strict=True):
            states[address(torch.from_numpy(text))] = states_LH.float().clone()
        print(f"{start + len(texts):,} of {len(data):,} notes read", file=sys.stderr, flush=True)
    save_file(states, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def address(tokens: Tensor) -> str:
    """Return the name of a document."""
    return hashlib.sha256(tokens.numpy().astype("int64").tobytes()).hexdigest()


def logits(given: Hidden) -> Iterator[Tensor]:
    """Yield the float32 logits of some places at a time, in order."""
    hidden_NH = given.hidden_NH.flatten(0, -2).float()
    hidden_MH = hidden_NH if given.rows_M is None else hidden_NH[given.rows_M]
    for part_RH in hidden_MH.split(STEP):
        yield part_RH @ given.head.weight_VH.float().T
