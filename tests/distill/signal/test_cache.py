"""The signal cache: equal to the teacher, written once, and never half."""

import json
import os
import signal as signals
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from signal_tools import (
    alone,
    batch_of,
    context,
    count_forwards,
    documents,
    strategy,
    teacher,
    tokenizer,
)

from stratos.core.errors import ConfigError, StratosError
from stratos.distill.head import head_loss
from stratos.distill.objectives import LMHead, Objective, Sampled, TopK
from stratos.distill.signal import cache
from stratos.distill.signal.cross_tokenizer import TokenizerMismatch
from stratos.distill.signal.source import open_source
from stratos.distill.words import ShardCorrupt

IDS = [5, 0, 17, 3]
TOP_K = strategy(cache="topk", top_k=8, cache_dtype="float32")


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several shards, of a few documents each."""
    monkeypatch.setattr(cache, "SHARD_BYTES", 6000)


def shards(folder: Path) -> list[Path]:
    return sorted((folder / "cache" / "signals").glob("*/shard-*.safetensors"))


def same(a: Any, b: Any) -> bool:
    assert a.n_ids == b.n_ids
    return all(torch.equal(x, vars(b)[name]) for name, x in vars(a).items() if name != "n_ids")


@pytest.mark.usefixtures("small_shards")
def test_cached_top_k_is_the_teachers_in_the_order_of_the_batch(tmp_path):
    expert, data = teacher(tmp_path / "teacher"), documents()
    network, words = expert.load()
    expected = alone(network, data, IDS, len(words))
    source = open_source(expert, TOP_K, words, data, context(tmp_path))
    assert source.kind == "topk" and len(shards(tmp_path)) > 3
    batch = batch_of(data, IDS)
    given = source.signal(batch)
    assert isinstance(given, TopK) and given.tail_M is not None
    wanted = TopK.of(expected, 8, batch.targets_M)
    assert torch.equal(given.ids_MK, wanted.ids_MK)
    there = given.ids_MK >= 0
    torch.testing.assert_close(
        given.logprobs_MK[there], wanted.logprobs_MK[there], atol=1e-5, rtol=1e-5
    )
    total = given.logprobs_MK.exp().masked_fill(~there, 0).sum(1) + given.tail_M.exp()
    torch.testing.assert_close(total, torch.ones_like(total), atol=1e-5, rtol=0)


@pytest.mark.parametrize("n_unused", [0, 30])
def test_half_precision_and_all_tokens_give_the_loss_of_the_whole_distribution(tmp_path, n_unused):
    """Also where the student's embedding is padded with ids that no token uses."""
    expert, data = teacher(tmp_path / "teacher"), documents()
    words, batch = expert.tokenizer(), batch_of(documents(), IDS)
    torch.manual_seed(1)
    hidden = torch.randn(batch.tokens_1N.shape[1], 16)
    head = LMHead(torch.randn(len(words) + n_unused, 16))
    losses = []
    for said in (strategy(), strategy(cache="topk", top_k=len(words))):
        source = open_source(expert, said, words, data, context(tmp_path))
        loss = head_loss(
            hidden, head, source.signal(batch), Objective(), 100, batch.rows_M, batch.targets_M
        )
        losses.append(loss.total.item())
        source.close()
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_drawn_tokens_are_the_teachers_distribution_in_the_mean(tmp_path):
    expert, data = teacher(tmp_path / "teacher"), documents(6)
    network, words = expert.load()
    expected = alone(network, data, [2], len(words)).exp()
    said = strategy(cache="sampled", top_k=4000, cache_dtype="float32")
    given = open_source(expert, said, words, data, context(tmp_path)).signal(batch_of(data, [2]))
    assert isinstance(given, Sampled)
    mean = torch.zeros_like(expected).scatter_add_(1, given.ids_MS, given.weights_MS)
    assert (mean - expected).abs().max() < 0.05  # about 6 standard deviations
    assert given.logprobs_MS is not None
    picked = expected.log().gather(1, given.ids_MS)
    torch.testing.assert_close(given.logprobs_MS, picked, atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("small_shards")
def test_later_epochs_students_and_sweeps_never_run_the_teacher(tmp_path):
    expert, data = teacher(tmp_path / "teacher"), documents()
    calls = count_forwards(expert.load()[0])
    words = expert.tokenizer()
    first = open_source(expert, TOP_K, words, data, context(tmp_path))
    n_made = len(calls)
    assert n_made > 0
    read = [first.signal(batch_of(data, ids)) for ids in (IDS, [1, 2], IDS)]  # epochs
    expert.close()
    n_open = len(os.listdir("/proc/self/fd"))
    again = open_source(expert, TOP_K, words, data, context(tmp_path))  # a sweep, another student
    assert len(os.listdir("/proc/self/fd")) == n_open, "shards can be more than open files may be"
    assert same(again.signal(batch_of(data, IDS)), read[0]) and same(read[2], read[0])
    assert len(calls) == n_made and "_loaded" not in vars(expert), "no weight was loaded again"
    other = documents(seed=9)
    open_source(expert, TOP_K, words, other, context(tmp_path))
    assert "_loaded" not in vars(expert), "closed behind the filling"
    assert len({path.parent for path in shards(tmp_path)}) == 2, "other data have another address"


@pytest.mark.usefixtures("small_shards")
def test_a_corrupt_or_cut_shard_is_computed_again_and_said(tmp_path):
    expert, data = teacher(tmp_path / "teacher"), documents()
    words, told = expert.tokenizer(), []
    before = open_source(expert, TOP_K, words, data, context(tmp_path)).signal(batch_of(data, IDS))
    first, second, third, fourth = shards(tmp_path)[:4]
    kept = fourth.stat().st_mtime_ns
    content = bytearray(first.read_bytes())
    content[-5] ^= 1
    first.write_bytes(content)
    second.write_bytes(second.read_bytes()[:700])
    third.write_bytes(b"")
    source = open_source(expert, TOP_K, words, data, context(tmp_path, told))
    assert same(source.signal(batch_of(data, IDS)), before)
    folder = first.parent
    causes = ["its content does not match its digest", "its ids are cut"]
    for shard, (text, cause) in enumerate(zip(told, causes, strict=False)):
        assert text.startswith(str(ShardCorrupt(shard, str(folder), cause)))
    assert len(told) == 3 and "Shard 2" in told[2]
    assert fourth.stat().st_mtime_ns == kept, "whole shards are left alone"


WRITER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from signal_tools import context, documents, strategy, tokenizer
from stratos.distill.signal import cache
from stratos.distill.signal.source import open_source
from stratos.teachers.huggingface import HuggingFaceTeacher
cache.SHARD_BYTES = 6000
folder = Path(sys.argv[2])
publish = cache.Store.publish
def slow(self, name, staged):
    time.sleep(0.3)  # the whole file lies beside its place
    path = publish(self, name, staged)
    print(name, flush=True)
    return path
cache.Store.publish = slow
expert = HuggingFaceTeacher("tiny", path=str(folder / "teacher"), dtype="float32", device="cpu")
said = strategy(cache="topk", top_k=8, cache_dtype="float32")
data, words = documents(), tokenizer()
print("ready", flush=True)
sys.stdin.readline()
open_source(expert, said, words, data, context(folder))
"""


def writer(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(Path(__file__).parent), str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, **pipes)  # type: ignore[call-overload,no-any-return]


@pytest.mark.slow
@pytest.mark.kill
@pytest.mark.usefixtures("small_shards")
def test_two_processes_share_the_work_and_a_killed_one_loses_one_shard(tmp_path):
    expert = teacher(tmp_path / "teacher")
    killed, other = both = [writer(tmp_path) for _ in range(2)]
    for process in both:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("go\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
    written = []
    while not written or not written[-1].startswith("shard"):
        written.append(killed.stdout.readline())  # type: ignore[union-attr]
    time.sleep(0.15)
    killed.send_signal(signals.SIGKILL)
    left_behind = killed.communicate()[0].split()
    theirs = {name.strip() for name in [*written, *left_behind] if name.startswith("shard")}
    ours = {name for name in other.communicate()[0].split() if name.startswith("shard")}
    assert other.returncode == 0 and killed.returncode == -signals.SIGKILL
    names = {path.name for path in shards(tmp_path)}
    assert theirs and ours and not theirs & ours, "each works on shards of its own"
    assert names == theirs | ours, "what the killed one had in hand was made by the other"
    assert not list((tmp_path / "cache").rglob("shard*.tmp")), "and its half file is gone"

    data, told = documents(), []
    calls = count_forwards(expert.load()[0])
    source = open_source(expert, TOP_K, tokenizer(), data, context(tmp_path, told))
    assert not told and not calls
    expected = open_source(expert, TOP_K, tokenizer(), data, context(tmp_path / "fresh"))
    assert same(source.signal(batch_of(data, IDS)), expected.signal(batch_of(data, IDS)))


def test_size_is_predicted_exactly_and_limited(tmp_path):
    expert, data, ticks = teacher(tmp_path / "teacher"), documents(), []
    words = expert.tokenizer()
    n_places = int((data.lengths - data.prompt_lengths).sum())
    said = strategy(cache="topk", top_k=8)
    with pytest.raises(ConfigError) as error:
        small = strategy(cache="topk", top_k=8, cache_gib=n_places * 30 / 2**30)
        open_source(expert, small, words, data, context(tmp_path))
    assert "more than strategy.cache_gib=" in str(error.value)
    assert "strategy.top_k=6, or strategy.cache=none" in str(error.value)
    assert not shards(tmp_path) and "_loaded" not in vars(expert)

    open_source(expert, said, words, data, context(tmp_path, ticks=ticks))
    # 9 slots of a 2-byte id and a 2-byte number, and the tail.
    told = ticks[0][2]
    assert told.startswith(f"the teacher's signal: {n_places:,} tokens x 38 bytes = ")
    assert ticks[-1][0] == ticks[-1][1] == n_places
    size = sum(path.stat().st_size for path in shards(tmp_path))
    assert 0 <= size - 38 * n_places < 500


def test_a_cache_made_elsewhere_is_read_without_a_teacher(tmp_path):
    expert, data = teacher(tmp_path / "teacher"), documents()
    made = open_source(expert, TOP_K, tokenizer(), data, context(tmp_path))
    folder = shards(tmp_path)[0].parent
    said = strategy(cache_path=str(folder))
    source = open_source(None, said, tokenizer(), data, context(tmp_path / "other"))
    assert same(source.signal(batch_of(data, IDS)), made.signal(batch_of(data, IDS)))

    with pytest.raises(TokenizerMismatch) as mismatch:
        open_source(None, said, tokenizer(280), documents(size=280), context(tmp_path))
    assert f"The signal cache {folder} is for another tokenizer." in str(mismatch.value)
    for size in (300, 280):
        assert f"({len(tokenizer(size)):,} ids, " in str(mismatch.value)

    with pytest.raises(StratosError, match="is for other documents"):
        open_source(None, said, tokenizer(), documents(seed=5), context(tmp_path))
    hot = strategy(cache_path=str(folder), temperature=2.0)
    with pytest.raises(ConfigError, match=r"strategy\.temperature=1, or"):
        open_source(None, hot, tokenizer(), data, context(tmp_path))
    shards(tmp_path)[0].unlink()
    with pytest.raises(StratosError, match=r"lacks 1 of 1 shard\."):
        open_source(None, said, tokenizer(), data, context(tmp_path))
    about = folder / "about.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "version": 99}))
    with pytest.raises(StratosError, match="is not a signal cache"):
        open_source(None, said, tokenizer(), data, context(tmp_path))


@pytest.mark.usefixtures("small_shards")
def test_a_cache_may_lie_behind_a_url(tmp_path):
    import fsspec

    expert, data = teacher(tmp_path / "teacher"), documents()
    said = strategy(cache="topk", top_k=8, cache_dtype="float32", cache_url="memory://signals")
    made = open_source(expert, said, tokenizer(), data, context(tmp_path))
    calls = count_forwards(expert.load()[0])
    there = fsspec.filesystem("memory").find("/signals")
    assert len(there) == len(made.cache) + 1 and not [p for p in there if p.endswith(".tmp")]  # type: ignore[attr-defined]
    # Another machine fetches what it does not have, and what its own copy has lost.
    for folder in (tmp_path / "second", tmp_path / "second"):
        source = open_source(expert, said, tokenizer(), data, context(folder))
        assert same(source.signal(batch_of(data, IDS)), made.signal(batch_of(data, IDS)))
        copy = sorted((folder / "cache").rglob("shard-00001.safetensors"))[0]
        copy.write_bytes(copy.read_bytes()[:100])
    assert not calls


def test_a_place_out_of_reach_is_named_before_any_work(tmp_path):
    expert = teacher(tmp_path / "teacher")
    (tmp_path / "file").touch()
    for url, words in (
        ("nosuch://bucket/x", "Protocol not known: nosuch"),
        (str(tmp_path / "file" / "x"), "Not a directory"),
    ):
        said = strategy(cache="topk", cache_url=url)
        with pytest.raises(ConfigError) as error:
            open_source(expert, said, tokenizer(), documents(), context(tmp_path))
        assert words in str(error.value) and f"The signal cache {url}" in str(error.value)
        assert "_loaded" not in vars(expert)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (strategy(cache="topk", objective="universal_logit"), "another tokenizer needs the whole"),
        (strategy(cache="sampled", objective="reverse_kl"), "estimate the forward KL"),
        (strategy(cache="topk", hidden_match=0.1), "not its hidden states"),
        (strategy(cache="disk"), "topk, sampled or none"),
    ],
)
def test_choices_that_exclude_each_other_are_refused(tmp_path, said, words):
    with pytest.raises(ConfigError, match=words):
        open_source(None, said, tokenizer(), documents(), context(tmp_path))


def test_places_of_documents_of_any_size_come_back_in_any_order(tmp_path):
    """A shard boundary, an empty completion, one document a shard: gather against brute force."""
    from stratos.distill.data import Encoded
    from stratos.distill.signal.cache import Store
    from stratos.distill.signal.cross_tokenizer import fingerprint

    rng = np.random.default_rng(0)
    for trial in range(60):
        n = int(rng.integers(1, 30))
        prompts, completions = rng.integers(1, 5, n), rng.integers(0, 6, n)
        starts = np.concatenate([[0], np.cumsum(prompts + completions)])
        data = Encoded(np.zeros(starts[-1], np.int32), starts, prompts, np.arange(n))
        about = cache.About("t", fingerprint(tokenizer()), "d", "topk", 2, "float32", 1.0)
        cache.SHARD_BYTES, before = (
            int(rng.integers(1, 12)) * about.bytes_per_token,
            (cache.SHARD_BYTES),
        )
        try:
            made = cache.SignalCache(Store(str(tmp_path / str(trial)), tmp_path), about, data)
        finally:
            cache.SHARD_BYTES = before
        whole = {
            name: rng.integers(0, 200, (made.n_places, width)).astype(dtype)
            for name, (dtype, width) in about.columns.items()
        }
        for shard in range(len(made)):
            first, last = made.place_starts[made.bounds[shard : shard + 2]]
            made.write(shard, {name: array[first:last] for name, array in whole.items()})
        chosen = rng.permutation(n)[: int(rng.integers(1, n + 1))]
        places = np.concatenate(
            [np.arange(made.place_starts[d], made.place_starts[d + 1]) for d in chosen]
        )
        got = made.gather(chosen)
        assert all(np.array_equal(got[name], whole[name][places]) for name in whole)
