"""The compiled decoder of small Llamas on a CPU, without the calls that their modules make.

A step of a student is little arithmetic and many calls: transformers takes ten times as long for
one row as the products themselves. Here transformers reads the prompts of a batch, and its keys
and values are taken over.

Every batch is checked: its second token is computed both ways, and where the logits are not the
same (but for rounding), transformers goes on. The rows then wait until others have ended. A row
costs the same whichever rows are beside it, as none is padded.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import stat
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from ctypes import CDLL
from dataclasses import dataclass
from functools import cache
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stratos.core.atomic_files import DiskFull, replacing_file, write_atomically
from stratos.core.digest import digest_of
from stratos.core.machine import c_compiler
from stratos.models.decode.decoder import Call, FastBatch, FastDecoder, fill_holes

_SOURCE = Path(__file__).with_name("step.c")
_FLAGS = ("-O3", "-march=native", "-std=gnu11", "-shared", "-fPIC")
_DIGEST = ".sha256"
"""Suffix of the file beside a library that has its digest."""
_SECONDS = 60
"""Longest time that compiling may take."""


@cache
def load() -> ctypes.CDLL | None:
    """Return the compiled library; None where it cannot be made."""
    compiler = c_compiler()
    if compiler is None:
        return None
    source = _SOURCE.read_bytes()
    try:
        version = subprocess.run(
            [compiler, "--version"], capture_output=True, timeout=_SECONDS, check=True
        ).stdout
        made_of = [source, version, " ".join(_FLAGS).encode(), _cpu()]
        name = f"step-{hashlib.sha256(b'|'.join(made_of)).hexdigest()[:24]}.so"
        path = _folder() / name
        if not _is_whole(path):
            _compile(compiler, path)
        return _typed(ctypes.CDLL(str(path)))
    except (OSError, RuntimeError, DiskFull, subprocess.SubprocessError):
        return None  # no HOME is a RuntimeError


def _compile(compiler: str, path: Path) -> None:
    """Compile into a file of its own first: several processes may do so at once."""
    with replacing_file(path) as new:
        subprocess.run(
            [compiler, *_FLAGS, "-o", str(new), str(_SOURCE), "-lm"],
            capture_output=True,
            timeout=_SECONDS,
            check=True,
        )
        ctypes.CDLL(str(new))  # what cannot be loaded is not kept
        digest = digest_of(new)
    write_atomically(path.with_suffix(_DIGEST), digest.encode())


def _is_whole(path: Path) -> bool:
    """Return whether a library is there as it was compiled: a torn one would end the process.

    Raises:
        OSError: it is not this user's alone.
    """
    try:
        _check_own(path)
        return path.with_suffix(_DIGEST).read_text() == digest_of(path)
    except FileNotFoundError:
        return False


def _check_own(path: Path) -> None:
    status = path.lstat()
    if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{path} can be written by others.")


def _folder() -> Path:
    """Return a folder that no other user can write to: what lies there is executed.

    Raises:
        OSError: it cannot be made.
    """
    root = Path(os.environ.get("STRATOS_CACHE") or "~/.cache/stratos").expanduser()
    folder = root / "compiled"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _check_own(folder)
    return folder


def _cpu() -> bytes:
    """Return what the instructions of this machine's CPU depend on."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return f"{platform.machine()} {platform.processor()} {platform.version()}".encode()
    named = ("flags", "Features", "model name", "CPU part")
    lines = info.read_text(errors="replace").splitlines()
    return "\n".join(sorted({line for line in lines if line.startswith(named)})).encode()


