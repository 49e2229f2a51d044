"""Splits by content that leave every label its share."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from stratos.tasks.classify import ClassifyTask
from stratos.tasks.dedup.splits import TEST, TRAIN, VALIDATION, stratified
from stratos.tasks.jsonl import JsonlTask

SHARES = (0.15, 0.25)


def hashes(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, n, dtype=np.uint64)


def divided(families: np.ndarray, labels: np.ndarray) -> np.ndarray:
    slices = np.zeros(len(families), np.uint16)
    return stratified(families, labels.astype(np.uint64), slices, *SHARES)


@pytest.mark.parametrize("seed", range(10))
def test_every_label_has_its_share_of_each_split(seed: int) -> None:
    labels = np.arange(304) % 8
    split = divided(hashes(304, seed), labels)
    for label in range(8):
        found = Counter(split[labels == label].tolist())
        assert 4 <= found[VALIDATION] <= 8  # 15% of 38 is 5.7
        assert 7 <= found[TEST] <= 13  # 25% is 9.5
        assert found[TRAIN] >= 17  # 60% is 22.8


@pytest.mark.parametrize(
    ("n", "least"),
    [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (2, 0, 1)), (4, (2, 1, 1)), (10, (4, 1, 1))],
)
@pytest.mark.parametrize("seed", range(5))
def test_a_rare_label_is_trained_on_first_then_tested(n: int, least: tuple, seed: int) -> None:
    labels = np.array([1] * n + [0] * 200)
    found = Counter(divided(hashes(n + 200, seed), labels)[:n].tolist())
    assert found[TRAIN] >= least[0]
    assert found[VALIDATION] >= least[1]
    assert found[TEST] >= least[2]
    assert sum(found.values()) == n


def test_few_rows_move_when_some_are_added_and_none_when_they_are_reordered() -> None:
    moved = []
    for seed in range(20):
        families, labels = hashes(304, seed), np.arange(304) % 8
        split = divided(families, labels)
        order = np.random.default_rng(seed).permutation(304)
        assert (divided(families[order], labels[order]) == split[order]).all()
        more = divided(
            np.concatenate([families, hashes(30, 1000 + seed)]), np.arange(334) % 304 % 8
        )
        moved.append(int((more[:304] != split).sum()))
    assert np.mean(moved) < 6, "2% of the rows"


def test_of_many_rows_none_moves() -> None:
    families = hashes(20_000, 0)
    split = divided(families, families)
    place = families / 2.0**64
    assert (split == np.where(place < 0.25, TEST, np.where(place < 0.4, VALIDATION, TRAIN))).all()
    assert len(divided(families[:0], families[:0])) == 0


def test_rows_of_one_family_stay_together_whatever_their_labels() -> None:
    families = np.repeat(hashes(60, 3), 2)
    labels = np.arange(120) % 3
    split = divided(families, labels)
    assert (split[::2] == split[1::2]).all()
    order = np.random.default_rng(0).permutation(120)
    assert (divided(families[order], labels[order]) == split[order]).all()


def test_a_small_file_has_rows_to_steer_by_and_to_test(tmp_path: Path) -> None:
    for start in range(0, 400, 20):
        rows = [
            {"question": f"What is {i} + {i}?", "answer": 2 * i} for i in range(start, start + 20)
        ]
        path = tmp_path / f"{start}.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        task = JsonlTask(str(path))
        sizes = [len(task.items(split, 99)) for split in ("train", "validation", "test")]
        assert sum(sizes) == 20
        assert sizes[0] >= 9 and sizes[1] >= 2 and sizes[2] >= 3


def test_slices_have_their_share_each(tmp_path: Path) -> None:
    rows = [
        {"text": f"ticket {i}", "label": "ab"[i % 2], "lang": "en" if i % 10 else "de"}
        for i in range(200)
    ]
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    task = ClassifyTask(str(path), slice="lang", slices=("en", "de"))
    found = Counter(
        (item.slice, item.answer) for item in task.items("test", 99) if item.slice == "de"
    )
    assert sum(found.values()) in range(3, 8)
