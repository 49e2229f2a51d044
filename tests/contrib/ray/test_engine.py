"""A Ray cluster of three nodes, one killed in the middle: the same corpus, and nothing lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cluster_parts import SlowTask, SlowTeacher, written_down
from echo_teacher import EchoTeacher

from stratos.config import CallbacksConfig, EvaluateConfig, LimitsConfig, ProbeConfig
from stratos.contrib.ray import engine as ray_engine
from stratos.contrib.ray.engine import RayEngine, RayTeacher
from stratos.contrib.ray.nodes import RayNotInstalled
from stratos.core.context import Context, Here, in_chunks
from stratos.core.errors import StratosError, TeacherError
from stratos.ledger import Ledger
from stratos.records import Corpus
from stratos.synthesize import synthesize
from stratos.synthesize.injection import Injection, make
from stratos.tasks.mahjong import MahjongTask
from stratos.tasks.mahjong.discard import DiscardTask
from stratos.teachers.openai import OpenAITeacher
from tests.teachers.questions import cached_ask, chats

_STORE_BYTES = 80 * 2**20
NODE = {"num_cpus": 1, "object_store_memory": _STORE_BYTES}


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A running cluster; a test that kills a node of it adds one again."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    # Without a node at first: it may take longer than Ray waits where the machine is busy.
    running = Cluster()
    try:
        for number in range(3):
            add_node(running, **({"include_dashboard": False} if number == 0 else {}))
        yield running
    finally:
        running.shutdown()


def add_node(running: Any, **more: Any) -> None:
    """Add a node; on a busy machine one that does not come up in Ray's 30 s is tried again."""
    for is_last in (False, False, True):
        try:
            running.add_node(**NODE, **more)
            return
        except Exception as error:
            if is_last or "timed out" not in str(error):
                raise


@pytest.fixture
def engine(nodes: Any) -> Iterator[RayEngine]:
    nodes.wait_for_nodes(60)  # a node that was killed is counted until its heartbeats are missed
    said: list[str] = []
    with RayEngine.connected(nodes.address, said.append) as ready:
        assert said == ["Ray: 3 nodes, 3 CPUs, 0 GPUs."]
        yield ready


def context_of(folder: Path, engine: Any, tick: Callable[..., None] | None = None) -> Context:
    folder.mkdir(exist_ok=True)
    context = Context(folder, folder / "cache", Ledger(folder / "ledger"), engine=engine)
    return replace(context, tick=tick) if tick is not None else context


def corpus_of(task: Any, context: Context, **changes: Any) -> Corpus:
    config: Any = SimpleNamespace(
        task=task,
        teachers=(),
        students=(),
        strategies=(Injection(**changes),),
        limits=LimitsConfig(),
        probe=ProbeConfig(n_items=8),
        evaluate=EvaluateConfig(n_items=16, n_teacher_items=8),
        callbacks=CallbacksConfig(n_validation_items=8),
        seed=3,
    )
    plan: Any = SimpleNamespace(teacher="", strategy="injection", student="", prompt="")
    return synthesize(config, plan, context)


def is_same(one: Corpus, other: Corpus) -> bool:
    """Return whether two corpora differ in nothing but what they took."""
    took = {"path": "", "seconds": 0.0, "cpu_seconds": 0.0, "items_per_s": 0.0}
    return replace(one, **took) == replace(other, **took)


def test_the_corpus_is_the_same_with_a_node_killed_in_the_middle(tmp_path, nodes, engine):
    made = tmp_path / "made"
    made.mkdir()
    killed: list[Any] = []

    def tick(done: int, total: int, text: str = "") -> None:
        if done >= 1000 and not killed:
            killed.append(nodes.worker_nodes.copy().pop())
            nodes.remove_node(killed[0], allow_graceful=False)

    task = SlowTask(folder=str(made))
    there = corpus_of(task, context_of(tmp_path / "there", engine, tick), n_items=5000)
    add_node(nodes)
    assert killed
    here = corpus_of(SlowTask(), context_of(tmp_path / "here", Here()), n_items=5000)
    assert there.sha256 == here.sha256
    assert is_same(there, here) and there.n_items == 5000
    times, n_processes = written_down(made)
    assert n_processes >= 3
    n_drawn = there.n_items + sum(there.refused.values())
    assert all(times[str(number)] for number in range(n_drawn))
    # The chunk that the dead node was at, and one whose result had not left it.
    assert sum(times.values()) - len(times) <= 2 * 256
    assert len(times) <= n_drawn + 4 * 3 * 256


