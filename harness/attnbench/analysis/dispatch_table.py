"""The dispatch table, which lists the fastest correct variant for each region of shapes, and the gain from using it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from attnbench.analysis.series import SETTING as SERIES
from attnbench.analysis.series import TITLE, series
from attnbench.errors import UsageError, WorkloadError, describe
from attnbench.untrusted import mapping, parse
from attnbench.workloads.workload import AXES

if TYPE_CHECKING:
    import pandas as pd

    from attnbench.analysis.results import Results

SCHEMA = 1
# A region applies only to shapes with the same values in the EXACT fields. If several regions apply to a shape, the one
# with the nearest length and the nearest values in the NEAR fields is chosen.
EXACT = ("mode", *TITLE, *(name for name, axis in AXES.items() if axis.exact and name not in TITLE), "form")
NEAR = tuple(name for name, axis in AXES.items() if axis.near)
SETTING = ("device_name", *NEAR, *EXACT)
DEFAULTS = {"mode": "hot", "form": "self", **{name: axis.default for name, axis in AXES.items() if axis.is_optional}}
COLUMNS = ["variant", "workload_id", "length", "latency_ms", "leads", *SETTING]
FOLDS = 5  # number of folds in the cross-validation


Length = Annotated[int, msgspec.Meta(ge=1)]


@dataclass(frozen=True)
class Region:
    """A range of lengths in one setting, and the variant to use for these lengths.

    A variant leads on a shape if it is the fastest or ties for first place. `variant` leads on all measured shapes of
    the region. `order` ranks all variants that were measured in the region, best first, and `tied` names the other
    variants that lead on at least one shape. `margin` is the latency of the fastest variant that does not lead, divided
    by the latency of `variant` (the median over the shapes, or None if all variants lead on all shapes). `shapes` is
    the number of measured shapes, and `clear` is the number of shapes on which a single variant leads. `setting` maps
    the names in SETTING to values.
    """

    variant: str
    order: tuple[str, ...]
    tied: tuple[str, ...]
    margin: float | None
    shapes: int
    clear: int
    length_from: Length
    length_to: Length
    setting: Mapping[str, Any]


@dataclass(frozen=True)
class DispatchGain:
    """The speed-up from following the dispatch table instead of always using the variant `over`.

    It is measured on shapes that were left out when the table was made. `worst` is the smallest speed-up on any shape.
    """

    over: str
    shapes: int
    gain: float  # geometric mean of the speed-ups on all shapes
    worst: float

    def __str__(self) -> str:
        """Return the gain as one sentence."""
        return (
            f"Following the dispatch table is {self.gain:.2f}x as fast as always using {self.over}"
            f" (geometric mean over {self.shapes} shapes, each left out of the table that chose its variant;"
            f" worst {self.worst:.2f}x)."
        )


def regions(results: Results) -> list[Region]:
    """Return the regions of the dispatch table.

    Neighbouring lengths of one setting form a region if the same variant leads at all of them.
    """
    return [region for setting in _settings(_dispatchable(results.ranked)) for region in _regions(setting)]


def _dispatchable(ranked: pd.DataFrame) -> pd.DataFrame:
    """Return those of the ranked records from which the dispatch table is made.

    These are the records that measure attention without a layer, in the default layout, on default inputs and on one
    device.
    """
    for name, axis in AXES.items():
        if axis.surrounds:
            ranked = ranked[ranked[name] == axis.default]
    return ranked


def to_json(table: Iterable[Region], warnings: Sequence[str] = ()) -> dict[str, Any]:
    """Return a dispatch table as JSON values, with the warnings of the results from which it was made."""
    return {"schema": SCHEMA, "warnings": list(warnings), "regions": [_row(region) for region in table]}


def read_table(path: Path) -> list[Region]:
    """Read a dispatch table from a file. Raises UsageError if the file can't be read or does not hold a table."""
    try:
        content = parse(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"dispatch table {str(path)!r} can't be read: {describe(error)}") from None
    return from_json(mapping(content))


