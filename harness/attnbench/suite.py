"""A named list of workloads, read from a TOML file."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnbench.errors import UsageError, WorkloadError, unknown
from attnbench.workload import Workload

BUILT_IN = Path(__file__).parent / "suites"
AXES = (
    "batch", "heads", "kv_heads", "seq", "seq_q", "seq_k", "head_dim", "head_dim_v",
    "dtype", "mask", "direction", "scale", "softcap", "alibi", "dropout",
)  # fmt: skip
NOTES = ("title", "source")


@dataclass(frozen=True)
class Suite:
    """A named list of workloads: the union, in order and without repeats, of its grids."""

    name: str
    description: str
    workloads: tuple[Workload, ...]
    source: str = ""


def parse_suite(table: Mapping[str, Any], where: str) -> Suite:
    """Build a suite from a table as TOML gives it; `where` names its origin in errors. Raises UsageError.

    Keys: `name`, `description`, `source`, `defaults` (a grid that each grid starts from), `grid` (a list of tables).
    In a grid each axis is a value or a list of values, and all combinations are taken; `seq` sets seq_q and seq_k.
    """
    for key in table:
        if key not in ("name", "description", "source", "defaults", "grid"):
            raise UsageError(f"{where}: {unknown('key', key, ('name', 'description', 'source', 'defaults', 'grid'))}")
    name = table.get("name")
    if not isinstance(name, str) or not name:
        raise UsageError(f"{where}: a suite needs a name, a text")
    grids = table.get("grid") or []
    if not grids:
        raise UsageError(f"{where}: suite {name!r} has no [[grid]]: give it at least one")
    workloads: dict[Workload, None] = {}
    for number, grid in enumerate(grids, 1):
        place = f"{where}: grid {number}"
        workloads.update(dict.fromkeys(expand({**table.get("defaults", {}), **grid}, place)))
    return Suite(name, str(table.get("description", "")), tuple(workloads), str(table.get("source", "")))


def expand(grid: Mapping[str, Any], where: str) -> list[Workload]:
    """Take all combinations of a grid's axes; raises UsageError that starts with `where`."""
    axes: dict[str, list[Any]] = {}
    for key, value in grid.items():
        if key in NOTES:
            continue
        if key not in AXES:
            raise UsageError(f"{where}: {unknown('axis', key, AXES)}")
        axes[key] = value if isinstance(value, list) else [value]
        if not axes[key]:
            raise UsageError(f"{where}: axis {key!r} is empty: give it at least one value")
    workloads = []
    for values in itertools.product(*axes.values()):
        fields = dict(zip(axes, values, strict=True))
        if "seq" in fields:
            fields.setdefault("seq_q", fields["seq"])
            fields.setdefault("seq_k", fields["seq"])
            del fields["seq"]
        try:
            workloads.append(Workload.from_json(fields))
        except WorkloadError as error:
            raise UsageError(f"{where}: {error}") from None
    return workloads


def read_suite(path: Path) -> Suite:
    """Read a suite's TOML file; raises UsageError that names file and, where TOML knows it, the line."""
    try:
        return parse_suite(tomllib.loads(path.read_text(encoding="utf-8")), str(path))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: can't be read: {error}") from None


def built_in_suites() -> dict[str, Suite]:
    """Read the suites that come with attnbench, by name."""
    suites = (read_suite(path) for path in sorted(BUILT_IN.glob("*.toml")))
    return {suite.name: suite for suite in suites}
