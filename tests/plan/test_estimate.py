"""Estimates of the time of a run, compared with runs of a simulated machine."""

import dataclasses
import math
from datetime import UTC, datetime, timedelta

import pytest

from attnbench import Workload, store
from attnbench.measure_config import MeasureConfig
from attnbench.plan.catalog import VariantEntry
from attnbench.plan.cells import Cell, Plan
from attnbench.plan.devices import Device
from attnbench.plan.estimate import assumed_peaks, cell_seconds
from attnbench.plan.history import History, TimeEstimate
from attnbench.record import Record
from attnbench.workloads.suite import built_in_suites

CPU = Device("cpu", "a CPU", "")
H100 = Device("cuda:0", "NVIDIA H100 80GB HBM3", "GPU-1")
WORKLOADS = [
    Workload(heads=heads, seq_q=length, head_dim=64, direction=direction)
    for heads in (2, 8)
    for length in (64, 256, 1024)
    for direction in ("forward", "forward_backward")
]
TOLERANCE = 0.25


def planned(variants, workloads, device, **settings):
    """Return a plan that measures these variants on a device."""
    entries = [
        VariantEntry(
            name, "p", None, "", "BHSD", "fused", exact=True, default_on=("cpu",), traits=(), packages=(),
            baseline=False, summary="",
        )
        for name in variants
    ]  # fmt: skip
    cells = [Cell(entry, work, device, f"{entry.name}-{work.id}") for work in workloads for entry in entries]
    return Plan(tuple(cells), {device.kind: MeasureConfig(**settings)}, {device.name: {"environment_id": "none"}})


class Machine:
    """A simulated machine, on which a call takes a fixed time plus a time for each operation.

    It differs from the assumptions of the estimate: it is slower, and so are the checks of its cells.
    """

    def __init__(self):
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def cell_s(self, cell, config):
        """Return the seconds that a cell takes."""
        slowness = {"fast": 1.0, "slow": 2.5, "compiled": 1.0}[cell.variant.name]
        call_s = 1e-4 + slowness * cell.workload.flops() / 2e10
        most = config.processes_on(CPU.kind)
        share = config.share(most, CPU.kind)
        processes = most if share.budget_s < 0.07 else 4
        warm_up = min(max(0.05 / processes, 16 * call_s), max(share.warm_up_max_s, call_s))
        sampling = min(share.budget_s, max(0.25 / processes, share.min_samples * call_s)) + 3 * call_s
        of_process = 0.02 + call_s + warm_up + 1.2 * sampling
        return 0.2 + 10 * call_s + processes * of_process + (2.0 if cell.variant.name == "compiled" else 0.0)

    def run(self, plan, ended=lambda cell: None):
        """Run a plan, call `ended` with each cell when it ends, and return the records and the seconds of the run."""
        began, records, config = self.now, [], plan.protocols[CPU.kind]
        self.now += timedelta(seconds=1.0)
        for cells in plan.workload_groups(CPU):
            start = self.now
            self.now += timedelta(seconds=sum(self.cell_s(cell, config) for cell in cells))
            for cell in cells:
                records.append(_record(cell, start, self.now))
                ended(cell)
        return records, (self.now - began).total_seconds()


def _record(cell, began, ended):
    return Record(
        record_id="r", run_id="r", cell_id=cell.cell_id, variant=cell.variant.name, plugin="p", plugin_sha256="",
        workload=cell.workload, device=CPU.name, device_name=CPU.model, environment_id="", protocol_id="", status="ok",
        phase="done", reason=None, samples_ns=(1.0,), started_at=began.isoformat(), ended_at=ended.isoformat(),
    )  # fmt: skip


