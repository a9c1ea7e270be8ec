"""The digest cache: a run's digest is reused until the run or the code changes. Runs also load without a cache."""

import os
import time

import pyarrow.parquet as pq
import pytest

import attnbench
import synthetic
from attnbench.analysis import digest_cache
from attnbench.analysis.digest import digest

SMALL = {"cells": synthetic.workloads(seqs=(256, 512), directions=("forward",)), "rounds": 8}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Write a run, and set up an empty cache that accepts runs of any size."""
    monkeypatch.setattr(digest_cache, "MIN_CACHED_BYTES", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return synthetic.make_run(tmp_path / "results", name="r", **SMALL)


@pytest.fixture
def read(monkeypatch):
    """Return a list to which a run is appended each time its records are read."""
    read = []

    def counting(run):
        read.append(run)
        return digest(run)

    monkeypatch.setattr(digest_cache, "digest", counting)
    return read


def cached_files():
    """Return the files in the cache."""
    return sorted(digest_cache.digest_folder().iterdir())


def same(one, other):
    """Return whether two frames are equal, including nested values."""
    return one.astype(str).equals(other.astype(str)) and one.dtypes.equals(other.dtypes)


def test_a_run_is_read_once(run, read):
    """The second load gets the same rows from the cache, and only the owner can read the cache folder."""
    first, second = attnbench.load(run), attnbench.load(run)
    assert len(read) == 1
    assert same(first, second)
    assert digest_cache.digest_folder().stat().st_mode & 0o077 == 0


def test_a_small_run_is_not_cached(run, read, monkeypatch):
    """A run with less than 256 KiB of records is not written to the cache."""
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(run.parent.parent / "cache"))
    attnbench.load(run)
    assert not digest_cache.digest_folder().exists()


def append(run):
    """Append a record to the run, as if the benchmark were still running."""
    file = next(run.glob("records-*.jsonl"))
    file.write_bytes(file.read_bytes() + file.read_bytes().splitlines(keepends=True)[0])


def edit_in_place(run):
    """Change a value in the run's records without changing the file's size or modification time."""
    file = next(run.glob("records-*.jsonl"))
    before = file.stat()
    file.write_bytes(file.read_bytes().replace(b'"naive"', b'"NAIVE"'))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def another_writer(run):
    """Add a second file of records to the run, as another worker would."""
    file = next(run.glob("records-*.jsonl"))
    (run / "records-cpu-1.jsonl").write_bytes(file.read_bytes())


def other_peak_rates(run):
    """Change the device's peak rates in the run's manifest."""
    manifest = run / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"matmul_flops_per_s": ', '"matmul_flops_per_s": 2'))


@pytest.mark.parametrize("change", [append, edit_in_place, another_writer, other_peak_rates])
def test_a_changed_run_is_read_again(run, read, change):
    """A changed run is read again, and the digest of its earlier state is removed."""
    before = attnbench.load(run)
    change(run)
    after = attnbench.load(run)
    assert len(read) == 2
    assert not same(before, after)
    assert len(cached_files()) == 1


def test_another_version_of_the_code_reads_again(run, read, monkeypatch):
    """A digest made by another version of the code is not used."""
    attnbench.load(run)
    monkeypatch.setattr(digest_cache, "_made_by", lambda: "another version")
    attnbench.load(run)
    assert len(read) == 2


def test_a_run_that_changes_while_it_is_read_is_not_cached(run, monkeypatch):
    """The digest of a run is not cached if the run changes while it is being read."""

    def slow(run):
        found = digest(run)
        append(run)
        return found

    monkeypatch.setattr(digest_cache, "digest", slow)
    attnbench.load(run)
    assert not digest_cache.digest_folder().exists()


def truncated(path):
    """Cut a file in half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path):
    """Invert the bits of 64 bytes of a file."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 3
    data[middle : middle + 64] = bytes(255 - byte for byte in data[middle : middle + 64])
    path.write_bytes(data)


def of_another_run(path):
    """Replace a digest with a valid digest that has a different key."""
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"made_from": b"else"}), path)


def of_other_columns(path):
    """Replace a digest with one that has the right key but lacks a column."""
    pq.write_table(pq.read_table(path).drop_columns(["variant"]), path)


def a_folder(path):
    """Replace a file with an empty folder."""
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [truncated, flipped, of_another_run, of_other_columns, a_folder])
def test_a_damaged_digest_is_made_again(run, read, damage):
    """If the digest of a run is damaged or was replaced, the run is read again."""
    before = attnbench.load(run)
    damage(cached_files()[0])
    assert same(before, attnbench.load(run))
    assert len(read) == 2


def test_runs_load_without_a_writable_cache(run, tmp_path, monkeypatch):
    """Runs load as usual if the cache folder can't be created, or if the disk is full."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("no folder")
    alone = attnbench.load(run)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digest_cache, "write_atomically", full_disk)
    assert same(alone, attnbench.load(run))
    assert cached_files() == []


def full_disk(*_, **__):
    """Raise the same error as writing to a full disk."""
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("writable", [True, False])
def test_many_new_runs_are_read_by_several_processes(run, read, tmp_path, monkeypatch, writable):
    """Large new runs are read by separate processes, whether or not the cache is writable."""
    monkeypatch.setattr(digest_cache, "MIN_PARALLEL_BYTES", 1)
    for seed in range(3):
        synthetic.make_run(run.parent, name=f"other-{seed}", seed=seed, **SMALL)
    if not writable:
        (tmp_path / "cache").write_text("no folder")
    frame = attnbench.load(run.parent)
    assert list(frame["run"].unique()) == ["other-0", "other-1", "other-2", "r"]
    assert read == []


def test_unused_digests_are_removed(run):
    """A digest that has not been read for over a month is removed, while other digests are kept."""
    attnbench.load(run)
    old = digest_cache.digest_folder() / "0-0.parquet"
    old.write_text("old")
    os.utime(old, (time.time() - 40 * 86400,) * 2)
    digest_cache.remove_unused(digest_cache.digest_folder())
    assert old not in cached_files()
    assert len(cached_files()) == 1


def test_lines_that_are_not_records_are_counted(run):
    """The frame's `attrs` count half-written and malformed lines, whether or not the frame comes from the cache."""
    file = next(run.glob("records-*.jsonl"))
    file.write_bytes(file.read_bytes() + b'{"record_id": 1}\n{"half')
    for _ in range(2):
        assert attnbench.load(run).attrs["skipped"] == {"r": {"torn_lines": 1, "problems": 1}}


def test_nested_values_keep_their_content(run):
    """Samples and blocks are sequences, kernels and flags are tuples, and error and telemetry are mappings."""
    row = attnbench.load(run).query("status == 'ok'").iloc[0]
    assert next(iter(row["samples_ns"])) > 0
    assert list(row["block_sizes"]) == [3] * 8
    assert not row["cold_samples_ns"]
    assert row["kernels"] == (f"{row['variant']}_kernel", "aten::empty")
    assert row["flags"] == ()
    assert row["error"]["rule"] == "row"
    assert dict(row["telemetry"]) == {"blocks": [{"power_w": None, "throttle": []}] * 8} or row["throttled_share"] > 0
