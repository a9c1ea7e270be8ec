"""Digests of runs: Arrow tables with one row per record, including numbers derived from the record's raw samples."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa

from attnbench.record import FIELDS, Record
from attnbench.stats.disturbance import DISTURBED, CellLoad, causes, exceeds_limit, is_throttled
from attnbench.stats.interval import median_interval
from attnbench.stats.roofline import Peaks
from attnbench.store import declared_baseline, read_manifest, read_run
from attnbench.untrusted import mapping

if TYPE_CHECKING:
    from attnbench.workloads.workload import Workload

DISTURBED_BLOCKS = "block_disturbed"  # 1 for each block in which others had the cores, and 0 for each other block
NUMBER_LISTS = {
    **dict.fromkeys(("samples_ns", "cold_samples_ns"), pa.large_list(pa.float64())),
    **dict.fromkeys(("block_sizes", "block_rounds", "block_processes", DISTURBED_BLOCKS), pa.large_list(pa.int64())),
}
# Lists of strings, stored as JSON text. Each distinct text is parsed only once, which is fast because there are few.
JSON_LISTS = ("kernels", "flags")
JSON_OBJECTS = ("error", "telemetry")  # stored as JSON because their structure varies and they are rarely read
TYPES = {  # the Arrow type of each field of a record
    **dict.fromkeys(FIELDS, pa.large_string()),
    **dict.fromkeys(("control", "exact"), pa.bool_()),
    **dict.fromkeys(("schema", "peak_bytes", "saved_bytes", "harness_bytes", "flops", "bytes"), pa.int64()),
    **NUMBER_LISTS,
    "first_call_ns": pa.float64(),
}
DERIVED = (
    "latency_ms", "latency_low_ms", "latency_high_ms", "samples", "tflops", "gbps", "error_ratio", "error_max_abs",
    "roofline_pct", "power_w", "energy_mj", "throttled_share",
    "disturbed_share", "cores_used",
)  # fmt: skip
SCHEMA = pa.schema(
    [(name, TYPES[name]) for name in FIELDS if name != "workload"]
    + [(name, pa.large_string()) for name in ("run", "workload_id")]
    + [(DISTURBED_BLOCKS, NUMBER_LISTS[DISTURBED_BLOCKS])]
    + [(name, pa.float64()) for name in DERIVED]
)
# The keys of a table's metadata. Their values are the run's name, the number of half-written lines, the number of lines
# that do not fit the record schema, and the baseline that the manifest declares (empty if it declares none).
RUN, TORN_LINES, PROBLEMS, BASELINE = b"run", b"torn_lines", b"problems", b"baseline"


def digest(run: Path) -> pa.Table:
    """Read a run's records into a table. Raises UsageError if the run's manifest is missing or malformed."""
    manifest, reading = read_manifest(run), read_run(run)
    peaks = _peaks(manifest)
    name = run.name.encode(errors="replace").decode()  # a folder's name may contain bytes that are not valid UTF-8
    rows = [_row(record, name, peaks) for record in reading.records]
    metadata = {
        RUN: name,
        TORN_LINES: str(reading.torn_lines),
        PROBLEMS: str(len(reading.problems)),
        BASELINE: declared_baseline(manifest) or "",
    }
    return pa.Table.from_pylist(rows, SCHEMA.with_metadata(metadata))


def _row(record: Record, run: str, peaks: Mapping[tuple[str, str], Peaks]) -> dict[str, Any]:
    workload = record.workload
    row: dict[str, Any] = vars(record) | {"run": run, "workload_id": _workload_id(workload)}
    error = record.error or {}
    row.update(error_ratio=_number(error.get("worst_ratio")), error_max_abs=_number(error.get("max_abs")))
    blocks = record.telemetry_blocks
    row.update(_power_and_throttling(blocks), **_load(record, blocks))
    samples, sizes = _counted_samples(record, row[DISTURBED_BLOCKS])
    if samples:
        interval = median_interval(samples, block_sizes=sizes or None)
        row.update(
            samples=len(samples),
            latency_ms=interval.median / 1e6,
            latency_low_ms=interval.low / 1e6,
            latency_high_ms=interval.high / 1e6,
            tflops=None if record.flops is None else record.flops / interval.median / 1e3,
            gbps=None if record.bytes is None else record.bytes / interval.median,
            roofline_pct=_roofline_pct(record, interval.median / 1e9, peaks.get((record.device, workload.dtype))),
            energy_mj=_energy_mj(blocks, row["power_w"], interval.median),
        )
    return row | {name: _json(row[name]) for name in (*JSON_LISTS, *JSON_OBJECTS)}


def _load(record: Record, blocks: list[dict[str, Any]]) -> dict[str, Any]:
    """Return which blocks others disturbed, the share of such blocks, and the number of cores that the variant used.

    The flags include DISTURBED if too many blocks were disturbed, also for records of earlier versions.
    """
    if not blocks:
        return {DISTURBED_BLOCKS: ()}
    load = CellLoad.of(record.variant, blocks)
    disturbed = [bool(causes(block)) for block in blocks]
    flags = dict.fromkeys((*record.flags, *([DISTURBED] if exceeds_limit(disturbed) else [])))
    known = any(disturbed) and len(disturbed) == len(record.block_sizes)
    return {
        DISTURBED_BLOCKS: tuple(map(int, disturbed)) if known else (),
        "disturbed_share": load.disturbed_share,
        "cores_used": load.cores,
        "flags": tuple(flags),
    }


def _counted_samples(record: Record, disturbed: Sequence[int]) -> tuple[Sequence[float], Sequence[int]]:
    """Return the samples that the latency is computed from, and the number of samples in each block.

    These are the samples of undisturbed blocks, or all samples if too many blocks were disturbed.
    """
    samples, sizes = record.samples_ns or record.cold_samples_ns, record.block_sizes
    if not any(disturbed) or exceeds_limit(disturbed):
        return samples, sizes
    edges = itertools.pairwise(itertools.accumulate(sizes, initial=0))
    kept = [samples[start:end] for (start, end), is_disturbed in zip(edges, disturbed, strict=True) if not is_disturbed]
    return [*itertools.chain(*kept)], [len(block) for block in kept]


def _peaks(manifest: Mapping[str, Any]) -> dict[tuple[str, str], Peaks]:
    """Return the peak rates that a run measured, keyed by device and dtype. Malformed entries are left out."""
    found = {}
    for device, by_dtype in mapping(manifest.get("limits")).items():
        for dtype, fields in mapping(by_dtype).items():
            with contextlib.suppress(TypeError, ValueError, KeyError):
                found[str(device), str(dtype)] = Peaks.from_json(fields)
    return found


def _roofline_pct(record: Record, seconds: float, peaks: Peaks | None) -> float | None:
    """Return the speed of a call that takes `seconds`, as a percentage of the roofline.

    Returns None if the device's peak rates, the call's FLOPs or the call's bytes are unknown.
    """
    if peaks is None or record.flops is None or record.bytes is None:
        return None
    return 100 * peaks.share(record.flops, record.bytes, seconds)


def _power_and_throttling(blocks: list[dict[str, Any]]) -> dict[str, float | None]:
    """Return the mean power of all blocks in W, and the share of throttled blocks. Unknown values are None.

    Limits, such as those of power or temperature, kept the clocks down during a throttled block.
    """
    powers = [block["power_w"] for block in blocks if isinstance(block.get("power_w"), (int, float))]
    throttled = [is_throttled(block) for block in blocks if block.get("throttle") is not None]
    return {
        "power_w": sum(powers) / len(powers) if powers else None,
        "throttled_share": sum(throttled) / len(throttled) if throttled else None,
    }


def _energy_mj(blocks: list[dict[str, Any]], power_w: float | None, median_ns: float) -> float | None:
    """Return the energy of one call in mJ, or None if it is unknown.

    The energy is read from the device's energy counter: the energy of all blocks, divided by their number of calls.
    The counter is updated less often than once per block, so the energy of a single block is not meaningful. Without a
    counter, the energy is the mean power times the median latency.
    """
    known = [(_number(block.get("energy_j")), _number(block.get("calls"))) for block in blocks]
    counted = [(joules, calls) for joules, calls in known if joules is not None and calls]
    joules = sum(joules for joules, _ in counted)
    if joules > 0:
        return 1e3 * joules / sum(calls for _, calls in counted)
    return None if power_w is None else power_w * median_ns / 1e6


def _number(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _json(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value).decode()


@functools.lru_cache(maxsize=100_000)
def _workload_id(workload: Workload) -> str:
    return workload.id
