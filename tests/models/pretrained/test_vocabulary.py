"""A cut vocabulary: the same tokens and the same logits for all that stays, on five families."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from stratos.deploy.engines.base import export_path
from stratos.deploy.engines.gguf_file import cannot_export, export
from stratos.distill.tokenizer import save_student
from stratos.models.pretrained import load_model, load_tokenizer, read_gguf
from stratos.models.pretrained.vocabulary import (
    VocabularyError,
    cut_model,
    cut_tokenizer,
    model_vocabulary,
    task_vocabulary,
)

DOCS = Path(__file__).parents[3] / "docs"
ROWS = [
    "My card has not arrived yet, and I need it by the 14th.",
    "Why was a fee of $3.50 taken from my account?",
    "Bitte überweisen Sie 120 € an Zoë 🙂.",
]
TEMPLATE = (
    "{% for message in messages %}<user>{{ message.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
SPECIAL = ["<pad>", "<bos>", "<end>", "<unk>", "<user>", "<assistant>"]
LLAMA_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def lines() -> list[str]:
    return (DOCS / "planner.md").read_text().splitlines() + ROWS


def by_bytes(pre: list[Any], **options: Any) -> Any:
    """Return a byte-level BPE tokenizer, as those of SmolLM2, Qwen and Llama 3 are."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(**options))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [*pre, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not pre)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines(), trainer)
    return tokenizer


def by_pieces(model: Any, trainer: Any, prefix: bool) -> Any:
    """Return a tokenizer of SentencePiece's kind, with a token for each byte."""
    from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers

    tokenizer = Tokenizer(model)
    steps: list[Any] = [normalizers.Replace(" ", "▁")]
    steps = [normalizers.Prepend("▁"), *steps] if prefix else steps
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    tokenizer.train_from_iterator(lines(), trainer)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        + ([decoders.Strip(" ", 1, 0)] if prefix else [])
    )
    plain = json.loads(tokenizer.to_str())
    model, n, start = plain["model"], 256, len(SPECIAL)
    names = [f"<0x{byte:02X}>" for byte in range(n)]
    if model["type"] == "BPE":
        moved = {token: id_ + n * (id_ >= start) for token, id_ in model["vocab"].items()}
        model["vocab"] = moved | {name: start + byte for byte, name in enumerate(names)}
        # Where all characters have tokens, bytes would never be used.
        model["vocab"].pop("€", None)
        model["merges"] = [pair for pair in model["merges"] if "€" not in "".join(pair)]
    else:
        model["vocab"][start:start] = [[name, 0.0] for name in names]
    model["byte_fallback"] = True
    plain["pre_tokenizer"] = None
    return Tokenizer.from_str(json.dumps(plain))


def with_start(tokenizer: Any) -> Any:
    from tokenizers import processors

    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 1)]
    )
    return tokenizer


def smollm2() -> tuple[Any, dict[str, Any]]:
    from tokenizers import pre_tokenizers

    digits = pre_tokenizers.Digits(individual_digits=True)
    return by_bytes([digits]), {"model_type": "llama", "tie_word_embeddings": True}


def qwen3() -> tuple[Any, dict[str, Any]]:
    from tokenizers import Regex, normalizers, pre_tokenizers

    tokenizer = by_bytes([pre_tokenizers.Split(Regex(LLAMA_SPLIT), "isolated")])
    tokenizer.normalizer = normalizers.NFC()
    # Its table has more rows than it has tokens.
    config = {"model_type": "qwen3", "tie_word_embeddings": True, "vocab_size": 1536}
    return tokenizer, {**config, "head_dim": 16}


def llama3() -> tuple[Any, dict[str, Any]]:
    from tokenizers import Regex, pre_tokenizers

    split = pre_tokenizers.Split(Regex(LLAMA_SPLIT), "isolated")
    tokenizer = with_start(by_bytes([split], ignore_merges=True))
    return tokenizer, {"model_type": "llama", "tie_word_embeddings": False}


def gemma3() -> tuple[Any, dict[str, Any]]:
    from tokenizers import models, trainers

    trainer = trainers.BpeTrainer(vocab_size=1500, special_tokens=SPECIAL, show_progress=False)
    tokenizer = with_start(by_pieces(models.BPE(unk_token="<unk>", fuse_unk=True), trainer, False))
    return tokenizer, {"model_type": "gemma3_text", "tie_word_embeddings": True, "head_dim": 16}


