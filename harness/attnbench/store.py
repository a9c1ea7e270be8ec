"""Runs on disk: append and read records.

A run is a folder: `manifest.json`, one `records-<writer>.jsonl` a writer, `logs/`. Records are appended and synced,
never rewritten. A line torn by a crash is skipped and counted when reading.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attnbench.atomic_write import write_atomically
from attnbench.errors import RecordError, StorageError, UsageError, describe, unknown
from attnbench.record import Record
from attnbench.untrusted import mapping, parse, printable

MANIFEST = "manifest.json"
BYTES_A_RECORD = 128 * 1024  # with its share of the logs; most are far smaller
_write = os.write  # a name of its own: a test puts a full disk in its place
SPARE_BYTES = 32 * 1024 * 1024
LARGEST_LINE = 64 * 1024 * 1024  # bytes; a longer line is no record of ours


@dataclass
class Reading:
    """What was read of a run: its records, and what was skipped and why."""

    records: list[Record] = field(default_factory=list)
    torn_lines: int = 0
    problems: list[str] = field(default_factory=list)


class RecordWriter:
    """Appends records to one file; each is on disk when `append` returns. One writer a file."""

    def __init__(self, run: Path, writer: str) -> None:
        self.path = run / f"records-{writer}.jsonl"
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            os.write(self._descriptor, b"\n")  # close a line torn by a crash, or it would swallow the next one

    def append(self, record: Record) -> None:
        """Write one record and sync it to disk; raises StorageError (a full disk) with what is stored intact."""
        data = record.to_line().encode()
        size = os.fstat(self._descriptor).st_size
        try:
            while data:
                data = data[_write(self._descriptor, data) :]
            os.fsync(self._descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, size)
            raise StorageError(f"{self.path}: a record can't be stored ({describe(error)}); the others are") from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def require_space(folder: Path, records: int) -> None:
    """Raise UsageError where a folder's disk has no room for that many records and their logs."""
    there = next((place for place in (folder, *folder.absolute().parents) if place.exists()), Path("/"))
    free, needed = shutil.disk_usage(there).free, SPARE_BYTES + records * BYTES_A_RECORD
    if free < needed:
        raise UsageError(
            f"results folder {str(folder)!r}: {free >> 20} MiB are free and {records} cells may need "
            f"{needed >> 20} MiB: free some space, or choose another --results"
        )


def create_run(results: Path, name: str, manifest: Mapping[str, Any]) -> Path:
    """Make a run's folder under `results` and store its manifest; raises UsageError where that can't be."""
    run = results / name
    try:
        (run / "logs").mkdir(parents=True, exist_ok=False)
    except FileExistsError:
        raise UsageError(f"run {name!r} exists in {results}: choose another --name, or --resume {name}") from None
    except OSError as error:
        raise UsageError(f"results folder {str(results)!r} can't be written: {describe(error)}") from None
    write_manifest(run, manifest)
    return run


def write_manifest(run: Path, manifest: Mapping[str, Any]) -> None:
    """Store a run's manifest whole or not at all; raises StorageError."""
    try:
        write_atomically(run / MANIFEST, json.dumps(manifest, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise StorageError(f"{run / MANIFEST} can't be written ({describe(error)})") from error


def read_manifest(run: Path) -> dict[str, Any]:
    """Read a run's manifest; raises UsageError where there is none or it is no object."""
    try:
        manifest = parse(_own_file(run / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{run} is no run: its {MANIFEST} can't be read ({describe(error)})") from None
    if not isinstance(manifest, dict):
        raise UsageError(f"{run} is no run: its {MANIFEST} holds no object")
    return manifest


def read_run(run: Path) -> Reading:
    """Read all records of a run, in the order of their files and lines."""
    reading = Reading()
    for path in sorted(run.glob("records-*.jsonl")):
        try:
            _own_file(path)
        except ValueError as error:
            reading.problems.append(f"{printable(path.name)}: {error}")
            continue
        for number, line in enumerate(_lines(path), 1):
            try:
                fields = parse(line)
            except ValueError:
                reading.torn_lines += 1
                continue
            try:
                reading.records.append(Record.from_json(fields))
            except RecordError as error:
                reading.problems.append(f"{printable(path.name)}:{number}: {error}")
    return reading


def latest(run: Path) -> dict[tuple[str, str], Record]:
    """Give the latest record of each cell, by `cell_key`; the A/A control is no cell of the plan."""
    every_device = measures_on_every_device(_manifest_or_empty(run))
    return {
        cell_key(record.device, record.cell_id, every_device=every_device): record
        for record in read_run(run).records
        if not record.control
    }


def measures_on_every_device(manifest: Mapping[str, Any]) -> bool:
    """Whether each device measured all cells; runs of old did."""
    return bool(manifest.get("every_device", True))


def cell_key(device: str, cell_id: str, *, every_device: bool) -> tuple[str, str]:
    """Name a cell within a run: where devices of one model share the cells, whichever of them measured it."""
    return (device if every_device else "", cell_id)


def statuses(run: Path) -> dict[str, int]:
    """Count a run's cells by the status of their latest records."""
    return dict(Counter(record.status for record in latest(run).values()))


def list_runs(results: Path) -> list[Path]:
    """List the runs under a results folder, oldest first by the start in their manifests."""
    found = [path.parent for path in results.glob(f"*/{MANIFEST}")]
    return sorted(found, key=lambda run: (str(_manifest_or_empty(run).get("started_at", "")), run.name))


def find_run(results: Path, run: str | None = None) -> Path:
    """Find a run by its folder or its name under `results`; None means the latest. Raises UsageError."""
    if run is None:
        runs = list_runs(results)
        if not runs:
            raise UsageError(f"no run under {str(results)!r}: make one with `attnbench run`, or name its folder")
        return runs[-1]
    for candidate in (Path(run), results / run):
        if (candidate / MANIFEST).is_file():
            return candidate
    raise unknown("run", run, [path.name for path in list_runs(results)])


def declared_baseline(manifest: Mapping[str, Any]) -> str | None:
    """Return the variant that a run's manifest names as its baseline: the first by name of those that are marked so.

    None for a run none of whose variants offers itself as baseline, or that was made before manifests said so. Such a
    run's baseline is the variant with an A/A control.
    """
    described = mapping(manifest.get("variants")).items()
    return min((name for name, facts in described if mapping(facts).get("baseline") is True), default=None)


def plugin_arguments(manifest: Mapping[str, Any]) -> list[str]:
    """Give the plugins that a run was made with; raises UsageError for one that lies in a run's folder.

    A run that came from elsewhere is data: what it brings along is not loaded because it says so.
    """
    given = manifest.get("plugin_arguments", [])
    if not isinstance(given, list) or not all(isinstance(plugin, str) for plugin in given):
        raise UsageError("the run's plugin_arguments are no list of texts")
    for plugin in given:
        place = Path(plugin).resolve()
        if any((folder / MANIFEST).is_file() for folder in (place, *place.parents)):
            raise UsageError(f"the run names plugin {plugin!r}, which lies in a run's folder: it is not loaded")
    return given


def _own_file(path: Path) -> Path:
    """Refuse a link, a pipe or a device in a file's place: it would lead out of the run's folder. Raises ValueError."""
    if path.is_symlink() or not path.is_file():
        raise ValueError(f"{printable(path.name)} is no plain file of its own")
    return path


def _manifest_or_empty(run: Path) -> dict[str, Any]:
    try:
        return read_manifest(run)
    except UsageError:
        return {}


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while line := file.readline(LARGEST_LINE):
            if line.strip():
                yield line
