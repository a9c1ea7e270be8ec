"""The results of one or more runs: their records, and everything that is computed from these records."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd

from attnbench.analysis.load_runs import COLUMNS, NOT_RANKED, PROBLEM, Paths, find_runs, read_frame
from attnbench.analysis.load_warnings import is_disturbed, warnings_of
from attnbench.analysis.ranking import winners
from attnbench.analysis.series import Series, series
from attnbench.analysis.verdict import (
    CellKey,
    Place,
    Ratios,
    baseline_ratios,
    compare_with_baseline,
    control_ratios,
    leaders,
    noise_floors,
    without_verdict,
)
from attnbench.errors import unknown
from attnbench.stats.noise_floor import NoiseFloor
from attnbench.store import read_manifest

if TYPE_CHECKING:
    from attnbench.stats.paired import PairedResult

CELL = [*PROBLEM, "device", "variant", "control"]


class Results:
    """The records of one or more runs, and everything that is computed from these records.

    Each property is computed on first use and then cached. Its value is shared, so copy a frame before you change it.

        results = Results.load("results/first")
        results.ranked[["variant", "workload_id", "latency_ms"]]
    """

    def __init__(self, records: pd.DataFrame, baseline: str | None = None, folders: Sequence[Path] = ()) -> None:
        """Create results from a frame that `attnbench.load` returned.

        Speed-ups are relative to the variant `baseline`. If it is None, the variant is chosen as described under the
        property `baseline`. `folders` are the folders of the runs, which contain the manifests and logs.
        """
        self._records = records
        self._requested_baseline = baseline
        self.folders = tuple(folders)

    @classmethod
    def load(cls, path: Paths, baseline: str | None = None) -> Self:
        """Read runs in the same way as `attnbench.load`.

        Raises UsageError if `path` contains no run, or if the runs have no variant named `baseline`.
        """
        folders = find_runs(path)
        records = read_frame(folders)
        if baseline is not None and baseline not in set(records["variant"]):
            raise unknown("baseline", baseline, records["variant"].unique())
        return cls(records, baseline, folders)

    def within(self, mask: Any) -> Results:
        """Return results that contain only the records for which `mask` is true. The baseline stays the same."""
        return Results(self._records[mask], self.baseline, self.folders)

    @cached_property
    def manifests(self) -> list[dict[str, Any]]:
        """The manifests of the runs, in the order of `folders`."""
        return [read_manifest(folder) for folder in self.folders]

    @cached_property
    def baseline(self) -> str | None:
        """The variant that speed-ups are relative to, or None if no variant could be ranked.

        The baseline is the first of these that exists: the requested variant, the variant with an A/A control, the
        first variant by name that the manifests mark as a baseline, or the variant with the most ranked records.
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
        """All records, with their speed-ups.

        `speedup` is the baseline's median latency on the same problem, divided by the record's median latency.
        """
        records = self._records
        columns = [*PROBLEM, "variant", "control", "status", "latency_ms"]
        base = records.loc[self._latest, columns]
        base = base[(base["variant"] == self.baseline) & ~base["control"] & (base["status"] == "ok")]
        reference = base.set_index(PROBLEM)["latency_ms"].rename("_baseline")
        return records.assign(speedup=records[PROBLEM].join(reference, on=PROBLEM)["_baseline"] / records["latency_ms"])

    @cached_property
    def current(self) -> pd.DataFrame:
        """The latest record of each cell in each environment.

        Variants are compared only on the same device. Therefore, if several devices of one model ran the same problem,
        only the records from one of these devices are included. The chosen device is the one with the most records of
        the problem. If several devices have equally many records, the device that ran the problem last is chosen.
        """
        return self.frame.loc[self._latest]

    @cached_property
    def rankable(self) -> pd.Series:
        """Whether each record may be ranked.

        A record may be ranked if it has a time, its variant computes exact attention, its outputs were checked, its
        times are not suspect, and it is not an A/A control.
        """
        records = self._records
        trusted = [NOT_RANKED.isdisjoint(flags) for flags in records["flags"]]
        checked = pd.Series(trusted, index=records.index, dtype=bool)
        timed = (records["status"] == "ok") & records["latency_ms"].notna()
        return timed & checked & records["exact"] & ~records["control"]

    @cached_property
    def ranked(self) -> pd.DataFrame:
        """The records in `current` that may be ranked, with the additional column `leads` (see `Results.leads`)."""
        return self._candidates.assign(leads=leaders(self._candidates, self.noise_floors))

    @cached_property
    def evidence(self) -> pd.DataFrame:
        """The records in `ranked` without those that others disturbed too much, whose times are no evidence."""
        return self.ranked[~is_disturbed(self.ranked)]

    @cached_property
    def leads(self) -> pd.Series:
        """Whether each record is in first place on its problem, alone or tied. False for unranked records."""
        return self.ranked["leads"].reindex(self._records.index, fill_value=False)

    @cached_property
    def exact(self) -> pd.DataFrame:
        """The records in `current` whose variants compute exact attention, with the additional column `leads`.

        Failed records and A/A controls are included.
        """
        cells = self.current[self.current["exact"]]
        return cells.assign(leads=self.leads.loc[cells.index])

    @cached_property
    def control_ratios(self) -> Ratios:
        """The log-ratio between each A/A control and its twin. Only runs of earlier versions have controls."""
        return control_ratios(self.current)

    @cached_property
    def baseline_ratios(self) -> Ratios:
        """The log-ratios of each ranked cell to the baseline's cell, one for each pair of processes.

        Only cells that were interleaved with the baseline are included. Keys are the problem's fields followed by the
        variant.
        """
        return baseline_ratios(self._candidates, self.baseline)

    @cached_property
    def noise_floors(self) -> dict[Place, NoiseFloor]:
        """For each device and mode, how much processes that run the same code differ, as far as the runs show it."""
        return noise_floors(self.baseline_ratios, self.control_ratios)

    @cached_property
    def noise_floor(self) -> float | None:
        """The typical relative difference between two processes that run the same code, such as 0.01 for 1%.

        It is None if the runs do not show it, because each variant ran in only one process.
        """
        return self.noise_floor_within(self.current)

    @cached_property
    def comparisons(self) -> dict[CellKey, PairedResult]:
        """The comparison of each ranked cell with the baseline. Keys are the problem's fields followed by the variant.

        Only cells that were interleaved with the baseline, and whose noise floor is known, are compared. A cell is
        `undecided` with the reason `disturbed` if others had the cores in most of its blocks or of the baseline's.
        """
        judged = compare_with_baseline(self._candidates, self.baseline_ratios, self.noise_floors)
        return judged | without_verdict(self._candidates, self.baseline)

    @cached_property
    def warnings(self) -> list[str]:
        """Sentences to show with the results, which say why cells have no verdict. The list is usually empty."""
        return warnings_of(self.current)

    @cached_property
    def winners(self) -> pd.DataFrame:
        """A frame with one row per problem, which names the problem's fastest variants. See `ranking.winners`."""
        return winners(self.ranked)

    @cached_property
    def series(self) -> list[Series]:
        """The ranked records, grouped into series over sequence length."""
        return series(self.ranked)

    def noise_floor_within(self, cells: pd.DataFrame) -> float | None:
        """Return the noise floor of the problems in `cells` (see `Results.noise_floor`)."""
        problems = set(zip(*(cells[name] for name in PROBLEM), strict=True))
        rows, controls = (
            [row for cell, row in ratios.items() if cell[:-1] in problems]
            for ratios in (self.baseline_ratios, self.control_ratios)
        )
        floor = NoiseFloor.of(rows, [value for row in controls for value in row])
        return floor.relative if floor else None

    @cached_property
    def _candidates(self) -> pd.DataFrame:
        """The records in `current` that may be ranked."""
        return self.current[self.rankable.loc[self._latest]]

    @cached_property
    def _latest(self) -> pd.Index:
        """The index labels of the records in `current`, in ascending order."""
        ordered = self._records[[*CELL, "started_at"]].sort_values("started_at", kind="stable")
        latest = ordered.drop_duplicates(CELL, keep="last")
        if latest.duplicated([*PROBLEM, "variant", "control"]).any():
            records = latest.groupby([*PROBLEM, "device"])["variant"].transform("size")
            latest = latest.assign(_records=records).sort_values("_records", kind="stable")
            chosen = latest.drop_duplicates(PROBLEM, keep="last").set_index(PROBLEM)["device"].rename("_device")
            latest = latest[latest["device"] == latest.join(chosen, on=PROBLEM)["_device"]]
        return latest.index.sort_values()