def from_json(table: Mapping[str, Any]) -> list[Region]:
    """Create a dispatch table from the JSON values that `to_json` returns.

    Raises UsageError if the values have a different schema version or do not fit the schema.
    """
    if table.get("schema") != SCHEMA:
        raise UsageError(
            f"dispatch table has schema {table.get('schema')!r}: expected {SCHEMA}; create the table again"
        )
    try:
        return [_region_of({**DEFAULTS, **row}) for row in table["regions"]]
    except (TypeError, KeyError, AttributeError, WorkloadError, msgspec.ValidationError) as error:
        raise UsageError(f"dispatch table does not fit schema {SCHEMA}: {error}") from None


def _row(region: Region) -> dict[str, Any]:
    row = dataclasses.asdict(region)
    return {**row.pop("setting"), **row}


def _region_of(row: Mapping[str, Any]) -> Region:
    outcome = {spec.name: row[spec.name] for spec in dataclasses.fields(Region) if spec.name != "setting"}
    setting = {name: AXES[name].check(row[name]) if name in NEAR else row[name] for name in SETTING}
    return msgspec.convert({**outcome, "setting": setting}, Region)


def pick(table: Sequence[Region], shape: Mapping[str, Any]) -> Region | None:
    """Return the region nearest to a shape, or None if no region matches the shape in the EXACT fields.

    `shape` maps `length` and the names in EXACT and NEAR to values. The distance is the sum of the absolute differences
    between the base-2 logarithms of length, batch, heads and kv_heads. A length within the region's range adds nothing
    to the distance.
    """
    alike = [region for region in table if all(_same(region.setting[name], shape[name]) for name in EXACT)]
    return min(alike, key=lambda region: _distance(region, shape), default=None)


def dispatch_gains(results: Results, over: str) -> dict[str, DispatchGain]:
    """Return, for each device name, the speed-up from following a dispatch table instead of always using `over`.

    The speed-up is cross-validated: each fifth of the shapes is tested with a table made from the other shapes. Cells
    that others disturbed are left out, because their times are no evidence.
    """
    by_device: dict[str, list[list[Shape]]] = {}
    for setting in _settings(_dispatchable(results.evidence)):
        by_device.setdefault(setting[0].setting["device_name"], []).append(setting)
    found = {}
    for device, settings in sorted(by_device.items()):
        ids = sorted({shape.workload_id for setting in settings for shape in setting})
        folds = [set(ids[fold::FOLDS]) for fold in range(min(FOLDS, len(ids)))]
        ratios = [ratio for held in folds for ratio in _held_out(settings, held, over)]
        if ratios:
            mean = math.fsum(map(math.log, ratios)) / len(ratios)
            found[device] = DispatchGain(over, len(ratios), math.exp(mean), min(ratios))
    return found


@dataclass(frozen=True)
class Shape:
    """One measured workload: its setting, its length, and the latency of each variant in ms, fastest first."""

    workload_id: str
    setting: Mapping[str, Any]
    length: int
    latencies: Mapping[str, float]
    leaders: frozenset[str]  # the fastest variant and every variant that can't be shown to be slower
    behind: float | None  # latency of the fastest variant that is not a leader, in ms; None if all are leaders


def _settings(ranked: pd.DataFrame) -> list[list[Shape]]:
    """Return the shapes of each series, sorted by length.

    Shapes hold plain Python values, because pandas is slow on frames with only a few rows.
    """
    found = []
    needed = {*SERIES, *COLUMNS, "seq_q", "seq_k"}
    for line in series(ranked[[name for name in ranked.columns if name in needed]]):
        cells: dict[tuple[int, str], list[dict[str, Any]]] = {}
        for cell in line.frame.sort_values("latency_ms", kind="stable")[COLUMNS].to_dict("records"):
            cells.setdefault((cell["length"], cell["workload_id"]), []).append({str(k): v for k, v in cell.items()})
        found.append([_shape(cells[key]) for key in sorted(cells)])
    return sorted(found, key=lambda shapes: [str(value) for value in shapes[0].setting.values()])


