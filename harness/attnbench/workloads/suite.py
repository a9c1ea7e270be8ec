"""Suites: named lists of workloads, read from TOML files."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from attnbench.errors import UsageError, WorkloadError, unknown
from attnbench.workloads.batch_spec import parse_batch_spec
from attnbench.workloads.toml_source import SuiteSource, read_toml
from attnbench.workloads.workload import AXES, Workload

MAX_WORKLOADS = 10_000  # in one grid
BUILT_IN = Path(__file__).parent / "suites"
NOTES = ("title", "source")  # keys of a grid that are not axes
KEYS = ("name", "description", "source", "budget", "frontier", "defaults", "grid")
SHORTHANDS = {  # key: name of a shorthand; value: the fields that it sets
    "seq": ("seq_q", "seq_k"),
    "batch_spec": ("batch", "seq", "seq_q", "seq_k"),
}


@dataclass(frozen=True)
class Grid:
    """The workloads of one grid of a suite.

    `title` names the model that has these workloads, and `source` is the document that gives its shape. `origin` is the
    source of the suite, and `index` is the position of the grid in the suite.
    """

    title: str
    source: str
    workloads: tuple[Workload, ...]
    origin: SuiteSource | None = None
    index: int = 0

    @property
    def where(self) -> str:
        """The file and line of the grid, or an empty string if the grid was not read from a file."""
        return "" if self.origin is None or self.origin.text is None else self.origin.at("grid", self.index)


@dataclass(frozen=True)
class Suite:
    """A named list of workloads: those of its grids, in order and without duplicates.

    `budget_s` is the default sampling time of a cell in seconds, or None if the suite does not set it. If `frontier` is
    true, a run also searches for the largest length at which each variant fits in memory. The search starts from the
    workloads of the suite.
    """

    name: str
    description: str
    grids: tuple[Grid, ...]
    source: str = ""
    budget_s: float | None = None
    frontier: bool = False

    @cached_property
    def workloads(self) -> tuple[Workload, ...]:
        """The workloads of all grids, without duplicates."""
        return tuple(dict.fromkeys(workload for grid in self.grids for workload in grid.workloads))


def parse_suite(table: Mapping[str, Any], where: str | SuiteSource) -> Suite:
    """Build a suite from a parsed TOML table.

    Raises UsageError if the table is not a valid suite. `where` says where the table came from and is included in the
    error message.

    The keys of the table are `name`, `description`, `source`, `budget` (the sampling time per cell in seconds),
    `frontier` (true to search for the largest length that fits in memory), `defaults` (values for all grids) and `grid`
    (a list of tables). A grid can have these keys:

    - any axis, with a value or a list of values; the workloads of the grid are all combinations of the values
    - `seq`, which sets seq_q and seq_k
    - `batch_spec` (such as '2q2k_32q1s1k'), which sets batch, seq_q and seq_k; each segment defines one workload, which
      is causal unless the grid has a `mask`
    - `title`, the name of the model with these shapes, and `source`, the document that gives them
    """
    source = where if isinstance(where, SuiteSource) else SuiteSource(where)
    for key in table:
        if key not in KEYS:
            raise UsageError(f"{source.at(key)}: {unknown('key', key, KEYS)}")
    name = table.get("name")
    if not isinstance(name, str) or not name:
        raise UsageError(f'{source.at("name")}: a suite needs a name, a string: write name = "my-suite" at the top')
    defaults = table.get("defaults", {})
    if not isinstance(defaults, Mapping):
        raise UsageError(f"{source.at('defaults')}: defaults is {defaults!r}: expected a table, [defaults]")
    _check_axes(defaults, source, ("defaults",))
    grids = table.get("grid", [])
    if not isinstance(grids, list) or not grids or not all(isinstance(grid, Mapping) for grid in grids):
        raise UsageError(f"{source.at('grid')}: suite {name!r} has no [[grid]]: give it at least one")
    parsed = tuple(_parse_grid(grid, defaults, source, index) for index, grid in enumerate(grids))
    frontier = table.get("frontier", False)
    if not isinstance(frontier, bool):
        raise UsageError(f"{source.at('frontier')}: frontier is {frontier!r}: expected true or false")
    budget, description = _budget(table, source), str(table.get("description", ""))
    return Suite(name, description, parsed, str(table.get("source", "")), budget, frontier)


def _budget(table: Mapping[str, Any], source: SuiteSource) -> float | None:
    seconds = table.get("budget")
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < math.inf:
        raise UsageError(f"{source.at('budget')}: budget is {seconds!r}: expected seconds above 0")
    return float(seconds)


def expand(grid: Mapping[str, Any], where: str) -> list[Workload]:
    """Return all combinations of a grid's axes as workloads.

    Raises UsageError if an axis is unknown or a value is not valid. `where` says where the grid came from and is
    included in the error message.
    """
    source = SuiteSource(where)
    _check_axes(grid, source, ())
    return _expand(grid, source, ())


def read_suite(path: Path) -> Suite:
    """Read a suite from a TOML file. Raises UsageError if the file can't be read or is not a valid suite."""
    return parse_suite(*read_toml(path))


def built_in_suites() -> dict[str, Suite]:
    """Return the suites that come with attnbench, by name."""
    suites = (read_suite(path) for path in sorted(BUILT_IN.glob("*.toml")))
    return {suite.name: suite for suite in suites}


