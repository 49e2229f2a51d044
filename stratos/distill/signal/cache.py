"""The logits cache: the teacher's distributions on disk, for every epoch, student and sweep.

A cache is a folder named after all that decides its content: teacher, tokenizer, data, form, k,
type and temperature. `about.json` says these; shards (safetensors) hold the learned places of some
documents each, in order, with a digest of their content.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import fsspec
import numpy as np
import torch
from fsspec.implementations.local import LocalFileSystem
from safetensors.numpy import save

from stratos.core.atomic_files import flush
from stratos.core.errors import ConfigError, StratosError
from stratos.core.process import lock_of_part
from stratos.distill.data import Batch, Encoded
from stratos.distill.objectives import EMPTY, Sampled, TopK
from stratos.distill.signal.cross_tokenizer import Fingerprint, TokenizerMismatch
from stratos.distill.signal.local import SignalSource
from stratos.distill.words import ShardAbsent, ShardCorrupt


class Store:
    """Files are written beside their place, checked, and then moved to it.

    A file behind a URL is fetched once, because it is read by mapping it into memory.
    """

    def __init__(self, url: str, fetched: Path) -> None:
        """Take a folder.

        Args:
            url: path or URL of the folder; made if it is not there.
            fetched: folder for copies of what lies behind a URL, one folder a URL.

        Raises:
            ConfigError: the URL is of a kind that is not known here.
        """
        self.url = url
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError, OSError) as error:
            raise self._out_of_reach(error) from error
        self.is_local = isinstance(self._fs, LocalFileSystem)
        name = hashlib.sha256(url.encode()).hexdigest()[:16]
        self.folder = Path(self._root) if self.is_local else fetched / name

    def find(self, name: str) -> Path | None:
        """Return a file to read, or None where it is not there.

        Raises:
            ConfigError: the URL cannot be reached.
        """
        path = self.folder / name
        try:
            if path.exists():
                return path
            if self.is_local or not self._fs.exists(f"{self._root}/{name}"):
                return None
            staged = self.stage(name)
            self._fs.get_file(f"{self._root}/{name}", str(staged))
        except OSError as error:
            raise self._out_of_reach(error) from error
        staged.replace(path)
        return path

    def prepare(self) -> None:
        """Make the folder, so that a place that cannot be written is known before any work.

        Raises:
            ConfigError: it cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._out_of_reach(error) from error

    def _out_of_reach(self, error: Exception) -> ConfigError:
        why = str(error) or type(error).__name__
        return ConfigError(
            f"The signal cache {self.url} cannot be reached ({why}). "
            "Check strategy.cache_url and strategy.cache_path: a folder, or a URL whose package "
            "is installed (s3fs, gcsfs, adlfs); null takes the cache folder that runs share."
        )

    def stage(self, name: str) -> Path:
        """Return where to write a file that is to get this name."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f".{name}.{uuid.uuid4().hex}.tmp"

    def publish(self, name: str, staged: Path) -> Path:
        """Give a whole file its name, in one step; an older one is replaced."""
        flush(staged)
        if not self.is_local:
            self._fs.makedirs(self._root, exist_ok=True)
            there = f"{self._root}/.{name}.{uuid.uuid4().hex}.tmp"
            self._fs.put_file(str(staged), there)
            self._fs.mv(there, f"{self._root}/{name}")
        path = self.folder / name
        staged.replace(path)
        return path

    def forget(self, name: str) -> None:
        """Drop a copy that was fetched, so that the next `find` fetches it again."""
        if not self.is_local:
            (self.folder / name).unlink(missing_ok=True)

    def sweep(self, name: str) -> None:
        """Remove what killed writers of a file left; only for who holds its lock."""
        for temporary in self.folder.glob(f".{name}.*.tmp"):
            temporary.unlink(missing_ok=True)

    @contextmanager
    def lock(self, index: int, wait: bool) -> Iterator[bool]:
        """Hold the lock of file number `index` against other processes of this machine.

        The kernel releases it when its holder dies. Yields whether it was got.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with lock_of_part(self.folder / "lock", index, wait) as is_got:
            yield is_got


def packed(columns: Mapping[str, np.ndarray]) -> bytes:
    """Return the file of some columns."""
    return save(dict(columns), metadata={"digest": _digest_of(columns)})


def mapped(
    path: Path,
    columns: Mapping[str, tuple[np.dtype[Any], int]],
    n_places: int,
    verify: bool = True,
) -> dict[str, np.ndarray]:
    """Map the columns of a shard.

    Raises:
        ValueError, KeyError, TypeError, RuntimeError: it is cut, of another shape, or its content
            does not match its digest.
    """
    # Unlike mmap and numpy, torch keeps no file open behind a mapping: a cache may have more shards
    # than a process may have open files.
    size = path.stat().st_size
    raw = torch.from_file(str(path), False, size, dtype=torch.uint8).numpy()
    n_header = int.from_bytes(raw[:8].tobytes(), "little")
    if not 0 < n_header <= size - 8:
        raise ValueError("its header is cut")
    header = json.loads(raw[8 : 8 + n_header].tobytes())
    columns_of: dict[str, np.ndarray] = {}
    for name, (dtype, width) in columns.items():
        start, stop = (8 + n_header + offset for offset in header[name]["data_offsets"])
        if stop - start != n_places * width * dtype.itemsize or stop > size:
            raise ValueError(f"its {name} are cut")
        columns_of[name] = raw[start:stop].view(dtype).reshape(n_places, width)
    if verify and _digest_of(columns_of) != header["__metadata__"]["digest"]:
        raise ValueError("its content does not match its digest")
    return columns_of


