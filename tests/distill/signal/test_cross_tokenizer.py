"""A teacher with another tokenizer is compared where both have read the same text."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from signal_tools import (
    alone,
    batch_of,
    context,
    documents,
    model,
    strategy,
    teacher,
    texts,
    tokenizer,
)
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from tokenizers import decoders as token_decoders
from transformers import PreTrainedTokenizerFast

from stratos.config import TrainerConfig
from stratos.distill.data import pack
from stratos.distill.head import head_loss
from stratos.distill.module import StudentModule
from stratos.distill.objectives import Hidden, LMHead, Objective, Shared
from stratos.distill.signal.cross_tokenizer import (
    TokenizerMismatch,
    _decoded_ends,
    _lengths_by_windows,
    check_same,
    decode,
    difference,
    fingerprint,
    token_ends,
)
from stratos.distill.signal.source import open_source
from stratos.distill.words import OtherEnd, OtherSplit, OtherToken

SIZES = {"coarse": 500, "fine": 270}
IDS = [3, 11, 0]


def opened(folder: Path, **said: Any) -> tuple[Any, Any, Any, Any]:
    """Return source, the teacher's model and tokenizer, and documents of the student."""
    expert = teacher(folder / "teacher", size=SIZES["coarse"])
    data = documents(size=SIZES["fine"])
    network, words = expert.load()
    source = open_source(expert, strategy(**said), tokenizer(SIZES["fine"]), data, context(folder))
    return source, network, words, data


def test_each_place_has_what_the_teacher_says_after_the_same_text(tmp_path):
    source, network, theirs, data = opened(tmp_path, objective="universal_logit")
    ours, batch = tokenizer(SIZES["fine"]), batch_of(data, IDS)
    places, signal = source.places(batch), source.signal(batch)
    assert isinstance(signal, Hidden) and signal.rows_M is not None
    given = signal.hidden_NH.flatten(0, -2)[signal.rows_M] @ signal.head.weight_VH.T
    given = given.log_softmax(-1)
    assert len(given) == len(places) and 0 < len(places) < len(batch.rows_M)

    # Brute force: decode what the student has read, and ask the teacher for what comes next.
    checked, place, n_ends = 0, 0, 0
    wanted = set(places.tolist())
    for document in IDS:
        prompt, completion = data.prompt(document), data.text(document)
        completion = completion[data.prompt_lengths[document] :]
        asked = theirs(decode(ours, prompt), add_special_tokens=False)["input_ids"]
        full = decode(ours, completion[:-1])
        cut = theirs(full, add_special_tokens=False)["input_ids"]
        starts = {len(decode(theirs, cut[:n])): n for n in range(len(cut))}
        for n in range(len(completion)):
            read = decode(ours, completion[:n])
            is_end = n == len(completion) - 1
            meets = is_end or (len(read) in starts and "\ufffd" not in read)
            if place in wanted:
                assert meets
                before = cut if is_end else cut[: starts[len(read)]]
                with torch.no_grad():
                    logits = network(torch.tensor([[*asked, *before]])).logits[0, -1, : len(theirs)]
                expected = logits.log_softmax(-1)
                torch.testing.assert_close(given[checked], expected, atol=1e-4, rtol=1e-4)
                checked += 1
                n_ends += is_end
            else:
                assert not meets
            place += 1
    assert checked == len(places) and n_ends == len(IDS)
    source.close()


