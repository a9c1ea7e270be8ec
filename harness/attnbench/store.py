"""Runs on disk: create a run, append records, and read them.

A run is a folder with `manifest.json`, one `records-<writer>.jsonl` for each writer, and `logs/`. Records are appended
and synced, never rewritten. Readers skip and count lines that a crash left incomplete.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attnbench.atomic_write import write_atomically
from attnbench.errors import RecordError, StorageError, UsageError, describe, unknown
from attnbench.machine.utc_clock import moment
from attnbench.record import Record
from attnbench.stats import disturbance
from attnbench.stats.disturbance import CellLoad
from attnbench.untrusted import mapping, parse, printable

MANIFEST = "manifest.json"
DOCTOR = "doctor"  # the manifest key of the doctor's findings, which are added once the run has locked its devices
BYTES_PER_RECORD = 128 * 1024  # disk space to allow for each record and its share of the logs; most need much less
_write = os.write  # a separate name, so that a test can simulate a full disk
SPARE_BYTES = 32 * 1024 * 1024  # free disk space that a run needs in addition to the space for its records
MAX_LINE_BYTES = 64 * 1024 * 1024  # larger than any record that attnbench writes
MAX_SKIPPED_LINES = 100_000  # once this many lines of a file are not records, the rest of the file is not read


@dataclass
class Reading:
    """The records that were read from a run.

    `torn_lines` is the number of incomplete lines, which were skipped. `problems` has one message for each skipped file
    and for each complete line that was skipped.
    """

    records: list[Record] = field(default_factory=list)
    torn_lines: int = 0
    problems: list[str] = field(default_factory=list)


class RecordWriter:
    """A writer that appends records to a file. No other process may write to the file.

    Raises StorageError if the file can't be opened.
    """

    def __init__(self, run: Path, writer: str) -> None:
        self.path = run / f"records-{writer}.jsonl"
        try:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            size = os.fstat(self._descriptor).st_size
            if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
                # A crash left the last line incomplete: end it, so that the next record starts a new line.
                _write(self._descriptor, b"\n")
        except OSError as error:
            raise StorageError(f"{self.path} can't be written ({describe(error)})") from error

    def append(self, *records: Record) -> None:
        """Write one or more records and sync them to disk.

        Raises StorageError if they can't be written, for example on a full disk. Earlier records stay intact.
        """
        data = "".join(record.to_line() for record in records).encode()
        size = os.fstat(self._descriptor).st_size
        try:
            while data:
                data = data[_write(self._descriptor, data) :]
            os.fsync(self._descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, size)
            raise StorageError(
                f"{self.path}: a record can't be stored ({describe(error)}); earlier ones are intact"
            ) from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def require_space(folder: Path, records: int) -> None:
    """Raise UsageError if `folder` is on a disk with too little free space for this many records and their logs."""
    existing = next((place for place in (folder, *folder.absolute().parents) if place.exists()), Path("/"))
    free, needed = shutil.disk_usage(existing).free, SPARE_BYTES + records * BYTES_PER_RECORD
    if free < needed:
        raise UsageError(
            f"results folder {str(folder)!r}: {free >> 20} MiB are free and {records} cells may need "
            f"{needed >> 20} MiB: free some space, or choose another --results"
        )


def create_run(results: Path, name: str, manifest: Mapping[str, Any]) -> Path:
    """Create a run's folder under `results` with its manifest.

    Raises UsageError if the folder exists or can't be created, and StorageError if the manifest can't be written. In
    these cases, no folder is left behind.
    """
    run = results / name
    try:
        results.mkdir(parents=True, exist_ok=True)
        if run.exists():
            raise UsageError(f"run {name!r} exists in {results}: choose another --name, or --resume {name}")
        run.mkdir()
        with removed_on_failure(run):
            (run / "logs").mkdir()
            write_manifest(run, manifest)
    except OSError as error:
        raise UsageError(f"results folder {str(results)!r} can't be written: {describe(error)}") from None
    return run


@contextmanager
def removed_on_failure(run: Path, error: type[Exception] = Exception) -> Iterator[None]:
    """Remove the folder of a run if the context raises an exception of the type `error`."""
    try:
        yield
    except error:
        shutil.rmtree(run, ignore_errors=True)
        raise


def write_manifest(run: Path, manifest: Mapping[str, Any]) -> None:
    """Replace a run's manifest in one step. Raises StorageError if it can't be written."""
    try:
        write_atomically(run / MANIFEST, json.dumps(manifest, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise StorageError(f"{run / MANIFEST} can't be written ({describe(error)})") from error


def read_manifest(run: Path) -> dict[str, Any]:
    """Return a run's manifest. Raises UsageError if the file does not exist or does not hold a JSON object."""
    try:
        manifest = parse(_regular_file(run / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{run} is not a run: its {MANIFEST} can't be read ({describe(error)})") from None
    if not isinstance(manifest, dict):
        raise UsageError(f"{run} is not a run: its {MANIFEST} does not hold an object")
    return manifest


def read_run(run: Path) -> Reading:
    """Return all records of a run, in the order of their files and lines."""
    reading = Reading()
    for path in sorted(run.glob("records-*.jsonl")):
        try:
            _read_records(_regular_file(path), reading)
        except (OSError, ValueError) as error:  # an OSError if another process removes the file, for example
            reading.problems.append(f"{printable(path.name)}: {error}")
    return reading


def _read_records(path: Path, reading: Reading) -> None:
    """Add the records of a file to `reading`. Stops reading if too many lines of the file are not records."""
    skipped = 0
    for number, line in enumerate(_lines(path), 1):
        try:
            reading.records.append(Record.from_json(parse(line)))
            continue
        except RecordError as error:
            reading.problems.append(f"{printable(path.name)}:{number}: {error}")
        except ValueError:
            reading.torn_lines += 1
        skipped += 1
        if skipped == MAX_SKIPPED_LINES:
            reading.problems.append(
                f"{printable(path.name)}:{number}: {skipped} lines are not records, so the rest of the file is not read"
            )
            return


def latest(run: Path) -> dict[tuple[str, str], Record]:
    """Return the latest record of each cell, keyed by `cell_key`. Records of the A/A control are ignored."""
    every_device = measures_on_every_device(_manifest_or_empty(run))
    return {
        cell_key(record.device, record.cell_id, every_device=every_device): record
        for record in read_run(run).records
        if not record.control
    }


def load_warnings(run: Path) -> list[str]:
    """Return sentences that say why cells of a run have no verdict, if others had the cores while they were timed."""
    timed = [record for record in latest(run).values() if record.status == "ok"]
    return disturbance.load_warnings(CellLoad.of(record.variant, record.telemetry_blocks) for record in timed)


def measures_on_every_device(manifest: Mapping[str, Any]) -> bool:
    """Return whether each device of a run measured all cells. In older versions, each device always did."""
    return bool(manifest.get("every_device", True))


def cell_key(device: str, cell_id: str, *, every_device: bool) -> tuple[str, str]:
    """Return a cell's key within its run: its device and its id.

    The device is left empty if devices of the same model share the cells.
    """
    return (device if every_device else "", cell_id)


def statuses(run: Path) -> dict[str, int]:
    """Return the number of a run's cells with each status, according to the latest record of each cell."""
    return dict(Counter(record.status for record in latest(run).values()))


def list_runs(results: Path) -> list[Path]:
    """Return the runs in a results folder, oldest first by the start time in their manifests.

    Runs whose start is unknown come first.
    """
    found = [path.parent for path in results.glob(f"*/{MANIFEST}")]
    return sorted(found, key=lambda run: (_started_at(run), run.name))


def find_run(results: Path, run: str | None = None) -> Path:
    """Return the folder of a run, which is given by path or by name under `results`. None means the latest run.

    Raises UsageError if there is no such run.
    """
    if run is None:
        runs = list_runs(results)
        if not runs:
            raise UsageError(f"no run in {str(results)!r}: make one with `attnbench run`, or name the folder of a run")
        return runs[-1]
    for candidate in (Path(run), results / run):
        if (candidate / MANIFEST).is_file():
            return candidate
    raise unknown("run", run, [path.name for path in list_runs(results)])


def declared_baseline(manifest: Mapping[str, Any]) -> str | None:
    """Return the variant that a run's manifest marks as baseline, or the first by name if it marks several.

    Returns None if the manifest marks no variant, as in older versions. In that case the baseline is the variant that
    has an A/A control.
    """
    described = mapping(manifest.get("variants")).items()
    return min((name for name, facts in described if mapping(facts).get("baseline") is True), default=None)


def plugin_arguments(manifest: Mapping[str, Any]) -> list[str]:
    """Return the `--plugin` arguments of a run.

    Raises UsageError if an argument is the path of a file inside a run's folder. A run may have been copied from
    another machine, and code that is copied along with it must not be executed.
    """
    given = manifest.get("plugin_arguments", [])
    if not isinstance(given, list) or not all(isinstance(plugin, str) for plugin in given):
        raise UsageError("the run's plugin_arguments are not a list of strings")
    for plugin in given:
        path = Path(plugin).resolve()
        if any((folder / MANIFEST).is_file() for folder in (path, *path.parents)):
            raise UsageError(
                f"the run names plugin {plugin!r}, which is not loaded, because it is inside a run's folder"
            )
    return given


def _regular_file(path: Path) -> Path:
    """Return the path if it is a regular file.

    Raises ValueError otherwise, e.g. for a pipe, or for a symbolic link, which could point outside the run's folder.
    """
    if path.is_symlink() or not path.is_file():
        raise ValueError(f"{printable(path.name)} is not a regular file")
    return path


def _started_at(run: Path) -> datetime:
    return moment(str(_manifest_or_empty(run).get("started_at"))) or datetime.min.replace(tzinfo=UTC)


def _manifest_or_empty(run: Path) -> dict[str, Any]:
    try:
        return read_manifest(run)
    except UsageError:
        return {}


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE_BYTES):
            if line.strip():
                yield line
