"""Several devices at once, and devices against each other."""

import dataclasses

import pandas as pd
import pytest

import attnbench
import synthetic
from attnbench.analysis.devices import BATCH, COPIES, HEADS, ratios, scalings
from attnbench.analysis.frame import current
from attnbench.workload import Workload

SHAPE = {"head_dim": 64, "seq_q": 1024, "mask": "causal"}


def team(folder, count, slower=1.0, **shape):
    """Load a run in which `count` GPUs do the same workload at once; the last one is `slower`."""
    frames = []
    for index in range(count):
        machine = dataclasses.replace(synthetic.H200, device=f"cuda:{index}", launch_ns=0.0)
        options = {
            "cells": [Workload(**{"batch": 8, "heads": 8, **SHAPE, **shape})],
            "variants": ("sdpa",),
            "rounds": 8,
        }
        factor = {"slower": {"sdpa": slower}} if index == count - 1 else {}
        name = f"devices-{count}"
        run = synthetic.make_run(folder / f"{name}-{index}", name=name, machine=machine, noise=0.001, drift=0,
                                 baseline=None, **options, **factor)  # fmt: skip
        frames.append(attnbench.load(run))
    return pd.concat(frames, ignore_index=True)


def test_a_split_problem_takes_as_long_as_its_slowest_device(tmp_path):
    """Four GPUs with a quarter of the batch each, one of them at half speed, are twice as fast as one."""
    frame = pd.concat([team(tmp_path, 1), team(tmp_path, 4, slower=2.0, batch=2)], ignore_index=True)
    alone, four = scalings(frame)
    assert (alone.devices, alone.speedup, four.devices, four.split) == (1, 1.0, 4, BATCH)
    assert four.speedup == pytest.approx(2, rel=0.02)
    assert four.efficiency == pytest.approx(0.5, rel=0.02)
    assert four.low < four.speedup < four.high


def test_heads_and_copies_are_told_from_a_split_batch(tmp_path):
    """Half the heads each is a split by heads; the whole problem on each is a copy, and counts as work done."""
    frame = pd.concat(
        [team(tmp_path / "a", 1), team(tmp_path / "b", 2, heads=4, kv_heads=4), team(tmp_path / "c", 4)],
        ignore_index=True,
    )
    found = {one.split: one for one in scalings(frame) if one.devices > 1}
    assert set(found) == {HEADS, COPIES}
    assert found[HEADS].speedup == pytest.approx(2, rel=0.02)
    assert found[COPIES].speedup == pytest.approx(4, rel=0.02)


def test_one_device_or_another_problem_has_no_scaling(tmp_path):
    """Nothing is claimed of a single device, nor of a team whose problem no single device did."""
    assert scalings(team(tmp_path / "a", 1)) == []
    frame = pd.concat([team(tmp_path / "b", 1), team(tmp_path / "c", 2, batch=3)], ignore_index=True)
    assert scalings(frame) == []


def test_of_devices_of_one_model_one_counts_for_the_ranking(tmp_path):
    """A cell that four GPUs did is there once, from one device, and keeps its variants together."""
    kept = current(team(tmp_path, 4))
    assert len(kept) == 1


def test_devices_are_compared_with_the_slowest_on_what_both_did(tmp_path):
    """The H200 is held against the A100, variant by variant, over the shapes that both did."""
    cells = synthetic.workloads(seqs=(512, 1024, 2048), masks=("causal",), directions=("forward",))
    runs = [
        synthetic.make_run(tmp_path, name=name, cells=cells, variants=("sdpa", "chunked"), machine=machine)
        for name, machine in (("old", synthetic.A100), ("new", synthetic.H200))
    ]
    found = ratios(attnbench.load(runs))
    assert {(one.device, one.slower, one.shapes) for one in found} == {(synthetic.H200.name, synthetic.A100.name, 3)}
    assert {one.variant for one in found} == {"sdpa", "chunked"}
    assert all(1 < one.low <= one.speedup <= one.high for one in found)
    assert ratios(attnbench.load(runs[0])) == []
