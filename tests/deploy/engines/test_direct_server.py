"""Stratos' own decoder over HTTP: it answers as the evaluation does, alone and many at once."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import uvicorn
from served_bundle import CHATS, call, make_bundle, post, served

from stratos.config import DeployConfig, LimitsConfig
from stratos.contrib.cpu import cpu_decoder
from stratos.core.errors import StratosError
from stratos.deploy import bundle_server
from stratos.deploy.bundle_server import engine_of
from stratos.deploy.engines import direct, direct_server
from stratos.deploy.engines.direct import Direct
from stratos.deploy.engines.direct_server import application
from stratos.deploy.engines.http_api import StreamParts, streamed
from stratos.deploy.engines.llamacpp import LlamaCpp
from stratos.deploy.engines.sampling import Sampler
from stratos.deploy.engines.slot_writer import Answer, SlotWriter
from stratos.deploy.exports import write_exports
from stratos.deploy.hosted_server import Hosted
from stratos.deploy.hosting import again, prepare, setting_here
from stratos.deploy.server import HOST, Server, answers, free_port
from stratos.deploy.stage import _engine_and_exports
from stratos.models.decode import decoder
from stratos.models.decode.batched import complete
from stratos.models.decode.decoder import SlotDecoder, slot_decoder
from stratos.models.pretrained import load_model, load_tokenizer
from stratos.records import Exports, ServingSetting, save
from tests.report.factory import make_records

pytestmark = pytest.mark.skipif(Direct().unusable() is not None, reason=str(Direct().unusable()))
MORE = [[{"role": "user", "content": f"{text} {n}"}] for n in range(8) for text in ("late", "a b")]
LONG = CHATS[2]
"""Whose answer would fill the context."""
SCHEMA = {"type": "object", "properties": {"n": {"enum": ["a", "b"]}}, "required": ["n"],
          "additionalProperties": False}  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle"), forms=())


@pytest.fixture(scope="module")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    run = ServingSetting("direct", slots=8)
    with served(bundle, run, Direct.module, tmp_path_factory.mktemp("log")) as started:
        yield started


def evaluated(bundle: Path, chats: list[Any], **options: Any) -> list[Any]:
    """Return what the evaluation has a model answer."""
    model, tokenizer = load_model(bundle, dtype="auto"), load_tokenizer(bundle)
    return complete(model, tokenizer, chats, max_new_tokens=24, batch_size=4, **options)


def ask(server: Server, chat: Any, **more: Any) -> dict[str, Any]:
    status, answer = post(server, messages=chat, **more)
    assert status == 200, answer
    return answer


def text_of(answer: dict[str, Any]) -> str:
    return answer["choices"][0]["message"]["content"]


@pytest.mark.parametrize("at_once", [1, 8])
def test_answers_and_probabilities_are_those_of_the_evaluation(server, bundle, at_once):
    chats = CHATS + MORE
    with ThreadPoolExecutor(at_once) as pool:
        answers = list(pool.map(lambda chat: ask(server, chat), chats))
        likely = list(pool.map(lambda chat: ask(server, chat, logprobs=True), chats))
    expected = evaluated(bundle, chats, with_logprobs=True)
    assert [text_of(answer) for answer in answers] == [right.text for right in expected]
    for answer, right in zip(likely, expected, strict=True):
        tokens = answer["choices"][0]["logprobs"]["content"]
        assert text_of(answer) == right.text and len(tokens) == right.output_tokens
        assert sum(token["logprob"] for token in tokens) == pytest.approx(right.logprob, abs=1e-3)
        usage = {"prompt_tokens": right.input_tokens, "completion_tokens": right.output_tokens}
        assert answer["usage"] == {**usage, "total_tokens": sum(usage.values())}


def events_of(server: Server, chat: Any, **more: Any) -> list[dict[str, Any]]:
    body = json.dumps({"messages": chat, "stream": True, **more}).encode()
    status, text = call(server, "POST", "/v1/chat/completions", body)
    assert status == 200 and text.endswith(b"data: [DONE]\n\n")
    lines = [line[6:] for line in text.split(b"\n") if line.startswith(b"data: {")]
    return [json.loads(line)["choices"][0] for line in lines]


def test_a_stream_is_the_same_answer_in_fewer_parts_than_tokens(server):
    for chat in CHATS:
        whole = ask(server, chat, max_tokens=200)
        events = events_of(server, chat, max_tokens=200)
        assert "".join(event["delta"].get("content", "") for event in events) == text_of(whole)
        assert events[-1]["finish_reason"] == whole["choices"][0]["finish_reason"]
        assert len(events) < whole["usage"]["completion_tokens"] / 2
        stop = text_of(whole)[5:8]
        cut = text_of(whole)[: text_of(whole).find(stop)]
        assert text_of(ask(server, chat, stop=stop)) == cut
        events = events_of(server, chat, stop=stop)
        assert "".join(event["delta"].get("content", "") for event in events) == cut


def test_the_first_and_the_last_events_of_a_stream_are_sent_together():
    async def parts() -> StreamParts:
        yield "a\u2028b\u2029\x85\r\n\x1c"
        yield "c"
        yield "d", "length", {"total_tokens": 3}

    async def asked() -> list[Any]:
        left, sent = asyncio.Event(), list[Any]()

        async def receive() -> Any:
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await streamed("m", parts())({"type": "http"}, receive, send)
        return sent

    start, *bodies, end = asyncio.run(asked())
    assert start["status"] == 200 and end["body"] == b"" and not end["more_body"]
    split = [body["body"].decode().splitlines()[::2] for body in bodies]
    assert [len(events) for events in split] == [2, 1, 3]
    events = [json.loads(event.removeprefix("data: ")) for part in split for event in part[:2]]
    deltas = [event["choices"][0]["delta"] for event in events]
    texts = ["", "a\u2028b\u2029\x85\r\n\x1c", "c", "d"]
    assert [delta.get("content") for delta in deltas] == [*texts, None]
    assert deltas[0]["role"] == "assistant" and deltas[4] == {}
    assert events[4]["choices"][0]["finish_reason"] == "length"
    assert events[4]["usage"] == {"total_tokens": 3} and split[2][2] == "data: [DONE]"


def test_a_stream_gives_its_tokens_in_an_event_of_their_own_where_asked(server):
    more = {"stream_options": {"include_usage": True}}
    body = json.dumps({"messages": CHATS[0], "stream": True, **more}).encode()
    _, text = call(server, "POST", "/v1/chat/completions", body)
    *_, end, tokens = (json.loads(line[6:]) for line in text.split(b"\n") if b"{" in line)
    assert end["choices"][0]["finish_reason"] and "usage" not in end
    assert tokens["choices"] == [] and tokens["id"] == end["id"]
    assert tokens["usage"] == ask(server, CHATS[0])["usage"]


class Slow(SlotDecoder):
    """A decoder that takes a twentieth of a second for a token, or for a part of a prompt."""

    calls = 0

    def __init__(self, decoder: SlotDecoder) -> None:
        self.vocabulary, self._own = decoder.vocabulary, decoder

    def begin(self, slot: int, source: int, n_tokens: int) -> None:
        self._own.begin(slot, source, n_tokens)

    def extend(self, slot: int, ids: Sequence[int]) -> None:
        self._wait()
        self._own.extend(slot, ids)

    def read(self, texts: Mapping[int, Sequence[int]]) -> Any:
        return self._own.read(texts)

    def write(self, last: Mapping[int, int], most: int, ends: Any) -> list[list[int]]:
        self._wait()
        return self._own.write(last, 1, ends)

    def _wait(self) -> None:
        self.calls += 1
        time.sleep(0.05)


class Failing(Slow):
    """A decoder that fails at the first prompt."""

    def read(self, texts: Mapping[int, Sequence[int]]) -> Any:
        self.calls += 1
        if self.calls == 1:
            raise MemoryError("full")
        return self._own.read(texts)


@contextmanager
def serving_slowly(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, slots: int, kind: type[Slow] = Slow
) -> Iterator[tuple[int, Slow]]:
    """Serve a bundle by a slow decoder; yield the port and the decoder."""
    slow = list[Slow]()

    def made(*args: Any) -> Slow:
        slow.append(kind(decoder.slot_decoder(*args)))
        return slow[0]

    monkeypatch.setattr(direct_server, "slot_decoder", made)
    web = uvicorn.Server(
        uvicorn.Config(application(bundle, slots, 256), port=free_port(), log_level="error")
    )
    thread = threading.Thread(target=web.run, daemon=True)
    thread.start()
    until = time.monotonic() + 60
    while not answers(web.config.port) and time.monotonic() < until:
        time.sleep(0.05)
    yield web.config.port, slow[0]
    web.should_exit = True
    thread.join(10)


def begin(port: int, chat: Any, **more: Any) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    body = json.dumps({"messages": chat, **more})
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    return connection


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_frees_its_place(bundle, monkeypatch, stream):
    with serving_slowly(bundle, monkeypatch, 1) as (port, slow):
        for _ in range(5):
            gone = begin(port, LONG, max_tokens=200, stream=stream)
            until, before = time.monotonic() + 30, slow.calls
            while slow.calls < before + 2 and time.monotonic() < until:
                time.sleep(0.01)
            gone.close()
        assert bundle_server.ask(port, CHATS[1], 2)
        assert slow.calls < 100, "each would have taken 200"


def test_nothing_is_written_for_a_client_that_is_gone_before_its_stream(bundle, monkeypatch):
    begun = list[Answer]()
    monkeypatch.setattr(SlotWriter, "add", lambda writer, answer: begun.append(answer))
    body = json.dumps({"messages": LONG, "stream": True}).encode()
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def asked() -> None:
        read = asyncio.Event()

        async def receive() -> Any:
            if (message := next(messages, None)) is not None:
                return message
            await read.wait()  # it leaves when its request is answered, and no event is sent yet
            return {"type": "http.disconnect"}

        begin = direct_server.streamed

        def streamed_late(*given: Any) -> Any:
            read.set()
            return begin(*given)

        monkeypatch.setattr(direct_server, "streamed", streamed_late)
        scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": [],
                 "query_string": b"", "http_version": "1.1"}  # fmt: skip
        sent = list[Any]()

        async def send(message: Any) -> None:
            sent.append(message)

        await application(bundle, 1, 256)(scope, receive, send)

    asyncio.run(asyncio.wait_for(asked(), 60))
    assert not begun


def test_a_decoder_that_fails_ends_a_stream_too(bundle, monkeypatch):
    with serving_slowly(bundle, monkeypatch, 1, Failing) as (port, _):
        text = begin(port, CHATS[0], stream=True).getresponse().read().decode()
        assert "The student failed" in text
        assert bundle_server.ask(port, CHATS[0], 2)


def test_a_stop_sequence_ends_the_writing(bundle, monkeypatch):
    """Tokens and probabilities are those up to the sequence, whatever was written behind it."""
    with serving_slowly(bundle, monkeypatch, 1) as (port, slow):
        whole = json.loads(begin(port, LONG, max_tokens=24).getresponse().read())
        text, before = text_of(whole), slow.calls
        stop = text[4:9]
        for stream in (False, True):
            asked = begin(port, LONG, max_tokens=200, stop=stop, stream=stream)
            answer = asked.getresponse().read()
            if not stream:
                cut = json.loads(answer)
                assert text_of(cut) == text[: text.find(stop)]
                assert cut["choices"][0]["finish_reason"] == "stop"
                assert cut["usage"]["completion_tokens"] < 24
        likely = begin(port, LONG, max_tokens=200, stop=stop, logprobs=True).getresponse()
        tokens = json.loads(likely.read())["choices"][0]["logprobs"]["content"]
        assert len(tokens) == cut["usage"]["completion_tokens"]
        assert slow.calls < before + 100, "each would have taken 200"


def test_a_token_that_the_model_does_not_have_is_refused(bundle, tmp_path):
    """The tokenizer may have more tokens than the model; compiled code would read beyond them."""
    own = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    tokenizer = load_tokenizer(own)
    tokenizer.add_tokens(["<more>"])
    tokenizer.save_pretrained(own)
    with served(own, ServingSetting("direct", slots=1), Direct.module, tmp_path) as started:
        status, answer = post(started, messages=[{"role": "user", "content": "a <more>"}])
        assert status == 400 and "has no tokens for this chat" in answer["error"]["message"]
        assert post(started, messages=CHATS[0])[0] == 200


def test_the_end_of_a_stream_has_a_part_of_a_character_as_the_whole_has(server):
    for seed in range(12):  # drawn texts end in the middle of characters now and then
        more = {"temperature": 3.0, "seed": seed, "max_tokens": 7}
        events = events_of(server, CHATS[1], **more)
        text = "".join(event["delta"].get("content", "") for event in events)
        assert text == text_of(ask(server, CHATS[1], **more))


def test_a_schema_is_kept_as_in_the_evaluation(server, bundle):
    form = {"type": "json_schema", "json_schema": {"schema": SCHEMA}}
    status, answer = post(server, messages=CHATS[0], response_format=form)
    if status == 400:
        assert "vocabulary of this model cannot write JSON" in answer["error"]["message"]
        pytest.skip("the vocabulary has no JSON")
    [expected] = evaluated(bundle, CHATS[:1], schemas=[SCHEMA])
    assert text_of(answer) == expected.text and set(json.loads(expected.text)) == {"n"}


def test_a_strict_schema_keeps_limits_that_the_evaluation_widens(server):
    limits = {"type": "number", "minimum": 0, "maximum": 1}
    form = {"type": "json_schema", "json_schema": {"schema": limits, "strict": True}}
    for chat in CHATS:
        status, answer = post(server, messages=chat, response_format=form, max_tokens=60)
        assert status == 200, answer
        assert 0 <= float(text_of(answer)) <= 1


def test_what_it_does_not_have_is_refused(server):
    for wrong in ({"n": 2}, {"top_logprobs": 3}, {"logit_bias": {"1": 2}}, {"temperature": -1}):
        assert post(server, messages=CHATS[0], **wrong)[0] == 400
    long = [{"role": "user", "content": "1m" * 500}]
    status, answer = post(server, messages=long)
    assert status == 400 and "exceeds the context" in answer["error"]["message"]


def test_a_seed_draws_the_same_and_others_do_not(server):
    def drawn(seed: int) -> str:
        return text_of(ask(server, CHATS[0], temperature=1.5, seed=seed))

    assert drawn(1) == drawn(1)
    assert len({drawn(seed) for seed in range(6)}) > 3


def test_sampling_options_choose_as_they_say():
    logits_V = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))

    def shares(**options: float) -> list[float]:
        counts = np.zeros(4)
        sampler = Sampler({"seed": 0, "temperature": 1.0, **options})
        for _ in range(1500):
            counts[sampler.choose(logits_V)] += 1
        return list(counts / 1500)

    assert shares() == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.05)
    assert shares(top_k=2) == pytest.approx([0.625, 0.375, 0, 0], abs=0.05)
    assert shares(top_p=0.8) == pytest.approx([0.625, 0.375, 0, 0], abs=0.05)
    assert shares(top_p=0.81)[2] > 0.1
    assert shares(min_p=0.29) == pytest.approx([0.526, 0.316, 0.158, 0], abs=0.05)
    cold = shares(temperature=0.5)
    assert cold == pytest.approx([0.685, 0.247, 0.062, 0.007], abs=0.05)
    greedy = Sampler({"presence_penalty": 2.0})
    assert [greedy.choose(logits_V) for _ in range(3)] == [0, 1, 2]


def test_what_a_slot_has_read_is_not_read_again(bundle):
    """An instruction is computed once, also where another answer is being written there."""
    slots = slot_decoder(load_model(bundle, dtype="auto"), 2, 256)
    read, own_read = list[int](), slots.read

    def counted(texts: Mapping[int, Sequence[int]]) -> Any:
        read.extend(map(len, texts.values()))
        return own_read(texts)

    slots.read = counted  # type: ignore[method-assign]

    async def written() -> list[list[int]]:
        writer = SlotWriter(slots, 2, frozenset([0]))
        prompts = [[*range(5, 45), last] for last in (60, 61, 62)]
        several = [Answer(prompt, 30, Sampler({})) for prompt in prompts]
        for answer in several:
            writer.add(answer)
            await answer.begun
        await asyncio.gather(*(answer.over for answer in several))
        fresh = SlotWriter(
            slot_decoder(load_model(bundle, dtype="auto"), 2, 256), 2, frozenset([0])
        )
        for answer, prompt in zip(several, prompts, strict=True):
            fresh.add(alone := Answer(prompt, 30, Sampler({})))
            await alone.over
            assert alone.ids == answer.ids
        return [answer.ids for answer in several]

    assert len({*map(tuple, asyncio.run(written()))}) > 1
    assert read == [41, 1, 1]


def test_other_work_on_the_machine_makes_no_call_of_the_decoder_shorter(bundle, monkeypatch):
    """Tokens that are written at one go are counted by CPU seconds: each call wakes a thread."""
    slots = slot_decoder(load_model(bundle, dtype="auto"), 1, 256)
    calls, own_write = list[int](), slots.write

    def waiting(last: Mapping[int, int], most: int, ends: Any) -> list[list[int]]:
        calls.append(most)
        time.sleep(0.02)  # as where another process has the core
        return own_write(last, most, ends)

    monkeypatch.setattr(slots, "write", waiting)

    async def written() -> None:
        answer = Answer([5, 6, 7], 200, Sampler({}))
        SlotWriter(slots, 1, frozenset()).add(answer)
        await answer.over

    asyncio.run(written())
    assert len(calls) < 40


def test_a_long_prompt_keeps_nobody_waiting_and_what_begins_alike_is_read_once(bundle):
    """It is read in parts, between the tokens of others; what begins alike waits for it."""
    slots = slot_decoder(load_model(bundle, dtype="auto"), 4, 256)
    read, all_asked, own_read, own_extend = list[int](), threading.Event(), slots.read, slots.extend

    def extended(slot: int, ids: Sequence[int]) -> None:
        assert all_asked.wait(60)
        read.append(len(ids))
        own_extend(slot, ids)

    def counted(texts: Mapping[int, Sequence[int]]) -> Any:
        read.extend(map(len, texts.values()))
        slots.extend = own_extend  # type: ignore[method-assign]
        logits_BV = own_read(texts)
        slots.extend = extended  # type: ignore[method-assign]
        return logits_BV

    slots.read, slots.extend = counted, extended  # type: ignore[method-assign]
    long, short = [n % 300 + 5 for n in range(200)], [7, 8, 9]

    async def written() -> list[list[int]]:
        writer = SlotWriter(slots, 4, frozenset([0]))
        several = [Answer(prompt, 8, Sampler({})) for prompt in (long, short, [*long, 7], long)]
        for answer in several:
            writer.add(answer)
        all_asked.set()
        await asyncio.gather(*(answer.over for answer in several))
        return [answer.ids for answer in several]

    texts = asyncio.run(written())
    assert sum(read) < 2 * len(long) and read.index(len(short)) < len(read) - 3
    fresh = slot_decoder(load_model(bundle, dtype="auto"), 1, 256)
    for prompt, ids in zip((long, short, [*long, 7], long), texts, strict=True):
        fresh.begin(0, 0, 0)
        own = [int(fresh.read({0: prompt})[0].argmax())]
        while len(own) < len(ids):
            own.append(int(fresh.read({0: own[-1:]})[0].argmax()))
        assert own == ids


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory as Linux has it")
def test_a_slot_takes_the_memory_of_what_is_written_and_not_of_its_context(bundle):
    slots = slot_decoder(load_model(bundle, dtype="auto"), 8, 2**16)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    before = resident()
    slots.read({slot: [5, 6, 7] for slot in range(8)})
    assert resident() - before < 2**25, "contexts have 256 MiB"


def test_a_bundle_that_it_does_not_decode_is_left_to_others(bundle, tmp_path):
    assert Direct().cannot_export(bundle, "") is None
    other = Path(shutil.copytree(bundle, tmp_path / "other"))
    facts = json.loads((other / "config.json").read_text())
    for change in ({"model_type": "qwen2"}, {"dtype": "bfloat16"}, {"hidden_act": "gelu"},
                   {"rope_parameters": {"rope_type": "yarn"}}):  # fmt: skip
        (other / "config.json").write_text(json.dumps({**facts, **change}))
        assert Direct().cannot_export(other, "") is not None
    facts["hidden_act"] = "gelu"
    (other / "config.json").write_text(json.dumps(facts))
    with pytest.raises(StratosError, match="cannot be decoded directly"):
        application(other, 1, 256)


def test_a_bundle_is_loaded_once_to_be_tried_until_its_weights_are_written_again(bundle, tmp_path):
    other = Path(shutil.copytree(bundle, tmp_path / "other"))

    def n_loaded() -> int:
        assert Direct().cannot_export(other, "") is None
        return direct._why_not_decoded.cache_info().misses

    first = n_loaded()
    assert n_loaded() == first
    (weights,) = other.glob("*.safetensors")
    os.utime(weights, ns=(0, 0))
    assert n_loaded() == first + 1


def other_compiler(folder: Path, kind: str) -> str:
    """Return a PATH without a compiler, or with one that fails."""
    (path := folder / kind).mkdir()
    if kind == "failing":
        (path / "cc").write_text("#!/bin/sh\nexit 1\n")
        (path / "cc").chmod(0o755)
    return str(path)


def with_run(bundle: Path, folder: Path, engine: str, served: str = "") -> Path:
    """Return a bundle as of a run that had it served by an engine, with exports for llama.cpp."""
    own = Path(shutil.copytree(bundle, folder / "bundle"))
    measured = replace(make_records(folder)["deploy"], run=ServingSetting(engine, slots=4))
    save(folder / "deploy.json", "deploy", "mark", measured)
    if served:
        write_exports(own, Exports("llamacpp", "xllamacpp 0", "", (), served=served))
    return own


@pytest.fixture
def compiled_anew() -> Iterator[None]:
    cpu_decoder.load.cache_clear()
    yield
    cpu_decoder.load.cache_clear()


DIRECT = ServingSetting("direct", slots=4)
GGUF = ServingSetting("llamacpp", slots=4, format="q8_0")
BATCHES = ServingSetting("transformers-batching", slots=4)


@pytest.mark.parametrize("compiler", ["missing", "failing"])
@pytest.mark.parametrize(("served", "instead"), [("q8_0", GGUF), ("", BATCHES)])
def test_the_next_engine_hosts_it_where_the_compiler_fails(
    bundle, tmp_path, monkeypatch, compiled_anew, compiler, served, instead
):
    own = with_run(bundle, tmp_path, "direct", served)
    assert setting_here(own) == (DIRECT, "")
    cpu_decoder.load.cache_clear()
    monkeypatch.setenv("PATH", other_compiler(tmp_path, compiler))
    setting, why = setting_here(own)
    if served and LlamaCpp().unusable() is not None:
        pytest.skip("llama.cpp is not installed")
    assert setting == instead
    assert why.startswith(f"{instead.engine} serves it for now. Stratos' own decoder")
    assert "install gcc or clang" in why and "\n" not in why


@pytest.mark.parametrize("compiler", ["missing", "failing"])
def test_what_ran_before_a_reboot_starts_where_its_compiler_is_gone(
    bundle, tmp_path, monkeypatch, compiled_anew, compiler
):
    own = with_run(bundle, tmp_path, "direct")
    state, before = prepare(own, tmp_path, run=DIRECT)
    assert again(state, before)[1] == ""
    cpu_decoder.load.cache_clear()
    monkeypatch.setenv("PATH", other_compiler(tmp_path, compiler))
    hosted, why = again(state, before)
    assert hosted.setting == BATCHES and hosted.module == engine_of(BATCHES).module
    assert (hosted.port, hosted.name) == (before.port, before.name)
    assert "install gcc or clang" in why and Hosted.read(state) == hosted


def test_it_is_not_started_by_name_where_the_compiler_fails(
    bundle, tmp_path, monkeypatch, compiled_anew
):
    """What it would take the place of is not stopped, and nothing is written down."""
    cpu_decoder.load.cache_clear()
    monkeypatch.setenv("PATH", other_compiler(tmp_path, "failing"))
    with pytest.raises(StratosError, match="install gcc or clang"):
        prepare(bundle, tmp_path / "cache", run=DIRECT)
    assert not (tmp_path / "cache").exists()


def test_a_bundle_without_a_run_is_hosted_by_it_unless_it_has_exports(bundle, tmp_path):
    bare = Path(shutil.copytree(bundle, tmp_path / "bare"))
    assert setting_here(bare) == (ServingSetting("direct", slots=8), "")
    assert setting_here(bare, 3) == (ServingSetting("direct", slots=3), "")
    assert setting_here(with_run(bundle, tmp_path, "transformers"))[0] == BATCHES
    facts = json.loads((bare / "config.json").read_text())
    quantized = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    for changes in ({"quantization_config": quantized}, {"model_type": "qwen2"}):
        (bare / "config.json").write_text(json.dumps({**facts, **changes}))
        assert setting_here(bare) == (None, "")
    write_exports(bare, Exports("llamacpp", "xllamacpp 0", "", (), served="q8_0"))
    if LlamaCpp().unusable() is None:
        assert setting_here(bare, 4) == (GGUF, "")


def test_a_run_whose_engine_is_not_installed_is_hosted_by_it(bundle, tmp_path, monkeypatch):
    own = with_run(bundle, tmp_path, "llamacpp", "q8_0")
    monkeypatch.setattr(LlamaCpp, "needs", ("no_such_module",))
    setting, why = setting_here(own)
    assert setting == DIRECT
    assert why.startswith("direct serves it for now. llama.cpp is not installed here. Type: pip")


def test_the_planned_engine_serves_what_it_decodes_and_transformers_the_rest(
    bundle, tmp_path, monkeypatch
):
    plan = make_records(tmp_path)["plan"]
    serve = replace(plan.role("serve"), run=ServingSetting("direct", slots=4))
    others = (role for role in plan.roles if role.role != "serve")
    plan = replace(plan, roles=(*others, serve))
    config: Any = SimpleNamespace(
        deploy=DeployConfig(engines={"direct": Direct()}), limits=LimitsConfig()
    )
    warnings = list[str]()
    context: Any = SimpleNamespace(warn=warnings.append)

    def setting(of: Path) -> ServingSetting:
        return _engine_and_exports(config, plan, of, [], context)[0]

    assert setting(bundle) == ServingSetting("direct", slots=4) and not warnings
    other = Path(shutil.copytree(bundle, tmp_path / "other"))
    facts = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**facts, "model_type": "qwen2"}))
    assert setting(other) == ServingSetting("transformers")
    assert warnings == [
        "transformers serves the student: Stratos' own decoder does not serve this student: its "
        "model_type is qwen2, and not llama."
    ]
    monkeypatch.setattr(direct, "c_compiler", lambda: None)
    assert setting(bundle).engine.startswith("transformers")


def test_a_compiler_that_fails_leaves_the_student_to_transformers(bundle, tmp_path, monkeypatch):
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\n[ $1 = --version ]\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    cpu_decoder.load.cache_clear()
    try:
        assert Direct().unusable() is None
        assert "step.c was not compiled" in str(Direct().cannot_export(bundle, ""))
    finally:
        cpu_decoder.load.cache_clear()