@pytest.fixture
def earlier(tmp_path, monkeypatch):
    """Return a function that simulates a run of a plan and stores it, and the folder of the results."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    machine = Machine()

    def run(plan):
        manifest = {"devices": [CPU.name], "protocols": {CPU.kind: plan.protocols[CPU.kind].to_json()}}
        folder = store.create_run(tmp_path / "results", f"r{machine.now:%H%M%S}", manifest)
        writer = store.RecordWriter(folder, CPU.name)
        for record in machine.run(plan)[0]:
            writer.append(record)
        writer.close()
        return tmp_path / "results"

    return run


PLANS = {
    "the same run again": planned(["fast", "slow", "compiled"], WORKLOADS, CPU, budget_s=0.3),
    "a longer budget": planned(["fast", "slow", "compiled"], WORKLOADS, CPU, budget_s=1.0),
    "other workloads": planned(
        ["fast", "slow", "compiled"], [dataclasses.replace(work, heads=4, kv_heads=4) for work in WORKLOADS], CPU,
        budget_s=0.3,
    ),
    "another selection": planned(["slow", "compiled"], WORKLOADS[4:], CPU, budget_s=0.3),
}  # fmt: skip


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_after_one_run_estimates_are_close(earlier, plan):
    """On a machine with one earlier run, the estimate of another run is right to within 25% at its start."""
    results = earlier(PLANS["the same run again"])
    _, actual_s = Machine().run(plan)
    assert History(results).estimate(plan, ()).total_s == pytest.approx(actual_s, rel=TOLERANCE)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_the_time_left_is_close_after_a_quarter_of_a_first_run(tmp_path, monkeypatch, plan):
    """In a first run, the estimated duration is right to within 25% once a quarter of the run has passed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    estimate = History(tmp_path).estimate(plan, ())
    machine, done, whole = Machine(), {}, []
    began = machine.now

    def ended(cell):
        done[cell.workload.id] = estimate.seconds[cell.workload.id]
        elapsed_s = (machine.now - began).total_seconds()
        whole.append((elapsed_s, elapsed_s + estimate.left_s(len(done), sum(done.values()), elapsed_s)))

    _, actual_s = machine.run(plan, ended)
    later = [guess for elapsed_s, guess in whole if elapsed_s >= actual_s / 4]
    assert later == pytest.approx([actual_s] * len(later), rel=TOLERANCE)
    assert later[-1] == pytest.approx(actual_s)


def test_the_standard_suite_takes_less_than_15_minutes_on_an_h100(tmp_path, monkeypatch):
    """A run of `standard` with 20 variants is estimated at 15 minutes or less on an H100 that has not been measured."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    suite = built_in_suites()["standard"]
    plan = planned([f"variant {number}" for number in range(20)], suite.workloads, H100)
    plan = dataclasses.replace(plan, protocols={"cuda": MeasureConfig().within(suite.budget_s)})
    estimate = History(tmp_path).estimate(plan, ())
    assert 5 * 60 < estimate.total_s <= 15 * 60


def test_a_cell_is_estimated_from_its_calls(tmp_path, monkeypatch):
    """A longer call, a longer budget and more blocks increase the estimate of a cell, and no call time makes it finite.

    A call that takes longer than the budget is made at least 14 times: 10 times untimed and 4 times in its block.
    """
    config = MeasureConfig(budget_s=0.3)
    assert cell_seconds(1e-3, config, "cpu") < cell_seconds(1e-2, config, "cpu") < cell_seconds(1e-1, config, "cpu")
    assert cell_seconds(0.0, MeasureConfig(budget_s=0.1), "cpu") < cell_seconds(0.0, config, "cpu") < math.inf
    assert cell_seconds(10.0, config, "cuda") >= 140.0


def test_rates_are_assumed_by_the_model_of_a_gpu():
    """A GPU of a known model has the rates of that model, and float32 is slower than bfloat16 on every GPU."""
    assert assumed_peaks(H100, "bfloat16").matmul_flops_per_s == pytest.approx(990e12)
    unknown = Device("cuda:0", "a GPU", "")
    assert assumed_peaks(unknown, "bfloat16").matmul_flops_per_s < 990e12
    for device in (H100, unknown):
        fast, slow = (assumed_peaks(device, dtype).matmul_flops_per_s for dtype in ("bfloat16", "float32"))
        assert slow < fast


def test_more_cells_and_processes_increase_the_estimate(tmp_path):
    """More cells, a longer budget and more processes increase the estimate of a run; unsupported cells do not."""

    def total_s(*names, unsupported=(), **settings):
        return History(tmp_path).estimate(planned(names, WORKLOADS, CPU, **settings), unsupported).total_s

    one = total_s("naive")
    assert total_s("naive", "sdpa") > one
    assert total_s("naive", budget_s=0.1) < one
    assert total_s("naive", processes=2) < one
    assert total_s("naive", interleave=False) == total_s("naive", processes=1) < total_s("naive", processes=2)
    assert total_s("naive", "sdpa", unsupported=[f"sdpa-{work.id}" for work in WORKLOADS]) == one
    assert total_s() == 0


def test_the_time_left_is_computed_without_going_through_all_workloads():
    """However often the time left is asked for, the workloads of a run are added up only once."""
    passes = []

    class Groups(tuple):
        __slots__ = ()

        def __iter__(self):
            passes.append(1)
            return super().__iter__()

    estimate = TimeEstimate(100.0, Groups((f"workload {number}", 1.0) for number in range(100)))
    assert [round(estimate.left_s(done, float(done), float(done))) for done in (0, 25, 50, 100)] == [100, 75, 50, 0]
    assert len(passes) == 1
