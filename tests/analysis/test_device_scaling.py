"""Attention's share of a layer's time, and the efficiency of splitting a workload over several devices."""

import pandas as pd
import pytest

from attnbench import Workload
from attnbench.analysis.device_scaling import gains, shares
from attnbench.analysis.results import Results

SIZES = {"batch": 4, "heads": 8, "seq_q": 16, "head_dim": 8}


def frame(*cells):
    """Return a frame with a row for each cell.

    Each cell is a tuple: its workload's fields, its latency in ms, and the values of other columns.
    """
    rows = []
    for number, (fields, latency, other) in enumerate(cells):
        workload = Workload(**SIZES, **fields)
        rows.append({
            "run": "r", "variant": "sdpa", "mode": "hot", "device": "cuda:0", "device_name": "H200",
            "environment_id": "e", "status": "ok", "flags": (), "exact": True,
            "control": False, "started_at": str(number), "workload": workload, "workload_id": workload.id,
            "embed_dim": workload.embed_dim, "gpus": workload.gpus, "latency_ms": latency, **other,
        })  # fmt: skip
    return pd.DataFrame(rows)


def test_share_of_a_layer():
    """Attention's share is the latency of attention alone divided by the latency of a layer with the same variant."""
    cells = frame(
        ({}, 2.0, {}),
        ({"embed_dim": 64}, 8.0, {}),
        ({"embed_dim": 64}, 9.0, {"variant": "naive"}),
        ({"mask": "causal", "embed_dim": 64}, 1.0, {}),
    )
    (share,) = shares(Results(cells))
    assert (share.variant, share.layer_ms, share.attention_ms, share.share) == ("sdpa", 8.0, 2.0, 0.25)
    assert shares(Results(cells[cells["workload_id"] != share.workload_id])) == []


def test_efficiency_of_several_devices():
    """Efficiency is the speed-up over one device, divided by the number of devices.

    Failed cells have no efficiency. Variants that never run on one device, such as ring attention, have none either.
    """
    cells = frame(
        ({}, 10.0, {}),
        ({"gpus": 2}, 6.25, {"device_name": "2 x H200"}),
        ({"gpus": 2, "split": "heads"}, 5.0, {"device_name": "2 x H200"}),
        ({"gpus": 4}, 5.0, {"device_name": "4 x H200", "status": "error"}),
        ({"gpus": 2, "split": "ring"}, 5.0, {"device_name": "2 x H200", "variant": "ring"}),
    )
    assert [(gain.gpus, gain.efficiency) for gain in gains(Results(cells))] == [(2, pytest.approx(0.8)), (2, 1.0)]
