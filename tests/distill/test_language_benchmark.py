"""How the benchmark of a language model as teacher measures, on numbers that are known."""

import math
from pathlib import Path

import language_metrics as metrics
import language_texts
import numpy as np
import pytest
import torch

from stratos.distill.tokenizer import trained_tokenizer

P = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
Q = torch.tensor([[0.25, 0.5, 0.25], [0.2, 0.2, 0.6]])


def test_divergence_entropy_and_surprise_are_those_of_the_textbook() -> None:
    shifted = P.log() + torch.tensor([[3.0], [-7.0]])  # logits are the same up to a constant
    given = metrics.forward_kl(shifted, Q.log())
    wanted = [0.5 * math.log(2) + 0.25 * math.log(0.5), 0.2 * math.log(0.5) + 0.8 * math.log(4 / 3)]
    torch.testing.assert_close(given, torch.tensor(wanted))
    assert metrics.forward_kl(P.log(), shifted).abs().max() < 1e-6
    torch.testing.assert_close(metrics.entropy(shifted)[0], torch.tensor(1.5 * math.log(2)))
    surprise = metrics.surprise(Q.log(), torch.tensor([1, 0]))
    torch.testing.assert_close(surprise, -torch.tensor([0.5, 0.2]).log())


def test_a_uniform_guess_of_bytes_has_their_number_as_its_perplexity() -> None:
    n_bytes = 7
    assert metrics.perplexity(n_bytes * math.log(256), n_bytes) == pytest.approx(256)


def test_tokens_agree_where_they_are_the_same_text() -> None:
    assert metrics.top1_agreement(P, Q).tolist() == [False, True]
    same = torch.tensor([4, 5, 6]), torch.tensor([6, 4, 5])
    assert metrics.top1_agreement(P, Q, *same).tolist() == [True, False]


def test_outcomes_are_some_tokens_and_all_the_others_together() -> None:
    given = metrics.outcomes(P.log(), torch.tensor([2, 0])).exp()
    torch.testing.assert_close(given, torch.tensor([[0.25, 0.5, 0.25], [0.8, 0.1, 0.1]]))
    every = metrics.outcomes(P.log(), torch.tensor([0, 1, 2]))
    assert torch.isfinite(metrics.forward_kl(every, every)).all() and every[0, -1] <= -100


def test_texts_of_two_vocabularies_are_numbered_alike() -> None:
    small, large = (trained_tokenizer(["light rain, light snow"] * 9, n) for n in (262, 280))
    ours, theirs = metrics.numbered_texts([small, large])
    ids = small.get_vocab(), large.get_vocab()
    shared = [token for token in ids[0] if token in ids[1] and not token.startswith("<")]
    assert len(shared) > 200
    for token in (*shared, "<end>"):
        assert ours[ids[0][token]] == theirs[ids[1][token]]
    assert ours[ids[0]["<pad>"]] != theirs[ids[1]["<pad>"]]
    assert len(set(theirs.tolist())) == len(theirs)


def test_a_note_that_was_cut_has_no_end_to_learn(tmp_path: Path) -> None:
    tokenizer = trained_tokenizer(["light rain, light snow"] * 9, 280)
    notes = [language_texts.Note("a", "light rain", ended) for ended in (True, False, True)]
    data = language_texts.documents(tokenizer, notes)
    whole, cut, last = (data.text(document) for document in range(3))
    assert whole[-1] == tokenizer.eos_token_id
    assert np.array_equal(whole[:-1], cut) and np.array_equal(whole, last)
    assert tokenizer.decode(cut).endswith("light rain")


def test_held_out_prompts_are_a_share_that_is_always_the_same() -> None:
    asked = language_texts.prompts(1200)
    assert len(set(asked)) == 1200 and asked[:48] == language_texts.prompts(48)
    share = sum(map(language_texts.is_held_out, asked)) / len(asked)
    assert share == pytest.approx(1 / language_texts.HELD_OUT, abs=0.02)