def test_the_loss_of_these_places_is_finite_and_has_a_gradient(tmp_path):
    for said in ({"objective": "universal_logit"}, {"only_shared": True}):
        source, _, theirs, data = opened(tmp_path, **said)
        batch = batch_of(data, IDS)
        signal, places = source.signal(batch), source.places(batch)
        ours = tokenizer(SIZES["fine"])
        torch.manual_seed(0)
        hidden = torch.randn(1, batch.tokens_1N.shape[1], 16, requires_grad=True)
        head = LMHead(torch.randn(len(ours), 16))
        objective = Objective(said.get("objective", "forward_kl"))  # type: ignore[arg-type]
        loss = head_loss(
            hidden,
            head,
            signal,
            objective,
            len(places),
            batch.rows_M[places],
            batch.targets_M[places],
        )
        loss.total.backward()
        assert loss.total.item() > 0 and hidden.grad is not None and hidden.grad.abs().sum() > 0
        if isinstance(signal, Shared):
            pairs = list(
                zip(signal.student_ids_K.tolist(), signal.teacher_ids_K.tolist(), strict=True)
            )
            assert (ours.eos_token_id, theirs.eos_token_id) in pairs
            assert len(pairs) > 100
            texts_of = [(ours.decode([a]), theirs.decode([b])) for a, b in pairs[:-1]]
            assert all(a == b for a, b in texts_of)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_text_is_learned_where_the_teacher_begins_no_token(tmp_path, share):
    source, _, _, data = opened(tmp_path, only_shared=True)
    ours = tokenizer(SIZES["fine"])
    batch = replace(batch_of(data, IDS), n_tokens=50.0)
    student, places = model(len(ours), seed=3), source.places(batch)
    module = StudentModule(student, TrainerConfig(), 10, source, Objective(cross_entropy=share))
    module.on_fit_start()
    given, own = module.loss(batch), module.loss(replace(batch, written=True))
    module.on_fit_end()

    said_MV = alone(student.eval(), data, IDS, len(ours))
    surprise_M = -said_MV.gather(1, batch.targets_M[:, None])[:, 0]
    met_M = torch.zeros(len(surprise_M), dtype=torch.bool)
    met_M[places] = True
    divergence = own * 50 * len(places) / len(surprise_M)  # nothing else, where it wrote itself
    texts_part = surprise_M[~met_M].sum() + share * surprise_M[met_M].sum()
    expected = ((1 - share) * divergence + texts_part) / 50
    torch.testing.assert_close(given, expected, atol=1e-4, rtol=1e-4)
    given.backward()
    gradient = student.get_input_embeddings().weight.grad
    assert gradient is not None and torch.isfinite(gradient).all() and gradient.abs().sum() > 0
    source.close()


def metaspace() -> PreTrainedTokenizerFast:
    """Return a tokenizer that writes a word's leading space as a part of it, as Llama 2's does."""
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.Sequence([])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = token_decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=["<unk>", "</s>"], unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(texts(200), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", eos_token="</s>")


@pytest.mark.parametrize("make", [lambda: tokenizer(270), lambda: tokenizer(500), metaspace])
def test_ends_of_tokens_are_the_same_from_offsets_and_from_decoding(make):
    words, some = make(), texts(40, seed=4)
    tokens = [np.array(words(text, add_special_tokens=False)["input_ids"]) for text in some]
    read = [decode(words, one) for one in tokens]
    fast = token_ends(words, read, tokens)
    for text, one, ends in zip(read, tokens, fast, strict=True):
        assert ends[-1] == len(text) and len(ends) == len(one)
        for n, end in enumerate(ends, start=1):
            part = decode(words, one[:n])
            assert "\ufffd" in part or part == text[:end]


@pytest.mark.parametrize("make", [lambda: tokenizer(270), lambda: tokenizer(500), metaspace])
def test_ends_by_windows_are_those_of_decoding_all_before(make):
    words, rng = make(), np.random.default_rng(0)
    for n in (0, 1, 33, 200):
        tokens = rng.integers(3, len(words), n)  # cuts within characters, too
        slow = [len(decode(words, tokens[: i + 1])) for i in range(n)]
        assert _lengths_by_windows(words, tokens) == slow
        text = decode(words, tokens)
        wanted = np.minimum.accumulate(np.minimum(np.array(slow, int), len(text))[::-1])[::-1]
        assert _decoded_ends(words, text, tokens).tolist() == wanted.tolist()


def test_text_that_the_tokenizer_would_cut_otherwise_is_still_aligned(tmp_path):
    """A student on its own writes letter by letter where its tokenizer has whole words."""
    source, _, theirs, data = opened(tmp_path, objective="universal_logit")
    ours = tokenizer(SIZES["fine"])
    letters = np.array([ours.convert_tokens_to_ids(c) for c in "river"])
    prompt = data.prompt(0)
    batch = pack([np.concatenate([prompt, letters])], np.array([len(prompt)]), np.array([0]))
    cut = theirs("river", add_special_tokens=False)["input_ids"]
    starts = [len(theirs.decode(cut[:n])) for n in range(len(cut))]
    assert source.places(batch).tolist() == starts, "not ended, so no end is compared"
    source.close()


# Two tokenizers are the same if ids mean the same and texts are cut the same.


def changed(change: Any) -> PreTrainedTokenizerFast:
    """Return the tokenizer with its description changed."""
    told = json.loads(tokenizer().backend_tokenizer.to_str())
    change(told)
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(told)),
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<end>",
        additional_special_tokens=["<user>", "<assistant>"],
    )


