"""Compiled decode steps: built where a compiler is, the same bits beside any other rows."""

import platform
import shutil
import time

import numpy as np
import pytest
import torch
from tiny_student import tiny_model, tiny_tokenizer

from stratos.contrib.cpu import cpu_decoder as kernel
from stratos.contrib.cpu.cpu_decoder import Compiled, Rows
from stratos.contrib.cpu.slots import Slots
from stratos.models.decode.batched import write
from stratos.models.decode.decoder import Decoder, Decoding, Drawn
from stratos.models.decode.kv_cache import cache_argument, roomy_cache

SHAPES = [
    {},
    {"num_key_value_heads": 2, "intermediate_size": 50},
    {"head_dim": 6, "hidden_size": 45, "num_attention_heads": 3, "num_key_value_heads": 3},
]
needs_compiler = pytest.mark.skipif(kernel.load() is None, reason="no C compiler")


def wild_model(**changes):
    options = {"initializer_range": 0.4, "max_position_embeddings": 512, **changes}
    return tiny_model(seed=3, **options).eval()


def read(weights, model, prompts):
    """Rows whose prompts transformers has read, and the logits of a token behind them."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(one)) + one for one in prompts])
    mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in prompts])
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache, rows = roomy_cache(model.config), Rows(weights)
    with torch.inference_mode():
        asked = {"attention_mask": mask, "position_ids": positions, cache_argument(model): cache}
        logits = model(input_ids=ids, **asked).logits[:, -1]
    rows.add(cache, mask[:, :-1])
    return rows, logits


@needs_compiler
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_logits_are_those_of_transformers_and_the_same_bits_beside_any_rows(shape):
    model = wild_model(**shape)
    weights = Compiled(kernel.load(), model, 200)
    prompts = [[2 + (5 * row + place) % 11 for place in range(2 + 9 * row)] for row in range(13)]
    rows, expected = read(weights, model, prompts)
    last = [prompt[-1] for prompt in prompts]
    with torch.inference_mode():
        found = rows.step(last)
        assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
        then = rows.step([7] * 13)
    n_threads = torch.get_num_threads()
    for place in (0, 4, 12):
        alone, _ = read(weights, model, prompts)
        alone.keep([place])
        assert torch.equal(alone.step([last[place]])[0], found[place])
        assert torch.equal(alone.step([7])[0], then[place])
    threaded, _ = read(weights, model, prompts)
    torch.set_num_threads(3)
    try:
        assert torch.equal(threaded.step(last), found)
    finally:
        torch.set_num_threads(n_threads)


@needs_compiler
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_prompt_has_the_same_bits_in_whatever_parts_it_is_read(shape):
    model, ids = wild_model(**shape), [2 + 5 * place % 11 for place in range(150)]
    slots = Slots(Compiled(kernel.load(), model, 200), 2, 200)
    whole = slots.read({0: ids})
    for part in (1, 7, 16):
        slots.begin(1, 1, 0)
        for start in range(0, 147, part):
            slots.extend(1, ids[start : min(start + part, 147)])
        assert np.array_equal(slots.read({1: ids[147:]}), whole)
    with torch.inference_mode():
        expected = model(input_ids=torch.tensor([ids])).logits[0, -1]
    assert (torch.from_numpy(whole[0]) - expected).abs().max() <= 1e-4 * expected.abs().max()


@needs_compiler
def test_tokens_of_a_long_prompt_share_what_is_loaded_of_its_beginning():
    """Read alone, each takes more than three times as long."""
    # 33 MB of keys and values, more than caches keep: what a cache has costs no loading.
    heads = {"num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 64}
    model = wild_model(max_position_embeddings=4096, num_hidden_layers=1, **heads)
    slots, ids = Slots(Compiled(kernel.load(), model, 4096), 1, 4096), [7] * 64

    def seconds(part):
        slots.begin(0, 0, 3900)
        start = time.process_time()
        for first in range(0, len(ids), part):
            slots.extend(0, ids[first : first + part])
        return time.process_time() - start

    slots.read({0: [7] * 3999})
    together, alone = ([seconds(part) for _ in range(5)] for part in (64, 1))
    assert min(together) < 0.3 * min(alone)


@needs_compiler
@pytest.mark.parametrize(("march", "vector"), [("x86-64", 4), ("x86-64-v3", 8)])
def test_cpus_with_shorter_vectors_get_the_same_logits(monkeypatch, tmp_path, march, vector):
    if platform.machine() != "x86_64" or (vector == 8 and not torch.cpu._is_avx2_supported()):
        pytest.skip("of another CPU")
    monkeypatch.setenv("STRATOS_CACHE", str(tmp_path))
    flags = [f"-march={march}" if flag == "-march=native" else flag for flag in kernel._FLAGS]
    monkeypatch.setattr(kernel, "_FLAGS", flags)
    library, model = kernel.load.__wrapped__(), wild_model(intermediate_size=50)
    assert library.stratos_vector() == vector
    prompts = [[2, *range(3, 3 + n), 3] for n in range(1, 12)]
    rows, expected = read(Compiled(library, model, 40), model, prompts)
    found = rows.step([prompt[-1] for prompt in prompts])
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


@needs_compiler
def test_rows_that_outgrow_their_room_keep_their_states():
    model = wild_model(eos_token_id=[99])
    asked = [[2, 5, 3], [2, 6, 7, 8, 3]]
    answers = [
        write(model, tiny_tokenizer(), asked, max_new_tokens=230, batch_size=2, decoding=one)
        for one in (Decoding(), Decoding(Decoder.TRANSFORMERS))
    ]
    assert answers[0] == answers[1]
    assert {len(answer) for answer in answers[0]} == {230}


@pytest.mark.parametrize("batch_size", [1, 4, 40])
def test_a_drawn_text_does_not_depend_on_the_texts_beside_it(batch_size):
    model, tokenizer = wild_model(), tiny_tokenizer()
    asked = [[2, 5 + place % 9, 3] for place in range(24)]

    def drawn(decoder, batch_size):
        torch.manual_seed(7)
        decoding, pick = Decoding(decoder), Drawn(len(asked), 30, 4.0)
        return write(
            model, tokenizer, asked, max_new_tokens=30, batch_size=batch_size, pick=pick,
            choose_threads=False, decoding=decoding,
        )  # fmt: skip

    expected = drawn(Decoder.TRANSFORMERS, 24)
    assert drawn(Decoder.AUTO, batch_size) == expected
    assert len({tuple(text) for text in expected}) > 12


def test_tokens_are_drawn_as_often_as_they_are_likely():
    torch.manual_seed(0)
    logits = torch.tensor([[0.0, 1.0, -30.0, 2.0, 0.5]])
    drawn = Drawn(8000, 1, 2.0)(logits.expand(8000, -1), range(8000))
    shares = drawn[:, 0].bincount(minlength=5) / 8000
    assert shares.tolist() == pytest.approx((logits[0] / 2).softmax(-1).tolist(), abs=0.02)


def test_without_a_compiler_transformers_decodes(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert kernel.load.__wrapped__() is None
    monkeypatch.setattr(kernel, "load", lambda: None)
    decoding = Decoding()
    asked = [[2, 5, 3], [2, 6, 3]]
    write(wild_model(), tiny_tokenizer(), asked, max_new_tokens=9, batch_size=2, decoding=decoding)
    assert decoding.used == "transformers"


@pytest.mark.slow
@needs_compiler
def test_a_compiler_that_fails_or_a_folder_of_others_is_no_error(monkeypatch, tmp_path):
    monkeypatch.setenv("STRATOS_CACHE", str(tmp_path / "cache"))
    assert kernel.load.__wrapped__() is not None
    (made,) = (tmp_path / "cache" / "compiled").glob("*.so")
    written = made.stat().st_mtime_ns
    assert kernel.load.__wrapped__() is not None
    assert made.stat().st_mtime_ns == written, "compiled once"

    made.parent.chmod(0o777)
    assert kernel.load.__wrapped__() is None
    made.parent.chmod(0o700)
    for one in (made, made.with_suffix(kernel._DIGEST)):
        one.unlink()
    broken = tmp_path / "bin" / "cc"
    broken.parent.mkdir()
    shell = shutil.which("sh")
    monkeypatch.setenv("PATH", str(broken.parent))
    writes = 'while [ "$1" != -o ]; do shift; done; echo no library > "$2"'
    for does in ("exit 1", writes):
        broken.write_text(f"#!{shell}\n[ $1 = --version ] && exit\n{does}\n")
        broken.chmod(0o755)
        assert kernel.load.__wrapped__() is None
        assert not list(made.parent.iterdir()), "nothing broken is left"


@needs_compiler
def test_prompts_behind_a_shared_prefix_are_decoded_by_compiled_steps():
    model, decoding = wild_model(), Decoding()
    shared = [2, *range(3, 12)] * 4
    asked = [[*shared, *([5] * n), 3] for n in (1, 9, 4, 30)]
    options = {"max_new_tokens": 20, "batch_size": 4}
    found = write(model, tiny_tokenizer(), asked, share_prefixes=True, decoding=decoding, **options)
    slow = Decoding(Decoder.TRANSFORMERS)
    assert found == write(model, tiny_tokenizer(), asked, decoding=slow, **options)
    assert decoding.used == "direct"


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("length", [0, 4096, 14_004])
def test_a_torn_library_is_compiled_again(monkeypatch, tmp_path, length):
    monkeypatch.setenv("STRATOS_CACHE", str(tmp_path))
    kernel.load.__wrapped__()
    [path] = (tmp_path / "compiled").glob("*.so")
    whole = path.read_bytes()
    torn = path.with_name("torn")  # another file: the loaded one is mapped
    torn.write_bytes(whole[:length])
    torn.replace(path)
    assert kernel.load.__wrapped__() is not None
    assert len(path.read_bytes()) == len(whole)


@needs_compiler
def test_a_library_that_others_can_write_is_not_loaded(monkeypatch, tmp_path):
    monkeypatch.setenv("STRATOS_CACHE", str(tmp_path))
    kernel.load.__wrapped__()
    [path] = (tmp_path / "compiled").glob("*.so")
    path.chmod(0o666)
    assert kernel.load.__wrapped__() is None
