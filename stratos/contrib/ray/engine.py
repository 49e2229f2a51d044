"""The Ray engine: chunks become Ray tasks, which restart when a node dies.

A task is retried without end for the death of its worker or node, and never for an error of its
own. Results are fetched as they come and handed on in order, so that no more than a few chunks a
worker are under way, or wait for an earlier one.

Only the answering is spread. What is asked, kept and paid is decided by the process that asks, so
that a question is asked again at most if the node died that was answering it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

from typing_extensions import override

import stratos
from stratos.contrib.ray.nodes import RayNotInstalled
from stratos.core.context import Engine, in_chunks
from stratos.core.digest import is_users_own
from stratos.core.errors import StratosError
from stratos.core.formats import counted
from stratos.core.reasons import Reason
from stratos.records import ModelCard
from stratos.tasks.base import Message
from stratos.teachers.base import Answer, CacheMode, Keep, Question, Teacher, Tick

A = TypeVar("A")


class RayTeacher(Teacher):
    """A teacher of weights, all else of which is as it was.

    Args:
        teacher: a dataclass; each worker makes one with the same fields.
        engine: whose workers answer.
    """

    def __init__(self, teacher: Any, engine: Engine) -> None:
        self._teacher, self._engine = teacher, engine
        self.name: str = teacher.name
        self.cache: CacheMode = teacher.cache

    @property
    @override
    def draws(self) -> bool:
        return self._teacher.draws

    @override
    def unreachable(self) -> Reason | None:
        return self._teacher.unreachable()

    @override
    def card(self) -> ModelCard:
        return self._teacher.card()

    @override
    def identity(self) -> str:
        """Return that of the teacher: where it answers does not change what."""
        return self._teacher.identity()

    @override
    def folder(self) -> Path | None:
        return self._teacher.folder()

    @override
    def too_long(self, question: Question) -> Reason | None:
        return self._teacher.too_long(question)

    @override
    def close(self) -> None:
        """Free what was loaded here; workers end with their cluster, or keep the last of theirs."""
        self._teacher.close()

    @override
    def ask(
        self,
        chats: Sequence[list[Message]],
        max_tokens: int,
        tick: Tick | None = None,
        keep: Keep | None = None,
    ) -> list[Answer]:
        """Answer every chat greedily, in the order given.

        Raises:
            TeacherError: as the teacher raises it.
        """
        return self._spread(partial(_answer, self._fresh, max_tokens), chats, keep, tick)

    @property
    def _fresh(self) -> Any:
        """The teacher without what was loaded here: each worker loads its own weights."""
        return replace(self._teacher)

    def _spread(
        self,
        function: Callable[[list[A]], list[Answer]],
        questions: Sequence[A],
        keep: Keep | None,
        tick: Tick | None = None,
    ) -> list[Answer]:
        """Let workers answer chunks of what is asked."""
        chunks = in_chunks(questions, self._teacher.batch_size)
        answers: list[Answer] = []
        for made in self._engine.map(function, chunks, n_gpus=1):
            for answer in made:
                if keep is not None:
                    keep(len(answers), answer)
                answers.append(answer)
            if tick is not None:
                tick(len(answers), len(questions))
        return answers

    @override
    def sample(self, questions: Sequence[Question], keep: Keep | None = None) -> list[Answer]:
        """Answer questions in the order given, each up to its own length."""
        return self._spread(partial(_sample, self._fresh), questions, keep)


def _answer(teacher: Teacher, max_tokens: int, chats: list[list[Message]]) -> list[Answer]:
    return teacher.ask(chats, max_tokens)


def _sample(teacher: Teacher, questions: list[Question]) -> list[Answer]:
    return teacher.sample(questions)


B = TypeVar("B")
T = TypeVar("T")

_CHUNKS_A_WORKER = 2
"""Under way, so that a worker that ends one finds the next."""
_WAITING = 4
"""Chunks a worker that may wait for an earlier one, those under way among them."""
_STORE_BYTES = 256 * 2**20
"""Of a local cluster's object store: a chunk's result is below one MiB."""


_KNOCK_S = 5.0
"""How long a cluster's address has to answer."""


def _knock(address: str) -> None:
    """Refuse an address at which nobody listens: Ray itself would try for minutes.

    Raises:
        OSError: there is no connection within `_KNOCK_S`.
    """
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK_S).close()