def mistral() -> tuple[Any, dict[str, Any]]:
    from tokenizers import models, trainers

    trainer = trainers.BpeTrainer(vocab_size=1500, special_tokens=SPECIAL, show_progress=False)
    tokenizer = with_start(by_pieces(models.BPE(unk_token="<unk>", fuse_unk=True), trainer, True))
    return tokenizer, {"model_type": "mistral", "tie_word_embeddings": False}


def unigram() -> tuple[Any, dict[str, Any]]:
    from tokenizers import models, trainers

    trainer = trainers.UnigramTrainer(
        vocab_size=1200, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )
    return by_pieces(models.Unigram(), trainer, True), {"model_type": "llama"}


FAMILIES: list[Callable[[], tuple[Any, dict[str, Any]]]] = [
    smollm2,
    qwen3,
    llama3,
    gemma3,
    mistral,
    unigram,
]


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.__name__)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small model of a family."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    raw, changes = request.param()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", bos_token="<bos>", eos_token="<end>"
    )
    tokenizer.chat_template = TEMPLATE
    sizes = {
        "vocab_size": raw.get_vocab_size(),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "bos_token_id": 1,
        "eos_token_id": [2, 5],
        "pad_token_id": 0,
    }
    kind = changes.pop("model_type")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**sizes, **changes}))
    path = tmp_path_factory.mktemp(request.param.__name__)
    save_student(model, tokenizer, path)
    return path


def texts_of(tokenizer: Any) -> list[str]:
    return [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": row}], tokenize=False, add_generation_prompt=True
        )
        for row in ROWS
    ]