def swap(told: Any) -> None:
    vocabulary = told["model"]["vocab"]
    first, second = sorted(vocabulary, key=vocabulary.get)[270:272]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]


def merge_less(told: Any) -> None:
    told["model"]["merges"] = told["model"]["merges"][:-1]


def normalize(told: Any) -> None:
    told["normalizer"] = {"type": "Lowercase"}


@pytest.mark.parametrize(
    ("change", "reason"), [(swap, OtherToken), (merge_less, OtherSplit), (normalize, OtherSplit)]
)
def test_every_change_of_meaning_changes_the_fingerprint(change, reason):
    same, other = changed(lambda told: None), changed(change)
    assert fingerprint(same).digest == fingerprint(tokenizer()).digest
    assert difference(tokenizer(), same) is None
    assert fingerprint(other).digest != fingerprint(tokenizer()).digest
    assert type(difference(tokenizer(), other)) is reason


def test_saving_and_loading_keeps_the_fingerprint(tmp_path):
    from transformers import AutoTokenizer

    tokenizer().save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert fingerprint(loaded).digest == fingerprint(tokenizer()).digest
    assert str(fingerprint(loaded)).startswith(f"{tmp_path} ({len(tokenizer()):,} ids, ")


def test_another_end_of_text_is_another_fingerprint():
    other = changed(lambda told: None)
    other.eos_token = "<pad>"
    assert fingerprint(other).digest != fingerprint(tokenizer()).digest


def test_an_end_that_the_teacher_lacks_is_a_difference():
    grown = copy.deepcopy(tokenizer())
    grown.add_special_tokens({"eos_token": "<stop>"})
    assert difference(grown, tokenizer()) == OtherEnd(grown.eos_token_id)


def test_tokens_added_behind_the_vocabulary_do_not_matter():
    grown = copy.deepcopy(tokenizer())
    grown.add_special_tokens({"additional_special_tokens": ["<tool>"]}, False)
    assert difference(tokenizer(), grown) is None and difference(grown, tokenizer()) is None
    check_same(tokenizer(), grown)


def test_the_error_names_both_and_what_to_use(tmp_path):
    expert = teacher(tmp_path / "teacher", size=280)
    with pytest.raises(TokenizerMismatch) as error:
        open_source(expert, strategy(), tokenizer(), documents(), context(tmp_path))
    text = str(error.value)
    assert f"  student  {fingerprint(tokenizer())}" in text
    assert f"  teacher  {fingerprint(expert.tokenizer())}" in text
    assert str(tmp_path / "teacher") in text
    assert str(difference(tokenizer(), expert.tokenizer())) in text
    assert "strategy.only_shared=true" in text and "strategy=alignment" in text
    assert "_loaded" not in vars(expert), "known before a weight is loaded"
