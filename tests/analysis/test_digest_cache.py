"""Digests of runs: found again while nothing changed, made anew when anything did, and never needed."""

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
    """Make a run that is worth keeping a digest of, and a cache of its own."""
    monkeypatch.setattr(digest_cache, "WORTH_BYTES", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return synthetic.make_run(tmp_path / "results", name="r", **SMALL)


@pytest.fixture
def read(monkeypatch):
    """Count how often a run's records themselves are read."""
    read = []

    def counting(run):
        read.append(run)
        return digest(run)

    monkeypatch.setattr(digest_cache, "digest", counting)
    return read


def kept():
    """List the cache's files."""
    return sorted(digest_cache.digest_folder().iterdir())


def same(one, other):
    """Whether two frames hold the same, nested values too."""
    return one.astype(str).equals(other.astype(str)) and one.dtypes.equals(other.dtypes)


def test_a_run_is_read_once(run, read):
    """The second load takes the rows from the cache, and they are the same; a folder's mode keeps others out."""
    first, second = attnbench.load(run), attnbench.load(run)
    assert len(read) == 1
    assert same(first, second)
    assert digest_cache.digest_folder().stat().st_mode & 0o077 == 0


def test_a_small_run_is_not_worth_a_file(run, read, monkeypatch):
    """Below a quarter of a MiB of records nothing is written to the cache."""
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(run.parent.parent / "cache"))
    attnbench.load(run)
    assert not digest_cache.digest_folder().exists()


def append(run):
    """Add a record, as a run that goes on does."""
    file = next(run.glob("records-*.jsonl"))
    file.write_bytes(file.read_bytes() + file.read_bytes().splitlines(keepends=True)[0])


def edit_in_place(run):
    """Change a value and leave the file's size and time as they were."""
    file = next(run.glob("records-*.jsonl"))
    before = file.stat()
    file.write_bytes(file.read_bytes().replace(b'"naive"', b'"NAIVE"'))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def another_writer(run):
    """Add a file of records."""
    file = next(run.glob("records-*.jsonl"))
    (run / "records-cpu-1.jsonl").write_bytes(file.read_bytes())


def other_limits(run):
    """Change what the manifest says of the device."""
    manifest = run / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"matmul_flops_per_s": ', '"matmul_flops_per_s": 2'))


@pytest.mark.parametrize("change", [append, edit_in_place, another_writer, other_limits])
def test_what_changed_is_read_again(run, read, change):
    """A digest of a run as it was is never believed, and is removed."""
    before = attnbench.load(run)
    change(run)
    after = attnbench.load(run)
    assert len(read) == 2
    assert not same(before, after)
    assert len(kept()) == 1


def test_another_version_of_the_code_reads_again(run, read, monkeypatch):
    """A digest that other code made is never believed."""
    attnbench.load(run)
    monkeypatch.setattr(digest_cache, "_made_by", lambda: "another version")
    attnbench.load(run)
    assert len(read) == 2


def test_a_run_that_is_written_to_while_it_is_read_is_not_kept(run, monkeypatch):
    """What was read of a run that went on meanwhile stays out of the cache."""

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
    """Change bytes in its middle."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 3
    data[middle : middle + 64] = bytes(255 - byte for byte in data[middle : middle + 64])
    path.write_bytes(data)


def of_another_run(path):
    """Put a sound file with another key in its place."""
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"made_from": b"else"}), path)


def of_other_columns(path):
    """Put a table without some columns in its place, under the right key."""
    pq.write_table(pq.read_table(path).drop_columns(["variant"]), path)


def a_folder(path):
    """Put a folder in its place."""
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [truncated, flipped, of_another_run, of_other_columns, a_folder])
def test_a_spoilt_digest_is_made_again(run, read, spoil):
    """A file of the cache that is not what was written there gives way to the run itself."""
    before = attnbench.load(run)
    spoil(kept()[0])
    assert same(before, attnbench.load(run))
    assert len(read) == 2


def test_a_cache_that_cant_be_written_does_no_harm(run, tmp_path, monkeypatch):
    """Where a file stands in the cache's place, or the disk is full, runs load as without it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("no folder")
    alone = attnbench.load(run)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digest_cache, "write_atomically", full_disk)
    assert same(alone, attnbench.load(run))
    assert kept() == []


def full_disk(*_, **__):
    """Write nothing, as a full disk does."""
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("writable", [True, False])
def test_many_new_runs_are_read_by_several_processes(run, read, tmp_path, monkeypatch, writable):
    """From a certain size on, other processes read the runs, where the cache can't be written too."""
    monkeypatch.setattr(digest_cache, "ONE_PROCESS_BYTES", 1)
    for seed in range(3):
        synthetic.make_run(run.parent, name=f"other-{seed}", seed=seed, **SMALL)
    if not writable:
        (tmp_path / "cache").write_text("no folder")
    frame = attnbench.load(run.parent)
    assert list(frame["run"].unique()) == ["other-0", "other-1", "other-2", "r"]
    assert read == []


def test_digests_that_nobody_asks_for_are_removed(run):
    """A file that was not read for a month goes; others stay."""
    attnbench.load(run)
    old = digest_cache.digest_folder() / "0-0.parquet"
    old.write_text("old")
    os.utime(old, (time.time() - 40 * 86400,) * 2)
    digest_cache.remove_unused(digest_cache.digest_folder())
    assert old not in kept()
    assert len(kept()) == 1


def test_lines_that_are_no_records_are_counted(run):
    """The frame says of each run how many lines were half-written and how many did not fit, from the cache too."""
    file = next(run.glob("records-*.jsonl"))
    file.write_bytes(file.read_bytes() + b'{"record_id": 1}\n{"half')
    for _ in range(2):
        assert attnbench.load(run).attrs["skipped"] == {"r": {"torn_lines": 1, "problems": 1}}


def test_nested_values_are_as_they_were_recorded(run):
    """Samples and blocks compare with lists by value, kernels and flags are tuples, error and telemetry mappings."""
    row = attnbench.load(run).query("status == 'ok'").iloc[0]
    assert next(iter(row["samples_ns"])) > 0
    assert list(row["block_sizes"]) == [3] * 8
    assert not row["cold_samples_ns"]
    assert row["kernels"] == (f"{row['variant']}_kernel", "aten::empty")
    assert row["flags"] == ()
    assert row["error"]["rule"] == "row"
    assert dict(row["telemetry"]) == {"blocks": [{"power_w": None, "throttle": []}] * 8} or row["throttled_share"] > 0
