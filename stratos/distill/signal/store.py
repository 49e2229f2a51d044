"""A store with atomic files, on a disk or behind any fsspec URL."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from stratos.core.atomic_files import flush
from stratos.core.errors import ConfigError
from stratos.core.locks import lock_of_part


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
        for left in self.folder.glob(f".{name}.*.tmp"):
            left.unlink(missing_ok=True)

    @contextmanager
    def lock(self, index: int, wait: bool) -> Iterator[bool]:
        """Hold the lock of file number `index` against other processes of this machine.

        The kernel releases it when its holder dies. Yields whether it was got.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with lock_of_part(self.folder / "lock", index, wait) as is_got:
            yield is_got