@pytest.fixture(scope="module")
def both(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    """Return a model and its tokenizer, and both cut, saved and loaded again, with what stayed."""
    model, tokenizer = load_model(folder, dtype="float32"), load_tokenizer(folder)
    vocabulary = model_vocabulary(model, tokenizer, texts_of(tokenizer))
    cut_model(model, vocabulary)
    path = tmp_path_factory.mktemp("cut")
    save_student(model, cut_tokenizer(tokenizer, vocabulary), path)
    whole = load_model(folder, dtype="float32").eval(), tokenizer
    return whole, (load_model(path, dtype="float32").eval(), load_tokenizer(path)), vocabulary.ids


def test_rows_have_the_same_tokens_and_logits(both: tuple[Any, ...]) -> None:
    import torch

    (whole, tokenizer), (cut, small), ids = both
    assert len(small) == len(ids) == cut.config.vocab_size < 0.5 * len(tokenizer)
    assert cut.get_output_embeddings().weight.shape[0] == len(ids)
    for text in texts_of(small):
        before = tokenizer(text, return_tensors="pt")["input_ids"]
        after = small(text, return_tensors="pt")["input_ids"]
        assert ids[after].tolist() == before.tolist()
        with torch.no_grad():
            expected, logits = whole(before).logits[..., torch.from_numpy(ids)], cut(after).logits
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


def test_special_tokens_are_those_of_before(both: tuple[Any, ...]) -> None:
    (whole, tokenizer), (cut, small), ids = both
    for name in ("pad_token", "bos_token", "eos_token"):
        assert getattr(small, name) == getattr(tokenizer, name)
        assert ids[getattr(small, f"{name}_id")] == getattr(tokenizer, f"{name}_id")
    for config in ("config", "generation_config"):
        before, after = getattr(whole, config), getattr(cut, config)
        assert ids[after.eos_token_id].tolist() == before.eos_token_id
        assert ids[after.bos_token_id] == before.bos_token_id
    padding = whole.get_input_embeddings().padding_idx
    assert (padding is None) == (cut.get_input_embeddings().padding_idx is None)
    assert small.chat_template == tokenizer.chat_template


def test_any_text_is_encoded_as_before_or_to_tokens_that_stay(both: tuple[Any, ...]) -> None:
    (_, tokenizer), (_, small), ids = both
    random, kept = Random(0), set(ids.tolist())
    words = " ".join(lines()).split()
    own = " ".join(ROWS).split()
    n_same = 0
    for _ in range(400):
        drawn = random.choices(random.choice((words, own)), k=random.randrange(1, 8))
        text = random.choice((" ", "", "\n", "  ", " é中🙂€\t")).join(drawn)
        before = tokenizer(text, add_special_tokens=False)["input_ids"]
        after = small(text, add_special_tokens=False)["input_ids"]
        assert small.decode(after) == tokenizer.decode(before)
        if kept.issuperset(before):
            n_same += 1
            assert ids[after].tolist() == before, text
    assert n_same > 40


def test_a_share_keeps_the_most_frequent_tokens_beside(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    source = tokenizer.backend_tokenizer.to_str()
    n = len(tokenizer)
    n_rows = max(tokenizer.get_vocab().values()) + 1
    sizes = [len(task_vocabulary(source, ROWS, n_rows, share=share).ids) for share in (0, 0.3, 1)]
    assert sizes[0] < sizes[1] < sizes[2] == n
    assert sizes[1] >= 0.3 * n


def test_a_space_is_read_back_where_no_row_has_one(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    source = tokenizer.backend_tokenizer.to_str()
    vocabulary = task_vocabulary(source, ["one"], len(tokenizer))
    small = cut_tokenizer(tokenizer, vocabulary)
    for text in ("two words", "你好 world"):
        before, after = (
            own.decode(own(text, add_special_tokens=False)["input_ids"])
            for own in (tokenizer, small)
        )
        assert after == before


def test_llama_cpp_loads_what_is_left(both: tuple[Any, ...], tmp_path: Path) -> None:
    """Its own ids of the chats are compared with those of the tokenizer, before it is asked."""
    pytest.importorskip("xllamacpp")
    _, (cut, small), _ = both
    save_student(cut, small, tmp_path)
    if cannot_export(tmp_path, "f32") is not None:
        pytest.skip("GGUF files are written of other families")
    chats = [[{"role": "user", "content": row}] for row in ROWS]
    export(tmp_path, ("f32",), chats)
    header = read_gguf(export_path(tmp_path, "f32.gguf"))
    assert header.n_params >= cut.num_parameters()


def test_word_pieces_are_cut_too() -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=1500, special_tokens=["[UNK]", "[CLS]"], show_progress=False
    )
    tokenizer.train_from_iterator(lines(), trainer)
    vocabulary = task_vocabulary(tokenizer.to_str(), ROWS, tokenizer.get_vocab_size())
    cut, kept = Tokenizer.from_str(vocabulary.tokenizer), set(vocabulary.ids.tolist())
    assert cut.get_vocab_size() == len(kept) < 0.5 * tokenizer.get_vocab_size()
    texts = [*ROWS, *lines()]
    n_same = 0
    for before, after in zip(
        tokenizer.encode_batch_fast(texts), cut.encode_batch_fast(texts), strict=True
    ):
        if kept.issuperset(before.ids):
            n_same += 1
            assert vocabulary.ids[after.ids].tolist() == before.ids
        assert ("[UNK]" in after.tokens) == ("[UNK]" in before.tokens)
    assert n_same >= len(ROWS)


def test_tokens_stay_whose_characters_have_none_of_their_own() -> None:
    from tokenizers import Tokenizer, models

    tokens = ("[UNK]", "a", "x", "z", "##b", "##y", "##z", "##bc", "xyz", "xyc")
    model = models.WordPiece({token: k for k, token in enumerate(tokens)}, unk_token="[UNK]")
    vocabulary = task_vocabulary(Tokenizer(model).to_str(), ["ab"], len(tokens))
    cut = Tokenizer.from_str(vocabulary.tokenizer)
    assert {*tokens} - cut.get_vocab().keys() == {"xyz"}
    assert [cut.encode(text).tokens for text in ("xyc", "abc", "xyz")] == [
        ["xyc"],
        ["a", "##bc"],
        ["x", "##y", "##z"],
    ]


def test_a_tokenizer_of_whole_words_is_refused() -> None:
    from tokenizers import Tokenizer, models

    source = Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).to_str()
    with pytest.raises(VocabularyError):
        task_vocabulary(source, ["a"], 1)


def test_a_model_with_a_table_of_tokens_for_each_layer_is_refused() -> None:
    """Its rows are fewer than the embedding's, and their numbers are the same tokens'."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "gemma3n_text",
        vocab_size=64,
        vocab_size_per_layer_input=40,
        hidden_size=32,
        hidden_size_per_layer_input=8,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        laurel_rank=4,
        num_kv_shared_layers=0,
        layer_types=["sliding_attention", "full_attention"] * 2,
        activation_sparsity_pattern=[0.0] * 4,
    )
    with pytest.raises(VocabularyError, match="more tables of tokens"):
        model_vocabulary(AutoModelForCausalLM.from_config(config), None, ["a"])