def _shape(cells: list[dict[str, Any]]) -> Shape:
    first = cells[0]
    latencies: dict[str, float] = {}
    for cell in cells:
        latencies.setdefault(cell["variant"], cell["latency_ms"])
    return Shape(
        workload_id=first["workload_id"],
        setting={name: _plain(first[name]) for name in SETTING},
        length=first["length"],
        latencies=latencies,
        leaders=frozenset(cell["variant"] for cell in cells if cell["leads"]),
        behind=next((cell["latency_ms"] for cell in cells if not cell["leads"]), None),
    )


def _regions(shapes: Sequence[Shape]) -> list[Region]:
    found = []
    while shapes:
        count = _joinable(shapes)
        found.append(_region(shapes[:count]))
        shapes = shapes[count:]
    return found


def _joinable(shapes: Sequence[Shape]) -> int:
    """Return the largest n for which the first n shapes all have a leader in common."""
    common = shapes[0].leaders
    for index, shape in enumerate(shapes):
        common &= shape.leaders
        if not common:
            return index
    return len(shapes)


def _region(shapes: Sequence[Shape]) -> Region:
    common = frozenset.intersection(*(shape.leaders for shape in shapes))
    logs: dict[str, list[float]] = {}
    for shape in shapes:
        for name, latency in shape.latencies.items():
            logs.setdefault(name, []).append(math.log(latency))
    order = sorted(logs, key=lambda name: (name not in common, -len(logs[name]), fmean(logs[name]), name))
    margins = [shape.behind / shape.latencies[order[0]] for shape in shapes if shape.behind is not None]
    return Region(
        variant=order[0],
        order=tuple(order),
        tied=tuple(sorted(frozenset.union(*(shape.leaders for shape in shapes)) - {order[0]})),
        margin=median(margins) if margins else None,
        shapes=len(shapes),
        clear=sum(len(shape.leaders) == 1 for shape in shapes),
        length_from=min(shape.length for shape in shapes),
        length_to=max(shape.length for shape in shapes),
        setting=shapes[0].setting,
    )


def _held_out(settings: Sequence[Sequence[Shape]], held: set[str], over: str) -> list[float]:
    """Return the speed-up from following a dispatch table, for each shape whose workload is in `held`.

    The table is made from all other shapes. The speed-up is the latency of `over` divided by the latency of the variant
    that the table chooses. Shapes on which either variant was not measured are left out.
    """
    kept = [[shape for shape in setting if shape.workload_id not in held] for setting in settings]
    # Group the regions by the values of the EXACT fields, so that only those that can apply to a shape are searched.
    alike: dict[tuple[Any, ...], list[Region]] = {}
    for region in (region for setting in kept if setting for region in _regions(setting)):
        alike.setdefault(tuple(region.setting[name] for name in EXACT), []).append(region)
    ratios = []
    for shape in (shape for setting in settings for shape in setting if shape.workload_id in held):
        candidates = alike.get(tuple(shape.setting[name] for name in EXACT), [])
        nearest = pick(candidates, {**shape.setting, "length": shape.length})
        chosen = next((name for name in nearest.order if name in shape.latencies), None) if nearest else None
        if chosen and over in shape.latencies:
            ratios.append(shape.latencies[over] / shape.latencies[chosen])
    return ratios


def _distance(region: Region, shape: Mapping[str, Any]) -> float:
    length = max(1, shape["length"])
    outside = max(region.length_from / length, length / region.length_to, 1.0)
    near = sum(abs(math.log2(max(1, region.setting[name]) / max(1, shape[name]))) for name in NEAR)
    return math.log2(outside) + near


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if value is None or value != value else value  # noqa: PLR0124 - only NaN differs from itself


def _same(one: Any, other: Any) -> bool:
    return bool(_plain(one) == _plain(other))
