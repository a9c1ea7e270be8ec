"""Runs on several devices of one model, and comparisons of device models."""

import dataclasses

import pandas as pd

import attnbench
import synthetic
from attnbench.analysis.device_scaling import device_ratios
from attnbench.analysis.results import Results

CELLS = synthetic.workloads(seqs=(512, 1024, 2048), masks=("causal",), directions=("forward",))


def test_only_one_device_of_a_model_counts(tmp_path):
    """If several GPUs of one model ran the same cells, only the records from one of these GPUs count."""
    runs = []
    for index, variants in enumerate((("sdpa",), ("sdpa", "chunked"), ("sdpa",))):
        machine = dataclasses.replace(synthetic.H200, device=f"cuda:{index}")
        options = {"cells": CELLS, "variants": variants, "machine": machine, "baseline": None, "rounds": 4}
        runs.append(attnbench.load(synthetic.make_run(tmp_path / str(index), **options)))
    kept = Results(pd.concat(runs, ignore_index=True)).current
    assert len(kept) == 2 * len(CELLS)
    assert set(kept["device"]) == {"cuda:1"}


def test_devices_are_compared_with_the_slowest_on_common_shapes(tmp_path):
    """The H200 is compared with the A100, variant by variant, on the shapes that ran on both."""
    runs = [
        synthetic.make_run(tmp_path, name=name, cells=CELLS, variants=("sdpa", "chunked"), machine=machine)
        for name, machine in (("old", synthetic.A100), ("new", synthetic.H200))
    ]
    found = device_ratios(Results.load(runs))
    assert {(one.device, one.slower, one.shapes) for one in found} == {(synthetic.H200.name, synthetic.A100.name, 3)}
    assert {one.variant for one in found} == {"sdpa", "chunked"}
    assert all(1 < one.low <= one.speedup <= one.high for one in found)
    assert device_ratios(Results.load(runs[0])) == []