def _digest_of(columns: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(columns):
        digest.update(np.ascontiguousarray(columns[name]).data)
    return digest.hexdigest()


VERSION = 1
SHARD_BYTES = 2**24
"""Size of a shard; a killed writer loses at most one."""
_ABOUT = "about.json"


@dataclass(frozen=True)
class About:
    """All that decides the content of a cache."""

    teacher: str
    """Identity of the teacher: weights, revision, type."""
    tokenizer: Fingerprint
    data: str
    """Digest of the tokens of all documents."""
    kind: Literal["topk", "sampled"]
    k: int
    """Likeliest tokens kept a place (beside the text's own), or tokens drawn."""
    dtype: Literal["float16", "float32"]
    """Type of the log-probabilities."""
    temperature: float
    version: int = VERSION

    @property
    def address(self) -> str:
        """Return the name of the cache."""
        described = {**asdict(self), "tokenizer": self.tokenizer.digest}
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def columns(self) -> dict[str, tuple[np.dtype[Any], int]]:
        """Return type and width of what is kept a place."""
        ids = np.dtype(np.uint16 if self.tokenizer.n_ids < 2**16 else np.int32)
        logprobs = np.dtype(self.dtype)
        if self.kind == "sampled":
            return {"ids": (ids, self.k), "logprobs": (logprobs, self.k)}
        return {"ids": (ids, self.k + 1), "logprobs": (logprobs, self.k + 1), "tail": (logprobs, 1)}

    @property
    def bytes_per_token(self) -> int:
        """Return bytes that one learned place takes."""
        return sum(dtype.itemsize * width for dtype, width in self.columns.values())


def data_digest(data: Encoded, prompts: Sequence[np.ndarray] | None = None) -> str:
    """Return a digest of documents, and of the teacher's own prompts where it has them."""
    digest = hashlib.blake2b(digest_size=16)
    lengths = [] if prompts is None else [len(prompt) for prompt in prompts]
    own = np.concatenate(prompts) if prompts else np.zeros(0)
    for array in (data.tokens, data.starts, data.prompt_lengths, np.array(lengths), own):
        digest.update(np.ascontiguousarray(array, dtype=np.int64).data)
        digest.update(b"|")
    return digest.hexdigest()


class SignalCache:
    """The shards of one cache."""

    def __init__(self, store: Store, about: About, data: Encoded) -> None:
        """Lay out which documents each shard holds; nothing is read yet."""
        self.store, self.about = store, about
        n_places = data.lengths - data.prompt_lengths
        self.place_starts = np.concatenate([[0], np.cumsum(n_places)])
        per_shard = max(1, SHARD_BYTES // about.bytes_per_token)
        # Documents are never split: a new shard begins where the places fill another one.
        number = self.place_starts[:-1] // per_shard
        cuts = np.flatnonzero(np.diff(number)) + 1
        self.bounds = np.concatenate([[0], cuts, [len(data)]])
        self._shards: dict[int, dict[str, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @property
    def n_places(self) -> int:
        """Return the number of learned places of all documents."""
        return int(self.place_starts[-1])

    def documents(self, shard: int) -> np.ndarray:
        """Return the documents of a shard."""
        return np.arange(self.bounds[shard], self.bounds[shard + 1])

    def n_places_of(self, shard: int) -> int:
        """Return the learned places of a shard."""
        first, last = self.bounds[shard : shard + 2]
        return int(self.place_starts[last] - self.place_starts[first])

    def check(self, shard: int) -> ShardAbsent | ShardCorrupt | None:
        """Map a shard into memory, or return what is wrong with it."""
        if shard in self._shards:
            return None
        name = _shard_name(shard)
        problem: ShardAbsent | ShardCorrupt = ShardAbsent()
        # A copy that was fetched and is broken may be whole where it comes from.
        for _ in range(1 if self.store.is_local else 2):
            path = self.store.find(name)
            if path is None:
                return problem
            try:
                columns = mapped(path, self.about.columns, self.n_places_of(shard))
            except (ValueError, KeyError, OSError, TypeError, RuntimeError) as error:
                self.store.forget(name)
                problem = ShardCorrupt(shard, self.store.url, str(error))
            else:
                self._shards[shard] = columns
                return None
        return problem

    def missing(self, warn: Callable[[str], None]) -> list[int]:
        """Return the shards that are not there or not whole; the latter are said."""
        lacking = []
        for shard in range(len(self)):
            problem = self.check(shard)
            if isinstance(problem, ShardCorrupt):
                warn(str(problem))
            if problem is not None:
                lacking.append(shard)
        return lacking

    def write(self, shard: int, columns: Mapping[str, np.ndarray]) -> None:
        """Write a shard beside its place, read it back, and give it its name.

        Raises:
            StratosError: it cannot be written, or is not what was written.
        """
        name = _shard_name(shard)
        try:
            self._say_what_it_is()
            staged = self.store.stage(name)
            staged.write_bytes(packed(columns))
            mapped(staged, self.about.columns, self.n_places_of(shard))
            path = self.store.publish(name, staged)
        except (OSError, ValueError) as error:
            raise StratosError(
                f"The signal cache {self.store.url} cannot be written ({error}). Free the disk, "
                "or go on without: strategy.cache=none. The shards that are whole are kept."
            ) from error
        self._shards[shard] = mapped(path, self.about.columns, self.n_places_of(shard), False)

    def _say_what_it_is(self) -> None:
        if self.store.find(_ABOUT) is None:
            staged = self.store.stage(_ABOUT)
            staged.write_text(json.dumps(asdict(self.about), indent=2))
            self.store.publish(_ABOUT, staged)

    def gather(self, document_ids_D: np.ndarray) -> dict[str, np.ndarray]:
        """Return the columns of the learned places of some documents, in their order."""
        shards = np.searchsorted(self.bounds, document_ids_D, side="right") - 1
        base = self.place_starts[self.bounds[shards]]
        first = (self.place_starts[document_ids_D] - base).tolist()
        last = (self.place_starts[document_ids_D + 1] - base).tolist()
        parts = list(zip(shards.tolist(), first, last, strict=True))
        return {
            name: np.concatenate([self._shards[shard][name][i:j] for shard, i, j in parts])
            for name in self.about.columns
        }


class CachedSource(SignalSource):
    """Reads what a teacher said of the documents of a batch; no teacher is there any more."""

    is_forkable = True

    def __init__(self, cache: SignalCache) -> None:
        """Take a cache without missing shards."""
        self.cache, self.kind = cache, cache.about.kind

    def signal(self, batch: Batch) -> TopK | Sampled:
        """Return what was kept of the learned places of a batch of the cached documents."""
        device, n_ids = batch.tokens_1N.device, self.cache.about.tokenizer.n_ids
        columns = self.cache.gather(batch.document_ids_D)
        cached_ids = columns["ids"]
        assert len(cached_ids) == len(batch.rows_M), (
            "the batch has other tokens than the cached data"
        )
        ids = torch.from_numpy(cached_ids.astype(np.int64))
        if cached_ids.dtype == np.uint16 and self.kind == "topk":
            ids[ids == 2**16 - 1] = EMPTY
        logprobs = torch.from_numpy(columns["logprobs"].astype(np.float32))
        if self.kind == "sampled":
            weights = torch.full_like(logprobs, 1 / self.cache.about.k)
            return Sampled(ids.to(device), weights.to(device), logprobs.to(device), n_ids)
        tail = torch.from_numpy(columns["tail"][:, 0].astype(np.float32))
        return TopK(ids.to(device), logprobs.to(device), tail.to(device), n_ids)


def open_offline(store: Store, tokenizer: Fingerprint, data: Encoded, digest: str) -> SignalCache:
    """Return a cache that was made elsewhere, if it is of this tokenizer and of these documents.

    Raises:
        TokenizerMismatch: it is for another tokenizer.
        StratosError: there is no cache, or it is for other documents.
    """
    about = _about(store)
    if about.tokenizer.digest != tokenizer.digest:
        raise TokenizerMismatch(
            f"The signal cache {store.url} is for another tokenizer.\n"
            f"  cache    {about.tokenizer}\n"
            f"  student  {tokenizer}\n"
            "Take a student with the cache's tokenizer (student.path=…), or let the teacher "
            "make a cache for this one: strategy.cache_path=null"
        )
    if about.data != digest:
        raise StratosError(
            f"The signal cache {store.url} is for other documents ({about.data[:12]}, not "
            f"{digest[:12]}): corpus, prompt or context length have changed. Let the teacher "
            "make one for these: strategy.cache_path=null"
        )
    return SignalCache(store, about, data)


def _about(store: Store) -> About:
    path = store.find(_ABOUT)
    try:
        if path is None:
            raise ValueError(f"it has no {_ABOUT}")
        facts = json.loads(path.read_text())
        if facts.get("version") != VERSION:
            raise ValueError(f"it has version {facts.get('version')}, not {VERSION}")
        return About(**{**facts, "tokenizer": Fingerprint(**facts["tokenizer"])})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise StratosError(
            f"{store.url} is not a signal cache ({error}). Give "
            f"strategy.cache_path=<folder with {_ABOUT} and shards>, or none to have the "
            "teacher make one."
        ) from error


def _shard_name(shard: int) -> str:
    return f"shard-{shard:05d}.safetensors"
