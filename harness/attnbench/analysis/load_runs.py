"""Load runs into a pandas frame with one row per record, including numbers derived from the record's samples."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa

from attnbench.analysis.digest import (
    BASELINE,
    DERIVED,
    DISTURBED_BLOCKS,
    JSON_LISTS,
    JSON_OBJECTS,
    NUMBER_LISTS,
    PROBLEMS,
    RUN,
    SCHEMA,
    TORN_LINES,
)
from attnbench.analysis.digest_cache import digests
from attnbench.errors import UsageError
from attnbench.record import FIELDS, SUSPECT
from attnbench.store import MANIFEST
from attnbench.workloads.workload import AXES, Workload

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
UNCHECKED = "unchecked"  # the flag of imported records, whose outputs were not checked
NOT_RANKED = frozenset({UNCHECKED, SUSPECT})  # flags of records that have times but may not be ranked
WORKLOAD_FIELDS = tuple(spec.name for spec in dataclasses.fields(Workload))
COLUMNS = (*FIELDS, "run", "workload_id", DISTURBED_BLOCKS, *DERIVED, "speedup", *WORKLOAD_FIELDS)
# The fields that identify a problem. Two variants are compared only if they were measured on the same problem.
PROBLEM = ["environment_id", "device_name", "workload_id", "mode"]
NO_SAMPLES = array("d")  # shared by all rows without samples, to save memory
NULLABLE = tuple(name for name, axis in AXES.items() if axis.default is None)  # workload fields that may be None


class JsonText(Mapping[str, Any]):
    """A JSON object that is parsed anew on each access, because a million parsed objects would not fit in memory."""

    __slots__ = ("_index", "_texts")

    def __init__(self, texts: pa.Array, index: int) -> None:
        self._texts, self._index = texts, index

    def __getitem__(self, name: str) -> Any:
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __repr__(self) -> str:
        return repr(self._read())

    def _read(self) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(self._texts[self._index].as_py())
        return found


def read_frame(runs: Sequence[Path]) -> pd.DataFrame:
    """Read runs into a frame with the columns COLUMNS. `speedup` is NaN, because the baseline is not known yet."""
    return to_frame(digests(runs)).assign(speedup=math.nan)[list(COLUMNS)]


def find_runs(path: Paths) -> list[Path]:
    """Return the folders of all runs in one or more folders.

    Each folder in `path` is the folder of a run, or contains runs at any depth. The result follows the order of `path`.
    Runs within one folder are sorted by path. Raises UsageError if a folder contains no run.
    """
    found: dict[Path, None] = {}
    for start in map(Path, [path] if isinstance(path, (str, os.PathLike)) else path):
        under = [start] if (start / MANIFEST).is_file() else sorted(file.parent for file in start.rglob(MANIFEST))
        if not under:
            raise UsageError(
                f"no run in {str(start)!r}: expected the folder of a run, which has a {MANIFEST}, or a folder of runs"
            )
        found.update(dict.fromkeys(under))
    return list(found)


def to_frame(tables: Sequence[pa.Table]) -> pd.DataFrame:
    """Join digests into one frame, in which each row has its workload both as an object and as columns."""
    table = pa.concat_tables([SCHEMA.empty_table(), *(digest.replace_schema_metadata() for digest in tables)])
    skipped = dict(filter(None, map(_skipped, tables)))
    columns: dict[str, Any] = {}
    # Convert one column at a time, and release its memory before converting the next.
    for name in table.column_names:
        columns[name] = _column(name, table.column(name).combine_chunks())
        table = table.drop_columns(name)
    frame = pd.DataFrame(columns | _workloads(columns["workload_id"]))
    frame.attrs["skipped"] = skipped
    declared = {digest.schema.metadata[BASELINE].decode() for digest in tables}
    frame.attrs["baselines"] = sorted(declared - {""})
    return frame


def _column(name: str, values: Any) -> Any:
    if name in JSON_OBJECTS:
        valid = values.is_valid().to_numpy(zero_copy_only=False)
        return _objects([JsonText(values, index) if known else None for index, known in enumerate(valid)])
    if name in JSON_LISTS:
        places, distinct = pd.factorize(values.to_pandas())
        parsed = _objects([*(tuple(orjson.loads(text)) for text in distinct), None])
        return parsed[places]  # a missing value has index -1, which selects the None at the end
    if name in NUMBER_LISTS:
        return _objects(_lists(values))
    return values.to_pandas()


def _workloads(ids: pd.Series) -> dict[str, Any]:
    """Return the columns that describe the workloads with these ids.

    Each distinct id is parsed only once, because there are far fewer workloads than rows.
    """
    places, distinct = pd.factorize(ids)
    found = [Workload.parse(text) for text in distinct]
    fields = pd.DataFrame([workload.to_json() for workload in found], columns=list(WORKLOAD_FIELDS))
    numbers = fields.astype(dict.fromkeys(NULLABLE, float))
    rows = numbers.take(places).reset_index(drop=True)
    return {"workload": _objects(found)[places]} | {str(name): rows[name] for name in rows}


def _lists(values: Any) -> list[Any]:
    """Return the list of numbers in each row, in compact form.

    Lists of floats become arrays. Lists of integers become tuples, and equal lists share one tuple.
    """
    flat = values.values.to_numpy()  # noqa: PD011 - this is an Arrow array, not a pandas object
    data = memoryview(flat).cast("B")
    edges = (values.offsets.to_numpy() * flat.itemsize).tolist()
    rows = (data[start:end].tobytes() for start, end in itertools.pairwise(edges))
    if flat.dtype.kind == "f":
        return [array("d", row) if row else NO_SAMPLES for row in rows]
    made: dict[bytes, tuple[int, ...]] = {}
    return [made[row] if row in made else made.setdefault(row, tuple(array("q", row))) for row in rows]


def _objects(values: Sequence[Any]) -> np.ndarray[Any, Any]:
    return np.fromiter(values, dtype=object, count=len(values))


def _skipped(digest: pa.Table) -> tuple[str, dict[str, int]] | None:
    """Return the run's name, and how many of its lines are half-written or do not fit the record schema.

    Returns None if every line is a record.
    """
    metadata = digest.schema.metadata
    counts = {name.decode(): int(metadata[name]) for name in (TORN_LINES, PROBLEMS)}
    return (metadata[RUN].decode(), counts) if any(counts.values()) else None