class RayEngine(Engine):
    """A connected cluster.

    Args:
        n_workers: CPUs, each of which runs one task at a time.
        n_gpus: GPUs.
    """

    def __init__(self, n_workers: int, n_gpus: int = 0) -> None:
        self.n_workers, self.n_gpus = n_workers, n_gpus

    @classmethod
    def unusable(cls) -> Reason | None:
        """Return that Ray cannot be imported, without importing it; None if it can."""
        return None if find_spec("ray") is not None else RayNotInstalled()

    @classmethod
    @contextmanager
    def connected(cls, address: str | None, say: Callable[[str], None]) -> Iterator[RayEngine]:
        """Connect to a cluster, or start one of this machine; it ends, or is left, with the block.

        Args:
            address: of a running cluster, as Ray knows it; None for a local one.
            say: takes a line about the cluster.

        Raises:
            StratosError: Ray is not installed, or the cluster cannot be reached.
        """
        if (reason := cls.unusable()) is not None:
            raise StratosError(str(reason))
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told of this run
        import ray

        quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        try:
            if address is None:
                ray.init(
                    "local", include_dashboard=False, object_store_memory=_STORE_BYTES, **quiet
                )
            else:
                _knock(address)
                # Every node runs the code of this process, whatever is installed there.
                package = stratos.__path__[0]
                ray.init(address, runtime_env={"py_modules": [package]}, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            why = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise StratosError(
                f"synthesize.ray_address={'null' if address is None else address}: the Ray cluster "
                f"cannot be used ({why}). Check that it runs (ray status) with the same versions "
                "of Ray and Python, or type synthesize.engine=local"
            ) from error
        try:
            n_nodes = sum(node["Alive"] for node in ray.nodes())
            has = ray.cluster_resources()
            engine = cls(max(1, int(has.get("CPU", 1))), int(has.get("GPU", 0)))
            cores, gpus = counted(engine.n_workers, "CPU"), counted(engine.n_gpus, "GPU")
            say(f"Ray: {counted(n_nodes, 'node')}, {cores}, {gpus}.")
            yield engine
        finally:
            ray.shutdown()

    def spread(self, teacher: T) -> T:
        """Return a teacher whose weights every node loads; an endpoint's is asked from here."""
        if cast(Teacher, teacher).streams or not is_dataclass(teacher):
            return teacher
        return cast(T, RayTeacher(teacher, self))

    def map(
        self, function: Callable[[list[A]], list[B]], chunks: Iterable[list[A]], n_gpus: float = 0.0
    ) -> Iterator[list[B]]:
        """Yield what a function makes of each chunk, in order.

        Raises:
            StratosError: as the function raises it, or the cluster is lost.
        """
        import ray

        task: Any = ray.remote(_call).options(
            num_cpus=1,
            num_gpus=min(n_gpus, self.n_gpus),
            max_retries=-1,
            scheduling_strategy="SPREAD",
        )
        for module in _users_own(function):
            ray.cloudpickle.register_pickle_by_value(module)
        data = ray.cloudpickle.dumps(function)
        # In a list it is not unpacked for each call, but once in each worker.
        shipped = [ray.put(data)], hashlib.sha256(data).hexdigest()
        source = iter(chunks)
        order: deque[Any] = deque()
        flying: list[Any] = []
        landed: dict[Any, list[B]] = {}
        ended = False
        try:
            while True:
                while (
                    not ended
                    and len(flying) < _CHUNKS_A_WORKER * self.n_workers
                    and len(order) < _WAITING * self.n_workers
                ):
                    chunk = next(source, None)
                    if chunk is None:
                        ended = True
                        break
                    reference = task.remote(*shipped, chunk)
                    order.append(reference)
                    flying.append(reference)
                if not order:
                    return
                done, flying = ray.wait(flying, num_returns=1)
                for reference in done:
                    landed[reference] = ray.get(reference)
                while order and order[0] in landed:
                    yield landed.pop(order.popleft())
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, StratosError):
                raise cause from None
            raise
        except (ray.exceptions.RayError, ConnectionError) as error:
            raise StratosError(
                f"The Ray cluster is lost ({str(error).strip().splitlines()[0][:200]}). What was "
                "answered is kept: give the same command again, or type synthesize.engine=local"
            ) from error
        finally:
            for reference in flying:
                ray.cancel(reference, force=False)


def _users_own(function: Any) -> list[ModuleType]:
    """Return modules of the user's own among those of a function's arguments; nodes lack them."""
    names = {
        cls.__module__
        for argument in getattr(function, "args", ())
        for cls in type(argument).__mro__
    }
    return [module for name in names if is_users_own(module := sys.modules[name])]


_FUNCTIONS: dict[str, Any] = {}
"""Of a worker: the functions that it was given last, with what they have loaded."""
_FUNCTIONS_KEPT = 2


def _call(shipped: list[Any], digest: str, chunk: list[A]) -> list[Any]:
    """Apply a function in a worker."""
    import ray

    function = _FUNCTIONS.pop(digest, None)
    if function is None:
        function = ray.cloudpickle.loads(ray.get(shipped[0]))
    _FUNCTIONS[digest] = function
    while len(_FUNCTIONS) > _FUNCTIONS_KEPT:
        del _FUNCTIONS[next(iter(_FUNCTIONS))]
    return function(chunk)
