"""Splits by content that leave every label its share."""

from __future__ import annotations

import json
from collections import Counter
from itertools import product

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
def test_every_label_has_its_share_of_each_split(seed):
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
def test_a_rare_label_is_trained_on_first_then_tested(n, least, seed):
    labels = np.array([1] * n + [0] * 200)
    found = Counter(divided(hashes(n + 200, seed), labels)[:n].tolist())
    assert found[TRAIN] >= least[0]
    assert found[VALIDATION] >= least[1]
    assert found[TEST] >= least[2]
    assert sum(found.values()) == n


def test_few_rows_move_when_some_are_added_and_none_when_they_are_reordered():
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


def test_of_many_rows_none_moves():
    families = hashes(20_000, 0)
    split = divided(families, families)
    place = families / 2.0**64
    assert (split == np.where(place < 0.25, TEST, np.where(place < 0.4, VALIDATION, TRAIN))).all()
    assert len(divided(families[:0], families[:0])) == 0


def test_rows_of_one_family_stay_together_whatever_their_labels():
    families = np.repeat(hashes(60, 3), 2)
    labels = np.arange(120) % 3
    split = divided(families, labels)
    assert (split[::2] == split[1::2]).all()
    order = np.random.default_rng(0).permutation(120)
    assert (divided(families[order], labels[order]) == split[order]).all()


def test_a_small_file_has_rows_to_steer_by_and_to_test(tmp_path):
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


def test_slices_have_their_share_each(tmp_path):
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


def grouped(seed: int, n_labels: int, n_groups: int, n_single: int) -> tuple[np.ndarray, ...]:
    """Return questions, their groups and labels: of each label some groups of 1 to 40, and singles.

    One question in fifty has another label than its group.
    """
    random = np.random.default_rng(seed)
    sizes = 1 + (random.pareto(1.2, (n_labels, n_groups)) * 3).astype(int).clip(max=39)
    groups = [
        key
        for of_label in sizes
        for size in [*of_label, *[1] * n_single]
        for key in [random.integers(0, 2**64, dtype=np.uint64)] * size
    ]
    labels = np.repeat(np.arange(n_labels), sizes.sum(1) + n_single)
    labels = np.where(random.random(len(labels)) < 0.02, random.permutation(labels), labels)
    return hashes(len(labels), seed + 1000), np.array(groups, np.uint64), labels.astype(np.uint64)


def divided_by_group(families: np.ndarray, groups: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return stratified(families, labels, np.zeros(len(labels), np.uint16), *SHARES, groups)


@pytest.mark.parametrize(("n_groups", "n_single"), [(25, 100), (25, 0), (12, 40)])
@pytest.mark.parametrize("seed", range(8))
def test_groups_leave_each_label_its_share_of_every_split(seed, n_groups, n_single):
    families, groups, labels = grouped(seed, 6, n_groups, n_single)
    split = divided_by_group(families, groups, labels)
    for group in np.unique(groups):
        assert len(np.unique(split[groups == group])) == 1
    for name, share in ((TRAIN, 0.6), (VALIDATION, 0.15), (TEST, 0.25)):
        assert (split == name).mean() == pytest.approx(share, abs=0.02)
        for label in range(6):
            of_split, of_file = (labels[split == name] == label).mean(), (labels == label).mean()
            assert of_split == pytest.approx(of_file, abs=0.03)
    order = np.random.default_rng(seed).permutation(len(labels))
    again = divided_by_group(families[order], groups[order], labels[order])
    assert (again == split[order]).all()


@pytest.mark.parametrize("seed", range(40))
def test_few_groups_are_divided_nearly_as_well_as_they_can_be(seed):
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 30, 7)
    groups = np.repeat(hashes(7, seed), sizes)
    split = divided_by_group(hashes(len(groups), seed + 50), groups, np.zeros_like(groups))
    room = len(groups) * np.array([0.6, 0.15, 0.25])  # TRAIN, VALIDATION, TEST
    assert set(split.tolist()) == {TRAIN, VALIDATION, TEST}

    def excess(of_split: np.ndarray) -> float:
        return float((of_split - room).max())

    every = (
        np.bincount(each, sizes, 3) for each in product(range(3), repeat=7) if len({*each}) > 2
    )
    assert excess(np.bincount(split, minlength=3)) <= min(map(excess, every)) + sizes.max() / 2


def test_a_label_of_few_large_groups_is_trained_on_and_tested():
    groups = np.repeat(hashes(9, 0), [50, 30, *[20] * 7])
    labels = np.repeat(np.array([0, 0, *[1] * 7], np.uint64), [50, 30, *[20] * 7])
    split = divided_by_group(hashes(len(groups), 1), groups, labels)
    assert Counter(split[labels == 0].tolist()) == {TRAIN: 50, TEST: 30}


def test_the_most_frequent_answer_of_a_group_is_its_label():
    label_of_group = np.repeat([0, 1, 0, 1, 0, 1, 0, 1], 8)
    groups = np.repeat(hashes(8, 3), 10)
    labels = np.concatenate([[*own, 2, 3] for own in np.split(label_of_group, 8)]).astype(np.uint64)
    split = divided_by_group(hashes(80, 4), groups, labels)
    for label in (0, 1):
        assert Counter(split[labels == label].tolist())[TEST] == 8


@pytest.mark.parametrize("seed", range(5))
def test_five_groups_leave_no_split_empty(seed):
    """Conversations of two kinds: each kind alone is too few for a row to validate."""
    draw = np.random.default_rng(seed)
    families = draw.integers(0, 2**63, 5, dtype=np.uint64)
    answers, slices = np.arange(5, dtype=np.uint64), np.array([0, 0, 0, 1, 1], np.uint16)
    split = stratified(families, answers, slices, 0.1, 0.2)
    assert set(split.tolist()) == {0, 1, 2}
