"""The cache of cleaned catalogs: by content, never half, never trusted when damaged."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields

import numpy as np
import pytest

from stratos.catalog import Table, Words, load_catalog, offers
from stratos.config import CloudConfig

HEADER = "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,Region,SpotPrice"
ROWS = (
    "g5.xlarge,A10G,1,4,16,1.006,us-east-1,0.4",
    "c7i.large,,,2,4,0.08925,us-east-1,",
    "g6f.large,L4,0.125,2,8,0.202,us-east-1,",
    "dl1,Gaudi9,8,96,768,13.1,us-east-1,",
)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "aws" / "vms.csv"
    path.parent.mkdir()
    path.write_text("\n".join([HEADER, *ROWS]) + "\n")
    return path


@pytest.fixture
def made(monkeypatch):
    """Count how often rows are cleaned."""
    calls = []
    clean = load_catalog.__globals__["clean"]

    def counting(listings):
        calls.append(len(listings))
        return clean(listings)

    monkeypatch.setitem(load_catalog.__globals__, "clean", counting)
    return calls


def load(file, folder, **config):
    return load_catalog(CloudConfig(catalog=(str(file),), **config), cache_dir=folder)


def entries(folder):
    return sorted((folder / "catalogs").iterdir())


def same(table, expected_table):
    for field in fields(Table):
        column, expected = getattr(table, field.name), getattr(expected_table, field.name)
        if isinstance(column, Words):
            assert column.names == expected.names
            column, expected = column.codes, expected.codes
        assert column.dtype == expected.dtype
        np.testing.assert_array_equal(column, expected)


def test_what_was_cleaned_is_read_back_the_same(file, tmp_path, made):
    first, second = load(file, tmp_path), load(file, tmp_path)
    assert made == [4]
    same(first.table, second.table)
    assert (first.dropped, first.warnings) == (second.dropped, second.warnings)
    assert list(first.offers) == list(second.offers)
    (entry,) = entries(tmp_path)
    assert entry.suffix == ".npz"
    # What is selected is not part of the key.
    assert len(load(file, tmp_path, max_usd_per_hour=0.5).offers) == 1 and made == [4]


def test_a_changed_price_name_or_code_is_cleaned_anew(file, tmp_path, made, monkeypatch):
    load(file, tmp_path)
    file.write_text(file.read_text().replace("1.006", "2.006"))
    assert max(o.usd_per_hour for o in load(file, tmp_path).offers) == 2.006
    copy = tmp_path / "azure" / "vms.csv"
    copy.parent.mkdir()
    copy.write_bytes(file.read_bytes())
    assert {o.cloud for o in load(copy, tmp_path).offers} == {"azure"}
    monkeypatch.setattr(offers, "_code_version", lambda: b"another")
    load(copy, tmp_path)
    assert len(made) == len(entries(tmp_path)) == 4


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other"])
def test_a_damaged_entry_is_made_anew_and_that_is_said(file, tmp_path, made, damage):
    before = load(file, tmp_path)
    (entry,) = entries(tmp_path)
    data = bytearray(entry.read_bytes())
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "flip":
        data[data.index(b"us-east-1"[:1] + bytes(3) + b"s") + 8] ^= 0xFF  # in a name
    elif damage == "empty":
        data = bytearray()
    else:
        np.savez(entry, x=[1])
        data = bytearray(entry.read_bytes())
    entry.write_bytes(data)
    after = load(file, tmp_path)
    same(before.table, after.table)
    damaged = [warning for warning in after.warnings if "was damaged" in warning]
    assert len(damaged) == 1 and str(entry) in damaged[0]
    assert made == [4, 4]
    assert not any("damaged" in warning for warning in load(file, tmp_path).warnings)
    assert made == [4, 4]


def test_every_flipped_byte_gives_the_same_offers_or_is_found_out(file, tmp_path):
    before = load(file, tmp_path)
    (entry,) = entries(tmp_path)
    data = entry.read_bytes()
    for at in range(0, len(data), 97):
        entry.write_bytes(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
        same(before.table, load(file, tmp_path).table)


def test_a_folder_that_cannot_be_written_to_is_said(file, tmp_path, made):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "catalogs").write_text("a file where a folder should be")
    catalog = load(file, tmp_path / "cache")
    assert len(catalog.offers) == 2
    assert any("could not be kept in" in warning for warning in catalog.warnings)


def test_writers_at_once_leave_one_whole_entry(file, tmp_path):
    with ThreadPoolExecutor(8) as pool:
        catalogs = list(pool.map(lambda _: load(file, tmp_path), range(16)))
    assert len(entries(tmp_path)) == 1
    for catalog in catalogs:
        same(catalog.table, catalogs[0].table)


def test_entries_are_of_the_usual_rights(file, tmp_path):
    load(file, tmp_path)
    (entry,) = entries(tmp_path)
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(entry.stat().st_mode) == 0o666 & ~umask


def test_a_cached_catalog_and_this_machine_are_one_table(file, tmp_path):
    for _ in range(2):
        table = load(file, tmp_path, providers=("aws", "local")).table
        assert table.cloud.spelled() == ["aws", "aws", "local"]


def test_our_own_table_is_not_cached(tmp_path):
    load_catalog(CloudConfig(), cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []
