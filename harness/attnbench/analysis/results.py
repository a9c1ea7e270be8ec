"""The results of one or more runs: their records, and every part that analysis and reports derive from them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd

from attnbench.analysis.load_runs import COLUMNS, PROBLEM, UNCHECKED, Paths, find_runs, read_frame
from attnbench.analysis.ranking import winners
from attnbench.analysis.series import Series, series
from attnbench.analysis.verdict import CellKey, Place, Ratios, compare_with_baseline, control_ratios, floors, leaders
from attnbench.errors import unknown
from attnbench.stats.paired import floor_of, summarise_controls
from attnbench.store import read_manifest

if TYPE_CHECKING:
    from attnbench.stats.noise_floor import NoiseFloor
    from attnbench.stats.paired import ControlSummary, PairedResult

CELL = [*PROBLEM, "device", "variant", "control"]


class Results:
    """The records of one or more runs, and everything that is derived from them.

    Each part is computed once, when it is first read, so that one object can be handed to every table and chart. The
    frames are shared by all readers: copy one before changing it.

        results = Results.load("results/first")
        results.ranked[["variant", "workload_id", "latency_ms"]]
    """

    def __init__(self, records: pd.DataFrame, baseline: str | None = None, folders: Sequence[Path] = ()) -> None:
        """Build results from a frame that `attnbench.load` returned.

        `baseline` is the variant that speed-ups are over; None chooses it from the records. `folders` are those of the
        runs, which have the manifests and logs.
        """
        self._records = records
        self._requested_baseline = baseline
        self.folders = tuple(folders)

    @classmethod
    def load(cls, path: Paths, baseline: str | None = None) -> Self:
        """Read runs, as `attnbench.load` does.

        Raises UsageError if `path` has no run, and if `baseline` is not among the runs' variants.
        """
        folders = find_runs(path)
        records = read_frame(folders)
        if baseline is not None and baseline not in set(records["variant"]):
            raise unknown("baseline", baseline, records["variant"].unique())
        return cls(records, baseline, folders)

    def within(self, mask: Any) -> Results:
        """Return the results of the records for which `mask` is true, with the same baseline."""
        return Results(self._records[mask], self.baseline, self.folders)

    @cached_property
    def manifests(self) -> list[dict[str, Any]]:
        """The manifests of the runs, in the order of `folders`."""
        return [read_manifest(folder) for folder in self.folders]

    @cached_property
    def baseline(self) -> str | None:
        """The variant that speed-ups are over; None if no variant could be ranked.

        It is the requested one, else the one with an A/A control, else the first by name of those that the runs'
        manifests mark as baselines, else the one with the most ranked records.
        """
        if self._requested_baseline is not None:
            return self._requested_baseline
        controls = self._records.loc[self._records["control"], "variant"]
        if len(controls):
            return str(controls.mode().iloc[0])
        timed = self._records.loc[self.rankable, "variant"]
        marked = sorted(set(timed) & set(self._records.attrs.get("baselines", ())))
        return marked[0] if marked else str(timed.mode().iloc[0]) if len(timed) else None

    @cached_property
    def frame(self) -> pd.DataFrame:
        """All records; `speedup` is the baseline's median latency on the same problem over the row's."""
        records = self._records
        columns = [*PROBLEM, "variant", "control", "status", "latency_ms"]
        base = records.loc[self._latest, columns]
        base = base[(base["variant"] == self.baseline) & ~base["control"] & (base["status"] == "ok")]
        reference = base.set_index(PROBLEM)["latency_ms"].rename("_baseline")
        return records.assign(speedup=records[PROBLEM].join(reference, on=PROBLEM)["_baseline"] / records["latency_ms"])

    @cached_property
    def current(self) -> pd.DataFrame:
        """The last record of each cell: a cell that was measured again in the same environment counts once.

        If several devices of one model ran the same problem, only one of them counts: the device with the most records
        of the problem, and of these the one that ran it last. Variants are compared within a device, where they were
        measured in turns.
        """
        return self.frame.loc[self._latest]

    @cached_property
    def rankable(self) -> pd.Series:
        """Whether each record may be ranked: checked here, timed, exact attention, and not the A/A control."""
        records = self._records
        checked = pd.Series([UNCHECKED not in flags for flags in records["flags"]], index=records.index, dtype=bool)
        timed = (records["status"] == "ok") & records["latency_ms"].notna()
        return timed & checked & records["exact"] & ~records["control"]

    @cached_property
    def ranked(self) -> pd.DataFrame:
        """The current records that may be ranked; `leads` says whether a row shares its problem's first place."""
        ranked = self.current[self.rankable.loc[self._latest]]
        return ranked.assign(leads=leaders(ranked, self.floors))

    @cached_property
    def leads(self) -> pd.Series:
        """Whether each record shares its problem's first place; False for what is not ranked."""
        return self.ranked["leads"].reindex(self._records.index, fill_value=False)

    @cached_property
    def exact(self) -> pd.DataFrame:
        """The current records of exact attention, failed ones and the A/A control too, with `leads`."""
        cells = self.current[self.current["exact"]]
        return cells.assign(leads=self.leads.loc[cells.index])

    @cached_property
    def control_ratios(self) -> Ratios:
        """The log-ratios between each A/A control and its twin, a list of rounds by problem."""
        return control_ratios(self.current)

    @cached_property
    def noise(self) -> ControlSummary:
        """The noise floor and the false positives of all A/A controls together."""
        return summarise_controls(list(self.control_ratios.values()))

    @cached_property
    def floor(self) -> NoiseFloor | None:
        """The noise floor of all A/A controls together, in the form that widens intervals; None without a control."""
        return floor_of(list(self.control_ratios.values()))

    @cached_property
    def floors(self) -> dict[Place, NoiseFloor]:
        """The noise floor of each device and mode that has an A/A control."""
        return floors(self.control_ratios)

    @cached_property
    def comparisons(self) -> dict[CellKey, PairedResult]:
        """Each ranked cell compared with the baseline's, by the problem's fields and the variant.

        Cells are compared if they were measured in turns in one run of a device with an A/A control.
        """
        return compare_with_baseline(self.ranked, self.baseline, self.floors)

    @cached_property
    def winners(self) -> pd.DataFrame:
        """The fastest variants of each problem, a row for each problem: see `ranking.winners`."""
        return winners(self.ranked)

    @cached_property
    def series(self) -> list[Series]:
        """The ranked records as series over sequence length."""
        return series(self.ranked)

    def noise_within(self, cells: pd.DataFrame) -> ControlSummary:
        """Return noise floor and false positives of the A/A controls on the problems of `cells` only."""
        problems = set(zip(*(cells[name] for name in PROBLEM), strict=True))
        known = sorted(problems & self.control_ratios.keys())
        return summarise_controls([self.control_ratios[problem] for problem in known])

    @cached_property
    def _latest(self) -> pd.Index:
        """The index of the current records, in the order of all records."""
        ordered = self._records[[*CELL, "started_at"]].sort_values("started_at", kind="stable")
        latest = ordered.drop_duplicates(CELL, keep="last")
        if latest.duplicated([*PROBLEM, "variant", "control"]).any():
            records = latest.groupby([*PROBLEM, "device"])["variant"].transform("size")
            latest = latest.assign(_records=records).sort_values("_records", kind="stable")
            chosen = latest.drop_duplicates(PROBLEM, keep="last").set_index(PROBLEM)["device"].rename("_device")
            latest = latest[latest["device"] == latest.join(chosen, on=PROBLEM)["_device"]]
        return latest.index.sort_values()


