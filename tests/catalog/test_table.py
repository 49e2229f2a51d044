"""Columns: codes, order, kinds and places, and offers that are made when asked for."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratos.catalog import UNLIMITED, Table, Words, load_catalog
from stratos.catalog.table import combine
from stratos.config import CloudConfig
from stratos.records import Offer

WORDS = st.lists(st.sampled_from(["", "a", "b", "ab", "B"]), max_size=8)


@pytest.fixture(scope="module")
def catalog():
    return load_catalog(CloudConfig())


@settings(max_examples=300)
@given(WORDS, WORDS, st.randoms())
def test_words_are_a_list_of_texts(first, second, rng):
    head, two = Words.of(first), Words.of(second)
    assert list(head) == head.spelled() == np.asarray(head).tolist() == first
    assert head.used() == sorted(set(first)) and list(head.names) == head.used()
    both = Words.concat([head, two])
    assert both.spelled() == first + second and list(both.names) == sorted(set(first + second))
    rows = np.array(rng.sample(range(len(both)), len(both)), np.int64)
    assert both.take(rows).spelled() == [(first + second)[row] for row in rows]
    assert both.map(str.upper).spelled() == [text.upper() for text in first + second]
    assert both.where(bool).tolist() == [bool(text) for text in first + second]
    if first:
        assert np.argsort(head.codes, kind="stable").tolist() == sorted(
            range(len(first)), key=first.__getitem__
        )


@settings(max_examples=300)
@given(st.lists(st.tuples(*[st.integers(0, 2**40)] * 3), min_size=1, max_size=12))
def test_combined_keys_sort_and_equal_like_their_parts_even_when_they_overflow(rows):
    key = combine(*np.array(rows, np.int64).T)
    for i, first in enumerate(rows):
        for j, second in enumerate(rows):
            assert (key[i] < key[j]) == (first < second) and (key[i] == key[j]) == (first == second)


def test_offers_are_a_sequence_of_the_rows(catalog):
    offers = catalog.offers
    assert len(offers) == len(catalog.table) == len(list(offers))
    assert offers[3] == catalog.offer(3) == list(offers)[3]
    assert offers[-1] == list(offers)[-1] and offers[5:8] == tuple(list(offers)[5:8])
    assert offers[0] in offers and offers.index(offers[7]) == 7
    with pytest.raises(IndexError):
        offers[len(offers)]
    assert type(offers[0].accelerator_count) is int and type(offers[0].usd_per_hour) is float
    assert {o.accelerator for o in offers} > {None, "A100"}


def test_a_table_of_offers_is_the_offers_in_their_order(catalog):
    offers = list(catalog.offers)
    random.Random(0).shuffle(offers)
    table = Table.of(offers)
    assert [table.offer(row) for row in range(len(table))] == list(catalog.offers)
    keys = [(o.cloud, o.region, o.instance_type) for o in catalog.offers]
    assert keys == sorted(keys)


def test_kinds_and_places_are_what_the_offers_say(catalog):
    for table in (catalog.table, catalog.table.take(catalog.table.usd_per_hour < 1)):
        hardware, places = {}, {}
        for row in range(len(table)):
            o = table.offer(row)
            kind = (o.accelerator, o.accelerator_count, o.vcpus, o.memory_gib)
            assert hardware.setdefault(kind, table.kind[row]) == table.kind[row]
            assert (
                places.setdefault((o.cloud, o.region), table.location[row]) == table.location[row]
            )
            assert table.places[table.location[row]] == (o.cloud, o.region)
        assert sorted(hardware.values()) == list(range(table.n_kinds))
        assert sorted(places.values()) == list(range(len(table.places)))
        assert table.kind[table.kind_rows].tolist() == list(range(table.n_kinds))


def test_this_machine_is_a_kind_of_its_own_and_there_is_one():
    here = Offer("local", "here", "cpu", None, 0, 2.0, 4.0, 0.0, 0.0)
    table = Table.of([here, replace(here, cloud="aws", usd_per_hour=1.0)])
    assert table.n_kinds == 2 and table.max_count.tolist() == [UNLIMITED, 1]


def test_tables_are_joined_and_sorted_again(catalog):
    cheap = catalog.table.usd_per_hour < 1
    joined = Table.concat([catalog.table.take(cheap), catalog.table.take(~cheap)])
    assert [joined.offer(row) for row in range(len(joined))] == list(catalog.offers)
    assert joined.places == catalog.table.places
    np.testing.assert_array_equal(joined.kind, catalog.table.kind)


def test_an_empty_table():
    table = Table.of([])
    assert len(table) == 0 and table.places == () and table.n_kinds == 0
