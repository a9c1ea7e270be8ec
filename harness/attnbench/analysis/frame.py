"""Runs as one pandas frame: a row a record, with what is derived from its raw samples."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from attnbench.errors import UsageError
from attnbench.measure.interval import median_interval
from attnbench.measure.roofline import Limits
from attnbench.record import Record
from attnbench.store import MANIFEST, read_manifest, read_run
from attnbench.workload import Workload

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
UNCHECKED = "unchecked"  # the flag of a record whose answers were never seen
PREFERRED_BASELINES = ("sdpa", "naive")
WORKLOAD_FIELDS = tuple(spec.name for spec in dataclasses.fields(Workload))
RECORD_FIELDS = tuple(spec.name for spec in dataclasses.fields(Record))
DERIVED = (
    "run", "latency_ms", "latency_low_ms", "latency_high_ms", "samples", "tflops", "gbps", "speedup",
    "error_ratio", "error_max_abs", "roofline_pct", "power_w", "energy_mj", "throttled_share", "workload_id",
)  # fmt: skip
COLUMNS = (*RECORD_FIELDS, *DERIVED, *WORKLOAD_FIELDS)
PROBLEM = ["environment_id", "device_name", "workload_id", "mode"]  # what variants are compared on
FLAGS = ("control", "exact", "alibi")
NUMERIC = ("peak_bytes", "saved_bytes", "flops", "bytes", "first_call_ns", "scale", "softcap")


def load(path: Paths) -> pd.DataFrame:
    """Read runs into a frame of one row a record.

    `path` is a run, as `attnbench.run` gives it, or its folder, a folder of runs (at any depth), or a list of these.
    Columns are the record's fields, the workload's fields (`mask` as its text), and

    - `run` (the folder's name), `workload_id`
    - `latency_ms`, the samples' median, its 95% interval `latency_low_ms` to `latency_high_ms`, and `samples`, how many
    - `tflops` (1e12 FLOP/s over the visible pairs), `gbps` (1e9 bytes/s of compulsory traffic), `roofline_pct` (of what
      the device was measured to do at most, where the run has its limits)
    - `speedup` over the run's baseline, on the same workload and device
    - `error_ratio` (error over its tolerance), `error_max_abs`
    - `power_w` (mean while it ran), `energy_mj` (of one call: by the energy counter, or else mean power times median
      latency), `throttled_share` (of its blocks)

    What a record has not is NaN. Raises UsageError where there is no run.
    """
    runs = find_runs(path)
    rows = []
    for run in runs:
        limits = _limits(read_manifest(run))
        rows += [_row(record, run.name, limits) for record in read_run(run).records]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    for name in (*NUMERIC, *(name for name in DERIVED if name not in ("run", "workload_id"))):
        frame[name] = pd.to_numeric(frame[name])
    return with_speedup(frame.astype(dict.fromkeys(FLAGS, bool)))


def find_runs(path: Paths) -> list[Path]:
    """List the folders of runs that `path` names, in its order and then by name; raises UsageError for none."""
    found: dict[Path, None] = {}
    for start in map(Path, [path] if isinstance(path, (str, os.PathLike)) else path):
        under = [start] if (start / MANIFEST).is_file() else sorted(file.parent for file in start.rglob(MANIFEST))
        if not under:
            raise UsageError(
                f"no run in {str(start)!r}: expected a run's folder, with a {MANIFEST}, or a folder of runs"
            )
        found.update(dict.fromkeys(under))
    return list(found)


def current(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep each cell's last record: a cell that was measured again in the same environment counts once.

    Of devices of one model that did the same problem, one counts: the one with most records of it, then the one that
    was last at it. Variants are compared within a device, where they took turns.
    """
    ordered = frame.sort_values("started_at", kind="stable")
    latest = ordered.drop_duplicates([*PROBLEM, "device", "variant", "control"], keep="last")
    if latest.duplicated([*PROBLEM, "variant", "control"]).any():
        records = latest.groupby([*PROBLEM, "device"])["variant"].transform("size")
        latest = latest.assign(_records=records).sort_values("_records", kind="stable")
        chosen = latest.drop_duplicates(PROBLEM, keep="last").set_index(PROBLEM)["device"].rename("_device")
        latest = latest[latest["device"] == latest.join(chosen, on=PROBLEM)["_device"]]
    return frame.loc[latest.index.sort_values()]


def rankable(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep what may be ranked: checked here, timed, exact attention; never the A/A control."""
    checked = pd.Series([UNCHECKED not in flags for flags in frame["flags"]], index=frame.index, dtype=bool)
    timed = (frame["status"] == "ok") & frame["latency_ms"].notna()
    return frame[timed & checked & frame["exact"] & ~frame["control"]]


def baseline_of(frame: pd.DataFrame) -> str | None:
    """Name the variant that speed-ups are over: the one with an A/A control, else `sdpa`, `naive` or the commonest."""
    controls = frame.loc[frame["control"], "variant"]
    if len(controls):
        return str(controls.mode().iloc[0])
    timed = rankable(frame)["variant"]
    known = set(timed)
    return next((name for name in PREFERRED_BASELINES if name in known), str(timed.mode().iloc[0]) if known else None)


def with_speedup(frame: pd.DataFrame, baseline: str | None = None) -> pd.DataFrame:
    """Set `speedup`: the baseline's median latency on the same problem over this one's; > 1 is faster."""
    baseline = baseline or baseline_of(frame)
    base = current(frame)
    base = base[(base["variant"] == baseline) & ~base["control"] & (base["status"] == "ok")]
    reference = base.set_index(PROBLEM)["latency_ms"].rename("_baseline")
    joined = frame.join(reference, on=PROBLEM)["_baseline"]
    return frame.assign(speedup=joined / frame["latency_ms"])


def _row(record: Record, run: str, limits: Mapping[tuple[str, str], Limits]) -> dict[str, Any]:
    workload = record.workload
    row: dict[str, Any] = {name: getattr(record, name) for name in RECORD_FIELDS}
    row.update({name: getattr(workload, name) for name in WORKLOAD_FIELDS}, mask=str(workload.mask))
    row.update(run=run, workload_id=_workload_id(workload))
    error = record.error or {}
    row.update(error_ratio=_number(error.get("worst_ratio")), error_max_abs=_number(error.get("max_abs")))
    row.update(_telemetry(record.telemetry.get("blocks")))
    samples = record.samples_ns or record.cold_samples_ns
    if samples:
        interval = median_interval(samples, block_sizes=record.block_sizes or None)
        row.update(
            samples=len(samples),
            latency_ms=interval.median / 1e6,
            latency_low_ms=interval.low / 1e6,
            latency_high_ms=interval.high / 1e6,
            tflops=None if record.flops is None else record.flops / interval.median / 1e3,
            gbps=None if record.bytes is None else record.bytes / interval.median,
            roofline_pct=_roofline_pct(record, interval.median / 1e9, limits.get((record.device, workload.dtype))),
            energy_mj=_energy_mj(record.telemetry.get("blocks"), row["power_w"], interval.median),
        )
    return row


def _limits(manifest: Mapping[str, Any]) -> dict[tuple[str, str], Limits]:
    """Read what a run measured its devices to do at most, by device and dtype; what does not fit is left out."""
    found = {}
    by_device = manifest.get("limits")
    for device, by_dtype in by_device.items() if isinstance(by_device, dict) else ():
        for dtype, fields in by_dtype.items() if isinstance(by_dtype, dict) else ():
            with contextlib.suppress(TypeError, ValueError, KeyError):
                found[str(device), str(dtype)] = Limits.from_json(fields)
    return found


def _roofline_pct(record: Record, seconds: float, limits: Limits | None) -> float | None:
    if limits is None or record.flops is None or record.bytes is None:
        return None
    return 100 * limits.share(record.flops, record.bytes, seconds)


def _telemetry(blocks: Any) -> dict[str, float | None]:
    """Give the mean power over the blocks in W, and the share of blocks under throttling; None where unknown."""
    told = [block for block in blocks if isinstance(block, dict)] if isinstance(blocks, (list, tuple)) else []
    powers = [block["power_w"] for block in told if isinstance(block.get("power_w"), (int, float))]
    throttled = [bool(block["throttle"]) for block in told if block.get("throttle") is not None]
    return {
        "power_w": sum(powers) / len(powers) if powers else None,
        "throttled_share": sum(throttled) / len(throttled) if throttled else None,
    }


def _energy_mj(blocks: Any, power_w: float | None, median_ns: float) -> float | None:
    """Give a call's energy by the counter, whose ticks are longer than a block: only the mean over blocks counts."""
    listed = blocks if isinstance(blocks, (list, tuple)) else ()
    told = [block.get("energy_per_call_j") for block in listed if isinstance(block, dict)]
    counted = [joules for joules in told if isinstance(joules, (int, float))]
    if counted and sum(counted) > 0:
        return 1e3 * sum(counted) / len(counted)
    return None if power_w is None else power_w * median_ns / 1e6


def _number(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


@functools.lru_cache(maxsize=100_000)
def _workload_id(workload: Workload) -> str:
    return workload.id