def _typed(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    library.stratos_vector.restype = ctypes.c_int
    library.stratos_work.argtypes, library.stratos_work.restype = [pointer, number, number], number
    library.stratos_panels.argtypes = [number, number, pointer, pointer]
    library.stratos_panels.restype = None
    library.stratos_step.argtypes = [pointer, number, number, pointer, pointer, pointer]
    library.stratos_step.restype = None
    library.stratos_write.argtypes = [
        pointer, number, pointer, pointer, pointer, number, pointer, pointer,
    ]  # fmt: skip
    library.stratos_write.restype = number
    return library


MOST_PARAMETERS = 200_000_000
"""Larger models have their weights once: the copy made here would not fit small machines."""
_SAME = 1e-3
"""Difference of two logits, as a part of the largest, that rounding alone does not make."""
_ROOM = 64
"""Tokens by which a full row grows, at the least."""
_ROWS_A_THREAD = 4
"""Rows below which a thread more is not worth it."""
ROW = np.dtype([("id", "i8"), ("n_tokens", "i8"), ("room", "i8"), ("keys", "u8"), ("values", "u8")])
"""`Row` of step.c."""


def can_decode(model: Any) -> bool:
    """Return whether a model's steps are those of this module, as far as its config says."""
    from transformers import LlamaForCausalLM

    if type(model) is not LlamaForCausalLM or torch.is_autocast_enabled("cpu"):
        return False
    weights = list(model.parameters())
    config: Any = model.config
    return (
        model.dtype is torch.float32  # in bfloat16 answers would differ from transformers'
        and all(weight.dtype is model.dtype and weight.device.type == "cpu" for weight in weights)
        and sum(weight.numel() for weight in weights) <= MOST_PARAMETERS
        and config.hidden_act == "silu"
        and not (config.attention_bias or config.mlp_bias)
        and config.rope_parameters["rope_type"] == "default"
    )


def agree(own_BV: Tensor, logits_BV: Tensor) -> bool:
    """Return whether logits are those of transformers but for rounding; no if any is NaN."""
    most = logits_BV.abs().max() * _SAME
    return bool((own_BV - logits_BV).abs().max() <= most)


class _Model(ctypes.Structure):
    """`Model` of step.c."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("layers", "hidden", "heads", "kv_heads")),
        *((name, ctypes.c_int32) for name in ("head_size", "width", "vocabulary")),
        *((name, ctypes.c_float) for name in ("eps", "scale")),
        *((name, ctypes.c_void_p) for name in ("embedding", "weights", "norms", "rotations")),
    ]


class Compiled:
    """A model's weights as compiled steps read them: a copy, of the time when it was made."""

    def __init__(self, library: ctypes.CDLL, model: Any, n_positions: int) -> None:
        """Lay the weights out.

        Args:
            library: of `stratos.contrib.cpu.cpu_decoder`.
            model: one that `can_decode` takes.
            n_positions: tokens of the longest prompt and answer.
        """
        config, body = model.config, model.model
        self._library, self._vector = library, int(library.stratos_vector())
        self.n_layers: int = config.num_hidden_layers
        self.n_kv_heads: int = config.num_key_value_heads
        self.head_size: int = body.layers[0].self_attn.head_dim
        self._kept = [tensor for layer in body.layers for tensor in self._layer(layer)]
        self._kept.append(self._panels(model.lm_head.weight))
        self.vocabulary: int = model.lm_head.weight.shape[0]
        panel = 2 * self._vector
        self._line = -(-self.vocabulary // panel) * panel
        embedding = body.embed_tokens.weight.detach().contiguous()
        layers = [(layer.input_layernorm, layer.post_attention_layernorm) for layer in body.layers]
        norms_NH = torch.stack([norm.weight for norm in (*chain(*layers), body.norm)]).detach()
        missing = -norms_NH.shape[1] % (2 * self._vector)
        norms_NH = torch.nn.functional.pad(norms_NH.float(), (0, missing))
        angles = torch.arange(n_positions)[:, None] * body.rotary_emb.inv_freq.float()
        rotations = torch.cat([angles.cos(), angles.sin()], -1).contiguous()
        pointers = (ctypes.c_void_p * len(self._kept))(
            *(tensor.data_ptr() for tensor in self._kept)
        )
        self._model = _Model(
            self.n_layers, config.hidden_size, config.num_attention_heads, self.n_kv_heads,
            self.head_size, config.intermediate_size, self.vocabulary,
            config.rms_norm_eps, body.layers[0].self_attn.scaling,
            embedding.data_ptr(), ctypes.cast(pointers, ctypes.c_void_p), norms_NH.data_ptr(),
            rotations.data_ptr(),
        )  # fmt: skip
        self._held = embedding, norms_NH, rotations, pointers  # as long as their addresses are used
        self._address = ctypes.addressof(self._model)
        self._pool = ThreadPoolExecutor()  # which starts threads when they are first wanted

    def rounded(self, n: int) -> int:
        """Return a number rounded up to whole vectors."""
        return -(-n // self._vector) * self._vector

    def step(self, rows: np.ndarray, longest: int) -> Tensor:
        """Return the logits (B, V) of the tokens behind the rows', whose states are added to.

        Args:
            rows: of `ROW`, contiguous, each with room for a token.
            longest: most tokens that there is room for in any of them.
        """
        B = len(rows)
        logits = torch.empty(B, self._line)
        n_threads = max(1, min(torch.get_num_threads(), B // _ROWS_A_THREAD))
        cuts = [B * part // n_threads for part in range(n_threads + 1)]
        if n_threads == 1:
            self._part(rows, longest, logits)
        else:  # rows share nothing but the weights: each thread takes some through all layers
            parts = [slice(a, b) for a, b in pairwise(cuts)]
            done = [self._pool.submit(self._part, rows[own], longest, logits[own]) for own in parts]
            try:
                for row in done:
                    row.result()
            finally:
                wait(done)  # behind Ctrl-C, too: they write into states that the caller frees
        return logits[:, : self.vocabulary]

    def _part(self, rows: np.ndarray, longest: int, logits: Tensor) -> None:
        n_floats = self._library.stratos_work(self._address, len(rows), longest)
        work = torch.empty(n_floats)
        self._library.stratos_step(
            self._address, len(rows), len(rows), rows.ctypes.data, work.data_ptr(),
            logits.data_ptr(),
        )  # fmt: skip

    def logits(self, rows: np.ndarray, n: int | None = None) -> np.ndarray:
        """Return the logits (n, V) behind the last n of rows, on this thread.

        Args:
            rows: as of `step`; several may be tokens of one text, in their order.
            n: of them; None for all.
        """
        n = len(rows) if n is None else n
        work, logits = self._buffers(rows, n)
        self._library.stratos_step(
            self._address, len(rows), n, rows.ctypes.data, work.ctypes.data, logits.ctypes.data
        )
        return logits[:, : self.vocabulary]

    def likeliest(self, rows: np.ndarray, most: int, ends: np.ndarray) -> np.ndarray:
        """Return the likeliest tokens (n, B) behind the rows', until a row has ended.

        Args:
            rows: as of `step`, each with room for `most` tokens.
            most: tokens of each row.
            ends: (V,) of uint8: which tokens end a text.
        """
        work, logits = self._buffers(rows, len(rows))
        written = np.empty((most, len(rows)), np.int64)
        n = self._library.stratos_write(
            self._address, len(rows), rows.ctypes.data, work.ctypes.data, logits.ctypes.data,
            most, ends.ctypes.data, written.ctypes.data,
        )  # fmt: skip
        return written[:n]

    def _buffers(self, rows: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        n_floats = self._library.stratos_work(self._address, len(rows), int(rows["room"].max()))
        return np.empty(n_floats, np.float32), np.empty((n, self._line), np.float32)

    def empty_states(self, room: int) -> tuple[np.ndarray, np.ndarray]:
        """Return keys and values of one row without a token; what is not written is zero.

        Of numpy, which copies on one thread: threads of torch would wait for each other at every
        row that grows.

        Args:
            room: tokens that they have room for, in whole vectors.
        """
        heads, vector = (self.n_layers, self.n_kv_heads), self._vector
        keys = np.zeros((*heads, room // vector, self.head_size, vector), np.float32)
        return keys, np.zeros((*heads, room, self.rounded(self.head_size)), np.float32)

    def _layer(self, layer: Any) -> list[Tensor]:
        attention, mlp = layer.self_attn, layer.mlp
        queries_keys_values = (attention.q_proj, attention.k_proj, attention.v_proj)
        qkv = torch.cat([projection.weight for projection in queries_keys_values])
        size = self.rounded(len(mlp.gate_proj.weight)) - len(mlp.gate_proj.weight)
        # A vector of the gate, then the same of what it is multiplied with.
        in_turns = [
            torch.nn.functional.pad(projection.weight, (0, 0, 0, size)).unflatten(
                0, (-1, self._vector)
            )
            for projection in (mlp.gate_proj, mlp.up_proj)
        ]
        gate_up = torch.stack(in_turns, 1).flatten(0, 2)
        return [
            self._panels(weight)
            for weight in (
                qkv,
                attention.o_proj.weight,
                gate_up,
                mlp.down_proj.weight,
            )
        ]

    def _panels(self, weight_OI: Tensor) -> Tensor:
        """Return a weight in panels, (panels, in, outputs of a panel); see `step.c`."""
        weight_OI, width = weight_OI.detach().contiguous(), 2 * self._vector
        n_panels, n_inputs = -(-len(weight_OI) // width), weight_OI.shape[1]
        panels = weight_OI.new_empty(n_panels, n_inputs, width)
        self._library.stratos_panels(
            *weight_OI.shape, weight_OI.data_ptr(), panels.data_ptr()
        )  # fmt: skip
        return panels


class Rows:
    """Rows of which transformers has read the prompts, with the states of their tokens."""

    def __init__(self, weights: Compiled) -> None:
        self._weights = weights
        self._rows = np.zeros(0, ROW)
        self._states: list[tuple[np.ndarray, np.ndarray]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, cache: Any, mask_BT: Tensor) -> None:
        """Take over what transformers' cache holds of some rows.

        Args:
            cache: of transformers.
            mask_BT: of those of its tokens that are taken; padding may stand at the left, and
                behind a prefix that rows share.
        """
        weights = self._weights
        of_layers = [
            (layer.keys.float().numpy(), layer.values.float().numpy()) for layer in cache.layers
        ]
        rows = np.zeros(len(mask_BT), ROW)
        for row, of_row in enumerate(mask_BT.numpy().astype(bool)):
            columns = np.flatnonzero(of_row)
            n = len(columns)
            room = weights.rounded(n + _ROOM)
            own_keys, own_values = weights.empty_states(room)
            _, heads, n_blocks, size, vector = own_keys.shape
            whole = np.zeros((heads, room, size), np.float32)
            for layer, (keys, values) in enumerate(of_layers):
                whole[:, :n] = keys[row][:, columns]
                own_keys[layer] = whole.reshape(heads, n_blocks, vector, size).swapaxes(2, 3)
                own_values[layer, :, :n, :size] = values[row][:, columns]
            self._states.append((own_keys, own_values))
            rows[row] = 0, n, room, own_keys.ctypes.data, own_values.ctypes.data
        self._rows = np.concatenate([self._rows, rows])

    def step(self, ids: Sequence[int]) -> Tensor:
        """Return the logits (B, V) of the tokens behind these, one of each row."""
        rows = self._rows
        for row in np.flatnonzero(rows["n_tokens"] == rows["room"]):
            self._grow(int(row))
        rows["id"] = ids
        return self._weights.step(rows, int(rows["room"].max()))

    def append(self, rows: Rows, n: int) -> None:
        """Take the first rows of others, n of them or as many as there are."""
        if n > 0 and len(rows):
            self._rows = np.concatenate([self._rows, rows._rows[:n]])
            self._states += rows._states[:n]
            rows._rows, rows._states = rows._rows[n:], rows._states[n:]

    def keep(self, places: Sequence[int]) -> None:
        """Keep rows, in this order."""
        self._rows = self._rows[list(places)]
        self._states = [self._states[row] for row in places]

    def _grow(self, index: int) -> None:
        """Give a row half as much room again."""
        row, (keys, values) = self._rows[index], self._states[index]
        room = self._weights.rounded(int(row["room"]) * 3 // 2 + _ROOM)
        own_keys, own_values = self._weights.empty_states(room)
        own_keys[:, :, : keys.shape[2]] = keys
        own_values[:, :, : values.shape[2]] = values
        self._states[index] = own_keys, own_values
        row["room"] = room
        row["keys"], row["values"] = own_keys.ctypes.data, own_values.ctypes.data


ROWS_A_THREAD = 16
"""Rows that a thread decodes at once. More take no less time each: their keys and values leave the
cache of a CPU."""


class Rolling(FastDecoder):
    """The rows of one call."""

    def __init__(self, library: CDLL, model: Any, call: Call) -> None:
        """Begin with no rows.

        Args:
            library: of `stratos.contrib.cpu.cpu_decoder`.
            model: one that `can_decode` takes.
            call: what its batches share.
        """
        self._weights = Compiled(library, model, call.n_positions)
        self._call = call
        self._most = min(call.batch_size, ROWS_A_THREAD * torch.get_num_threads())
        self._rows, self._waiting = Rows(self._weights), Rows(self._weights)
        # Of each row, and then of each that waits: its prompt's number, and its last token.
        self._prompts: list[int] = []
        self._ids: list[int] = []

    def take(
        self, cache: Any, ids_B1: Tensor, mask_BT: Tensor, positions_B1: Tensor, logits_BV: Tensor
    ) -> FastBatch | None:
        """Take a batch over; see `FastDecoder`."""
        rows = Rows(self._weights)
        rows.add(cache, mask_BT[:, :-1])
        if not agree(rows.step(ids_B1[:, 0].tolist()), logits_BV):
            return None
        cache.layers.clear()  # what it holds is held by the rows now
        return _Batch(self, rows)

    def join(self, prompts: list[int], ids: list[int], rows: Rows) -> None:
        """Decode until all of some rows have a place.

        Args:
            prompts: numbers of the prompts that the rows belong to.
            ids: their last tokens.
            rows: their keys and values.
        """
        self._prompts += prompts
        self._ids += ids
        self._waiting.append(rows, len(rows))
        self._begin()
        while len(self._waiting):
            self._step()

    def finish(self) -> None:
        """Decode all rows to their ends."""
        self._begin()
        while len(self._rows):
            self._step()

    def _begin(self) -> None:
        if self._call.threads is not None:  # other steps come now than were measured last
            self._call.threads.begin()
        self._fill()

    def _fill(self) -> None:
        """Let rows that wait take the free places."""
        self._rows.append(self._waiting, self._most - len(self._rows))

    def _step(self) -> None:
        """Write a token of each row."""
        n = len(self._rows)
        logits_BV = self._rows.step(self._ids[:n])
        call = self._call
        if call.poll is not None:
            call.poll()
        if call.threads is not None:
            call.threads.token()
        prompts = self._prompts[:n]
        picked: list[int] = call.pick(logits_BV, prompts)[:, 0].tolist()
        self._ids[:n] = picked
        over = [
            call.answers.add(prompt, token) for prompt, token in zip(prompts, picked, strict=True)
        ]
        if any(over):
            staying = fill_holes(over)
            self._rows.keep(staying)
            self._prompts[:n] = [self._prompts[row] for row in staying]
            self._ids[:n] = [self._ids[row] for row in staying]
            self._fill()


@dataclass(frozen=True)
class _Batch(FastBatch):
    """The rows of one batch until they join the others."""

    decoder: Rolling
    rows: Rows

    def keep(self, places: list[int]) -> None:
        """Keep rows, in this order."""
        self.rows.keep(places)

    def decode(self, prompts: list[int], ids_B1: Tensor, positions_B1: Tensor) -> None:
        """Decode until all rows have a place among the others."""
        self.decoder.join(prompts, ids_B1[:, 0].tolist(), self.rows)


def decoder(model: Any, call: Call) -> FastDecoder | None:
    """Return what decodes in place of a model's modules; None for a model of another kind."""
    if not can_decode(model):
        return None
    library = load()
    return None if library is None else Rolling(library, model, call)