def load(path: Paths) -> pd.DataFrame:
    """Read runs into a frame with one row per record.

    `path` is a run that `attnbench.run` returned, the folder of a run, a folder that contains runs at any depth, or a
    list of these. The columns are the fields of the record, the fields of the workload (`mask` as a string), and the
    following:

    - `run` (the name of the run's folder) and `workload_id`
    - `latency_ms` (the median of the samples), `latency_low_ms` and `latency_high_ms` (the ends of its 95% interval),
      and `samples` (the number of samples)
    - `tflops` (1e12 FLOP/s, counting only visible query-key pairs), `gbps` (1e9 bytes/s of compulsory traffic), and
      `roofline_pct` (percent of the roofline, if the run measured the device's peak rates)
    - `speedup` over the baseline, on the same workload and device
    - `error_ratio` (the error divided by its tolerance) and `error_max_abs`
    - `power_w` (mean power during the timed calls), `energy_mj` (energy of one call, from the energy counter or, if
      there is none, mean power times median latency), `throttled_share` (the share of blocks during which limits kept
      the clocks down), `disturbed_share` (the share of blocks in which others had the cores), and `cores_used` (the
      number of cores for which the variant had threads ready to run)
    - `block_disturbed`: 1 for each block in which others had the cores, and 0 for each other block; empty if there is
      no such block

    Samples are of type `array.array`. `block_sizes`, `block_rounds`, `kernels` and `flags` are tuples. `error` and
    `telemetry` are mappings. Missing values are NaN or None. `frame.attrs["skipped"]` gives, by run, the number of
    lines that are not records: `torn_lines` counts half-written lines, and `problems` counts lines that do not fit the
    schema. `frame.attrs["baselines"]` names the variants that the runs mark as baselines. The rows of a large run are
    cached, so later calls are faster.

    Raises UsageError if `path` contains no run.
    """
    return Results.load(path).frame[list(COLUMNS)]
