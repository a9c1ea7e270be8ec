"""Two device slots, each pinned to a core, measure nearly twice as many cells per minute as one slot."""

import os
import time

import pytest

from attnbench.measure_config import MeasureConfig
from attnbench.runner.request import Request, plan_of
from attnbench.runner.run import execute, start
from attnbench.runner.run_listener import RunListener

MIN_RATIO = 1.8
# This precision can't be reached, so each cell uses its whole time budget and takes equally long in both runs.
PROTOCOL = MeasureConfig(precision=1e-6, budget_s=1.0, block_s=0.1, min_time_s=0.0, warm_up_max_s=0.2)
LENGTHS = [256, 264, 272, 280, 288, 296]


def cells_a_minute(folder, devices):
    """Measure a fixed set of cells on the given slots, and return the number of cells per minute."""
    request = Request(
        variants=["sdpa", "sdpa-flash"],
        devices=devices,
        axes={"heads": [4], "seq": LENGTHS, "head_dim": [64]},
        protocol=PROTOCOL,
        results=folder,
        name="-".join(devices).replace(":", ""),
    )
    catalog, plan = plan_of(request)
    run = start(request, catalog, plan)
    instants, listener = [], RunListener()

    def note_time(_):
        instants.append(time.monotonic())

    listener.cell_started = listener.record_stored = note_time
    summary = execute(run, catalog, plan, listener=listener)
    assert summary.statuses == {"ok": len(plan.cells)}
    rate = 60 * len(plan.cells) / (instants[-1] - instants[0])
    print(f"\n{', '.join(devices)}: {rate:.1f} cells per minute", flush=True)
    return rate


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_two_slots_are_nearly_twice_as_fast_as_one(tmp_path, benchmark):
    """With one thread and one core each, two slots measure at least 1.8 times as many cells per minute as one."""
    one = cells_a_minute(tmp_path, ["cpu:0"])
    two = benchmark.pedantic(cells_a_minute, args=(tmp_path, ["cpu:0", "cpu:1"]))
    benchmark.extra_info.update(one=one, two=two, ratio=two / one)
    print(f"\none slot: {one:.1f} cells per minute, two slots: {two:.1f}: {two / one:.2f} times")
    assert two / one >= MIN_RATIO