def load(path: Paths) -> pd.DataFrame:
    """Read runs into a frame with a row for each record.

    `path` is a run, as `attnbench.run` returns it, or its folder, a folder of runs (at any depth), or a list of these.
    Columns are the record's fields, the workload's fields (`mask` as its text), and

    - `run` (the folder's name), `workload_id`
    - `latency_ms`, the samples' median, its 95% interval `latency_low_ms` to `latency_high_ms`, and `samples`, how many
    - `tflops` (1e12 FLOP/s over the visible pairs), `gbps` (1e9 bytes/s of compulsory traffic), `roofline_pct` (percent
      of the device's measured peak, if the run has it)
    - `speedup` over the run's baseline, on the same workload and device
    - `error_ratio` (error over its tolerance), `error_max_abs`
    - `power_w` (mean while it ran), `energy_mj` (of one call: from the energy counter, else mean power times median
      latency), `throttled_share` (of its blocks)

    Samples and blocks are arrays (`array.array`), `kernels` and `flags` tuples, `error` and `telemetry` mappings.
    What a record lacks is NaN. `frame.attrs["skipped"]` counts by run the lines that are not records: `torn_lines`,
    half-written ones, and `problems`, those that do not fit the schema; `frame.attrs["baselines"]` names the variants
    that the runs mark as baselines. A large run is read once: its rows are kept in the user's cache for the next time.
    Raises UsageError if there is no run.
    """
    return Results.load(path).frame[list(COLUMNS)]
