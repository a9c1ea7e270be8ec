"""Runs as one pandas frame: a row a record, with what is derived from its raw samples."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from attnbench.analysis.columns import to_frame
from attnbench.analysis.digest import DERIVED
from attnbench.analysis.gather import digests
from attnbench.errors import UsageError
from attnbench.record import FIELDS
from attnbench.store import MANIFEST
from attnbench.workloads.workload import Workload

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
UNCHECKED = "unchecked"  # the flag of a record whose answers were never seen
PREFERRED_BASELINES = ("sdpa", "naive")
WORKLOAD_FIELDS = tuple(spec.name for spec in dataclasses.fields(Workload))
COLUMNS = (*FIELDS, "run", "workload_id", *DERIVED, "speedup", *WORKLOAD_FIELDS)
PROBLEM = ["environment_id", "device_name", "workload_id", "mode"]  # what variants are compared on


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

    Samples and blocks are arrays (`array.array`), `kernels` and `flags` tuples, `error` and `telemetry` mappings.
    What a record has not is NaN. `frame.attrs["skipped"]` counts by run the lines that are no records: `torn_lines`,
    half-written ones, and `problems`, those that do not fit the schema. A large run is read once: its rows are kept in
    the user's cache for the next time. Raises UsageError where there is no run.
    """
    frame = to_frame(digests(find_runs(path)))
    return with_speedup(frame)[list(COLUMNS)]


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
    base = current(frame[[*PROBLEM, "device", "variant", "control", "started_at", "status", "latency_ms"]])
    base = base[(base["variant"] == baseline) & ~base["control"] & (base["status"] == "ok")]
    reference = base.set_index(PROBLEM)["latency_ms"].rename("_baseline")
    joined = frame.join(reference, on=PROBLEM)["_baseline"]
    return frame.assign(speedup=joined / frame["latency_ms"])