@pytest.mark.parametrize("task", [MahjongTask(), DiscardTask()])
def test_items_and_their_order_are_those_of_one_process(engine, task):
    there = list(make(task, 600, 1, engine))
    assert [made.item for made in there] == list(task.reverse(600, 1))
    assert all(made.verified and made.problem is None for made in there)


def test_balance_and_bare_answers_too(tmp_path, engine):
    for changes in ({"balance": 0.5}, {"rationale": "none"}):
        there, here = (
            corpus_of(MahjongTask(), context_of(tmp_path / name, where), n_items=700, **changes)
            for name, where in (("there", engine), ("here", Here()))
        )
        assert is_same(there, here)
        assert there.n_items > 600  # of 700: even shares may end before


def test_a_teacher_answers_on_every_node_and_outlives_one(tmp_path, nodes, engine):
    asked = tmp_path / "asked"
    asked.mkdir()
    killed: list[Any] = []

    def tick(done: int, total: int) -> None:
        if done >= 80 and not killed:
            killed.append(nodes.worker_nodes.copy().pop())
            nodes.remove_node(killed[0], allow_graceful=False)

    teacher = engine.spread(SlowTeacher(folder=str(asked)))
    context = context_of(tmp_path / "run", engine)
    answers = cached_ask(teacher, chats(400), 8, context, tick=tick)
    add_node(nodes)
    assert killed
    assert [answer.text for answer in answers] == [f"word {i}" for i in range(400)]
    times, n_processes = written_down(asked)
    assert n_processes >= 3 and len(times) == 400
    assert sum(times.values()) - 400 <= 2 * 8
    again = cached_ask(teacher, chats(400), 8, context)
    assert all(answer.cached for answer in again)
    assert written_down(asked)[0] == times


def test_an_error_of_the_work_is_the_users_error(engine, tmp_path):
    teacher = engine.spread(SlowTeacher(folder=str(tmp_path), fails_at=3))
    with pytest.raises(TeacherError, match="out of breath"):
        teacher.ask(chats(40), 8)
    assert [*engine.map(sorted, in_chunks([3, 1, 2, 5, 4], 3))] == [[1, 2, 3], [4, 5]]


def test_an_endpoint_is_asked_from_here():
    elsewhere = RayEngine(1)
    hosted = OpenAITeacher("x", "m", base_url="http://127.0.0.1:9/v1")
    assert elsewhere.spread(hosted) is hosted
    echo = EchoTeacher()
    assert Here().spread(echo) is echo
    wrapped = elsewhere.spread(echo)
    assert isinstance(wrapped, RayTeacher)
    assert wrapped.identity() == echo.identity() and wrapped.name == "echo"


def test_without_ray_it_is_said_what_to_type(monkeypatch):
    monkeypatch.setattr(ray_engine, "find_spec", lambda name: None)
    with pytest.raises(StratosError) as caught, RayEngine.connected(None, print):
        pass
    assert str(caught.value) == str(RayNotInstalled())


def test_a_cluster_that_is_not_there():
    pytest.importorskip("ray")
    with pytest.raises(StratosError) as caught, RayEngine.connected("127.0.0.1:9", print):
        pass
    text = str(caught.value)
    assert text.startswith("synthesize.ray_address=127.0.0.1:9: the Ray cluster cannot be used (")
    assert text.endswith("or type synthesize.engine=local")
