"""A served teacher scores given text, or is known at construction not to."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from completion_server import MODEL, CompletionServer
from signal_tools import alone, batch_of, context, documents, model, strategy, teacher, tokenizer

from stratos.core.errors import BudgetError, TeacherError
from stratos.deploy.bundle_server import serve_arguments
from stratos.deploy.server import free_port, serving
from stratos.distill.objectives import TopK
from stratos.distill.signal.cross_tokenizer import TokenizerMismatch
from stratos.distill.signal.source import TextSource, open_source
from stratos.distill.words import (
    FewerTokens,
    LessSignal,
    NoDistributions,
    NotServed,
    OtherToken,
    PaidEachTime,
    ScoringIgnored,
    ScoringRefused,
    ServedTemperature,
    ServedTopK,
    SignalTooDear,
)
from stratos.ledger import Ledger
from stratos.teachers import scheduler
from stratos.teachers.openai import OpenAITeacher

IDS = [5, 0, 17]


@pytest.fixture
def server() -> Iterator[CompletionServer]:
    words = tokenizer()
    with CompletionServer(model(len(words)), words) as serving:
        yield serving


def asked(server: CompletionServer, **said: Any) -> OpenAITeacher:
    settings: dict[str, Any] = {"api_key_env": None, "concurrency": 2, "max_retries": 1} | said
    return OpenAITeacher("served", model=MODEL, base_url=server.base_url, **settings)


def test_it_gives_the_likeliest_tokens_and_the_texts_own(server, tmp_path):
    data, told = documents(), []
    source = open_source(
        asked(server), strategy(top_k=6), tokenizer(), data, context(tmp_path, told)
    )
    assert (source.kind, source.reason, told) == ("topk", None, [])
    batch = batch_of(data, IDS)
    given = source.signal(batch)
    expected = alone(server.network, data, IDS, len(tokenizer()))
    wanted = TopK.of(expected, 6, batch.targets_M)
    assert isinstance(given, TopK) and torch.equal(given.ids_MK, wanted.ids_MK)
    there = given.ids_MK >= 0
    torch.testing.assert_close(
        given.logprobs_MK[there], wanted.logprobs_MK[there], atol=1e-5, rtol=1e-5
    )
    source.close()


def test_a_server_that_gives_fewer_is_said_and_cached(server, tmp_path):
    server.max_logprobs = 20
    data, told = documents(8), []
    said = strategy(cache="sampled", top_k=64, cache_dtype="float32")
    source = open_source(asked(server), said, tokenizer(), data, context(tmp_path, told))
    assert told == [str(ServedTopK("served")), str(LessSignal("served", FewerTokens(20, 64)))]
    batch = batch_of(data, [3, 1])
    given = source.signal(batch)
    assert isinstance(given, TopK) and given.tail_M is not None
    expected = alone(server.network, data, [3, 1], len(tokenizer()))
    wanted = TopK.of(expected, 20, batch.targets_M)
    assert wanted.tail_M is not None
    assert torch.equal(given.ids_MK[:, :21], wanted.ids_MK)
    assert (given.ids_MK[:, 21:] == -1).all()
    torch.testing.assert_close(given.tail_M, wanted.tail_M, atol=1e-4, rtol=1e-4)
    n_requests = len(server.requests)
    open_source(asked(server), said, tokenizer(), data, context(tmp_path)).signal(batch)
    assert len(server.requests) == n_requests, "the cache has all"


def test_what_cannot_be_had_falls_to_text_and_is_said(server, tmp_path):
    def opened(**said: Any) -> tuple[Any, list[str]]:
        told: list[str] = []
        where = context(tmp_path, told)
        return open_source(asked(server), strategy(**said), tokenizer(), documents(), where), told

    server.drops = True
    for cache in ("none", "topk"):
        source, told = opened(cache=cache)
        assert isinstance(source, TextSource) and source.signal(None) is None  # type: ignore[func-returns-value,arg-type]
        assert source.reason == ScoringIgnored(server.base_url)
        assert told == [str(NoDistributions("served", source.reason))]
    assert not list((tmp_path / "cache").rglob("shard*"))
    server.drops, server.path = False, "/v1/elsewhere"
    source, told = opened()
    assert source.reason == ScoringRefused(server.base_url, "HTTP 404")
    n_requests = len(server.requests)
    assert opened(temperature=2.0)[0].reason == ServedTemperature(2.0)
    assert opened(objective="universal_logit")[0].reason == NotServed.WHOLE_DISTRIBUTION
    assert opened(hidden_match=0.5)[0].reason == NotServed.HIDDEN_STATES
    assert len(server.requests) == n_requests, "known without asking"


@pytest.mark.slow
def test_transformers_serve_is_known_to_score_nothing(tmp_path):
    folder, port, told = str(tmp_path / "teacher"), free_port(), []  # type: ignore[var-annotated]
    teacher(tmp_path / "teacher")
    arguments = serve_arguments(folder, "127.0.0.1", port)
    with serving(arguments, port=port, log_path=tmp_path / "log") as server:
        real = OpenAITeacher("served", folder, f"{server.url}/v1", None, max_retries=0)
        where = context(tmp_path, told)
        source = open_source(real, strategy(), tokenizer(), documents(2), where)
    assert source.kind == "text"
    reason = ScoringRefused(f"{server.url}/v1", "HTTP 422")
    assert told == [str(NoDistributions("served", reason))]


def test_a_server_with_other_tokens_is_refused(server, tmp_path):
    words = tokenizer()
    texts = {id_: words.decode([id_]) for id_ in range(len(words))}
    texts[200] = "other"

    class Other:
        def decode(self, ids: list[int]) -> str:
            return texts[ids[0]]

    server.words = Other()
    with pytest.raises(TokenizerMismatch) as error:
        open_source(asked(server), strategy(), words, documents(), context(tmp_path))
    assert str(OtherToken(200, words.decode([200]), "other")) in str(error.value)
    assert f"{MODEL} at {server.base_url}" in str(error.value)
    assert "strategy=alignment" in str(error.value)


def test_faults_are_tried_again_and_then_told(server, tmp_path):
    source = open_source(
        asked(server), strategy(top_k=4), tokenizer(), documents(), context(tmp_path)
    )
    server.faults = [503]
    source.signal(batch_of(documents(), [0]))
    server.faults = [500, 500]
    with pytest.raises(TeacherError, match=r"gave no score after 2 tries \(HTTP 500\)"):
        source.signal(batch_of(documents(), [0]))
    server.faults = [400]
    with pytest.raises(TeacherError, match=r"no longer scores text of \d+ tokens \(HTTP 400\)"):
        source.signal(batch_of(documents(), [0]))
    source.close()


def test_a_paid_teacher_is_paid_from_the_ledger(server, tmp_path):
    paid = asked(server, usd_per_million_input_tokens=10.0)
    told: list[str] = []
    where = dataclasses.replace(
        context(tmp_path, told), ledger=Ledger(tmp_path / "paid", budget_usd=0.01)
    )
    source = open_source(paid, strategy(top_k=4), tokenizer(), documents(), where)
    assert told == [str(PaidEachTime("served"))]
    before = where.ledger.spent_usd
    assert before > 0, "the first request is paid, too"
    batch = batch_of(documents(), IDS)
    source.signal(batch)
    tokens = batch.tokens_1N.numel()
    assert where.ledger.spent_usd - before == pytest.approx(tokens * 10 / 1e6)
    with pytest.raises(BudgetError):
        for _ in range(50):
            source.signal(batch)
    assert where.ledger.spent_usd <= 0.01


def test_what_a_cache_will_cost_is_said_and_held_against_the_budget(server, tmp_path):
    paid = asked(server, usd_per_million_input_tokens=10.0, usd_per_million_output_tokens=20.0)
    data, notes = documents(), list[str]()
    said, words = strategy(cache="topk", top_k=4), tokenizer()

    def where(budget: float) -> Any:
        ledger = Ledger(tmp_path / f"{budget}.jsonl", budget)
        return dataclasses.replace(context(tmp_path), ledger=ledger, note=notes.append)

    ids = [i for i in words.get_vocab().values() if i not in set(words.all_special_ids)]
    n_tokens = int(data.lengths.sum()) + len(ids[:: max(1, len(ids) // 192)])
    usd = (n_tokens * 10 + 25 * 20) / 1e6
    with pytest.raises(BudgetError) as error:
        open_source(paid, said, words, data, where(0.005))
    n_fitting = int(24 * 0.005 / usd)
    cost = f"24 documents are expected to take {n_tokens:,} tokens in and 25 out, ${usd:.4f}"
    for part in (cost, f"about {n_fitting} of them", f"${usd - 0.005:.4f} more", "=alignment)"):
        assert part in str(error.value)
    assert server.requests == []
    # Where the strategy was not the user's own choice there is another way to learn.
    warned = list[str]()
    poor = dataclasses.replace(where(0.005), warn=warned.append)
    source = open_source(paid, said, words, data, poor, is_forced=False)
    given = source.signal(batch_of(data, IDS))
    assert given is None and isinstance(source, TextSource)
    assert source.reason == SignalTooDear(24, pytest.approx(usd), 0.005, n_fitting)
    assert warned == [str(NoDistributions("served", source.reason))]
    assert (poor.ledger.cut_at_usd, poor.ledger.spent_usd, server.requests) == (0.005, 0, [])
    enough = where(1.0)
    open_source(paid, said, words, data, enough).close()
    assert cost in notes[-1] and "$1.0000 is left" in notes[-1]
    assert len(server.requests) == 1 + 24, "each document is paid for once"
    assert enough.ledger.spent_usd == pytest.approx(usd)
    (line,) = [t for t in enough.ledger.path.read_text().splitlines() if "expected_usd" in t]
    assert json.loads(line)["n"] == {"documents": 24}
    open_source(paid, said, words, data, where(0.0001)).close()  # the cache has all


def test_a_try_that_may_be_billed_and_brings_no_score_is_paid_for(server, tmp_path, monkeypatch):
    monkeypatch.setattr(scheduler, "_SHORTEST_WAIT_S", 0.01)
    data, words = documents(4), tokenizer()
    paid = asked(server, usd_per_million_input_tokens=10.0, max_retries=3)
    where = context(tmp_path)
    source = open_source(paid, strategy(top_k=6), words, data, where)
    spent = where.ledger.spent_usd
    source.signal(batch_of(data, [0]))
    one = where.ledger.spent_usd - spent
    server.faults = [502, 503, 504]  # a gateway gave up twice; 503 did not take the request
    source.signal(batch_of(data, [0]))
    assert where.ledger.spent_usd == pytest.approx(spent + one + 3 * one)
    server.faults = [502] * 4
    with pytest.raises(TeacherError, match=r"gave no score after 4 tries \(HTTP 502\)"):
        source.signal(batch_of(data, [0]))
    source.close()