def choose_suites(chosen: Sequence[str], offered: Iterable[tuple[str, Suite]] = ()) -> list[Suite]:
    """Return the suites that a user chose by name or by the path of a TOML file.

    `offered` contains pairs of a plugin's name and a suite that the plugin offers. Raises UsageError if a suite is
    unknown or not valid. Also raises UsageError if two suites have the same name, because a record could then belong to
    either of them.
    """
    known = built_in_suites()
    origins = dict.fromkeys(known, "attnbench itself")
    for origin, suite in offered:
        _add(suite, f"plugin {origin}", f"plugin {origin}", known, origins)
    suites = []
    for choice in dict.fromkeys(chosen):
        if is_file(choice):
            table, source = read_toml(Path(choice))
            suite = parse_suite(table, source)
            _add(suite, choice, source.at("name"), known, origins)
        elif choice in known:
            suite = known[choice]
        else:
            raise UsageError(f"{unknown('suite', choice, known)} (to use a file, give its path, ending in .toml)")
        suites.append(suite)
    return suites


def is_file(choice: str) -> bool:
    """Return whether a user's choice is the path of a suite file rather than the name of a suite."""
    return choice.endswith(".toml") or "/" in choice


def _add(suite: Suite, origin: str, where: str, known: dict[str, Suite], origins: dict[str, str]) -> None:
    if suite.name in known:
        raise UsageError(
            f"{where}: the name {suite.name!r} is already used by a suite of {origins[suite.name]}: choose another name"
        )
    known[suite.name] = suite
    origins[suite.name] = origin


def _parse_grid(grid: Mapping[str, Any], defaults: Mapping[str, Any], source: SuiteSource, index: int) -> Grid:
    _check_axes(grid, source, ("grid", index))
    kept = {
        key: value for key, value in defaults.items() if not any(key in SHORTHANDS.get(given, ()) for given in grid)
    }
    merged = {**kept, **grid}
    workloads = tuple(dict.fromkeys(_expand(merged, source, ("grid", index))))
    return Grid(str(merged.get("title", "")), str(merged.get("source", "")), workloads, source, index)


def _check_axes(grid: Mapping[str, Any], source: SuiteSource, path: tuple[str | int, ...]) -> None:
    for key, value in grid.items():
        problem = _problem_with(key, value, grid)
        if problem:
            raise UsageError(f"{source.at(*path, key)}: {problem}")


def _problem_with(key: str, value: Any, grid: Mapping[str, Any]) -> str | None:
    if key in NOTES:
        return None if isinstance(value, str) else f"{key} is {value!r}: expected a string"
    if key not in AXES and key not in SHORTHANDS:
        return str(unknown("axis", key, (*AXES, *SHORTHANDS, *NOTES)))
    if value == []:
        return f"axis {key!r} is empty: give it at least one value"
    clash = next((axis for axis in SHORTHANDS["batch_spec"] if axis in grid), None)
    if key == "batch_spec" and clash:
        return f"batch_spec also sets {clash}: give only one of the two"
    return None


def _expand(grid: Mapping[str, Any], source: SuiteSource, path: tuple[str | int, ...]) -> list[Workload]:
    axes = {key: value if isinstance(value, list) else [value] for key, value in grid.items() if key not in NOTES}
    combinations = math.prod(map(len, axes.values()))
    if combinations > MAX_WORKLOADS:
        raise UsageError(f"{source.at(*path)}: {combinations} combinations of values: expected at most {MAX_WORKLOADS}")
    workloads: list[Workload] = []
    for values in itertools.product(*axes.values()):
        fields = dict(zip(axes, values, strict=True))
        try:
            workloads.extend(_timeable(Workload.from_json(full)) for full in _spell_out(fields))
        except WorkloadError as error:
            raise UsageError(f"{_place_of(error.field, axes, source, path)}: {error}") from None
    return workloads


def _timeable(workload: Workload) -> Workload:
    """Return the workload, or raise WorkloadError if it is empty. Only conformance checks use empty workloads."""
    for name in ("batch", "seq_q", "seq_k"):
        if getattr(workload, name) == 0:
            message = f"{name} is 0: expected a whole number of at least 1, because an empty workload can't be timed"
            raise WorkloadError(message, field=name)
    return workload


def _place_of(field: str | None, axes: Collection[str], source: SuiteSource, path: tuple[str | int, ...]) -> str:
    """Return the location, in the grid or in the suite's defaults, of the axis that set a field.

    Returns the location of the grid if no such axis is found.
    """
    setters = [*([field] if field else []), *(axis for axis, fields in SHORTHANDS.items() if field in fields)]
    culprit = next((axis for axis in setters if axis in axes), None)
    for place in ((*path, culprit), ("defaults", culprit)) if culprit else ():
        if source.line(*place) is not None:
            return source.at(*place)
    return source.at(*path)


def _spell_out(fields: dict[str, Any]) -> list[dict[str, Any]]:
    """Replace the shorthands `seq` and `batch_spec` with the fields that they set, and return one dict per workload."""
    fields = dict(fields)
    if "seq" in fields:
        length = fields.pop("seq")
        fields = {"seq_q": length, "seq_k": length, **fields}
    if "batch_spec" not in fields:
        return [fields]
    requests = parse_batch_spec(str(fields.pop("batch_spec")))
    return [{"mask": "causal", **fields, "batch": r.batch, "seq_q": r.seq_q, "seq_k": r.seq_k} for r in requests]
