"""Loading runs into a frame."""

import math

import pytest

import attnbench
import synthetic
from attnbench.analysis import load_runs as frames
from attnbench.errors import UsageError

SMALL = {"cells": synthetic.workloads(seqs=(256, 512), directions=("forward",)), "rounds": 8}


def test_a_run_has_a_row_for_each_record_and_all_documented_columns(tmp_path):
    """`load` returns a row for each record, with the record's fields, its workload's fields and the derived columns."""
    run = synthetic.make_run(tmp_path, **SMALL)
    frame = attnbench.load(run)
    assert len(frame) == 4 * (len(synthetic.DEFAULT_VARIANTS) + 1)
    assert set(frames.COLUMNS) == set(frame.columns)
    assert set(frame["mask"]) == {"none", "causal"}
    assert set(frame["run"]) == {run.name}


def test_a_list_of_runs_and_their_folder_load_the_same_rows(tmp_path):
    """Loading a list of runs returns the same rows as loading a folder that contains these runs at any depth."""
    first = synthetic.make_run(tmp_path / "a", name="one", **SMALL)
    second = synthetic.make_run(tmp_path / "b" / "deep", name="two", machine=synthetic.H200, **SMALL)
    listed = attnbench.load([first, second])
    found = attnbench.load(str(tmp_path))
    assert sorted(listed["record_id"]) == sorted(found["record_id"])
    assert len(listed) == len(attnbench.load(first)) + len(attnbench.load(second))


def test_a_path_without_a_run_is_a_usage_error(tmp_path):
    """The error for a path without a run states the path and what was expected."""
    with pytest.raises(UsageError, match=r"no run in .*nowhere.*manifest\.json"):
        attnbench.load(tmp_path / "nowhere")


def test_rates_follow_from_the_median_and_the_exact_counts(tmp_path):
    """The latency is inside its interval, and the rates are the exact FLOPs and bytes divided by the latency."""
    frame = attnbench.load(synthetic.make_run(tmp_path, **SMALL))
    timed = frame[frame["status"] == "ok"]
    assert (timed["latency_low_ms"] <= timed["latency_ms"]).all()
    assert (timed["latency_ms"] <= timed["latency_high_ms"]).all()
    cell = timed.iloc[0]
    assert cell["tflops"] == pytest.approx(cell["workload"].flops() / (cell["latency_ms"] / 1e3) / 1e12)
    assert cell["gbps"] == pytest.approx(cell["workload"].bytes() / (cell["latency_ms"] / 1e3) / 1e9)
    assert cell["samples"] == len(cell["samples_ns"])


def test_cells_without_a_time_have_no_derived_numbers(tmp_path):
    """An incorrect or unsupported cell has no latency, rates or speed-up."""
    frame = attnbench.load(synthetic.make_run(tmp_path, **SMALL))
    bad = frame[frame["status"] != "ok"]
    assert len(bad)
    assert bad[["latency_ms", "tflops", "gbps", "speedup", "samples"]].isna().all().all()


def test_speedup_is_over_the_baseline_on_the_same_problem(tmp_path):
    """A variant half as fast as the baseline has a speed-up of about 0.5, and the baseline has a speed-up of 1."""
    run = synthetic.make_run(tmp_path, variants=("sdpa", "sdpa-flash"), slower={"sdpa-flash": 2.0}, **SMALL)
    frame = attnbench.load(run)
    assert (frame.loc[(frame["variant"] == "sdpa") & ~frame["control"], "speedup"] == 1).all()
    assert frame.loc[frame["variant"] == "sdpa-flash", "speedup"].between(0.48, 0.52).all()


def test_speedups_compare_cells_of_one_machine_only(tmp_path):
    """Cells of a machine that did not run the baseline have no speed-up, even if another machine ran the baseline."""
    synthetic.make_run(tmp_path, name="cpu", **SMALL)
    synthetic.make_run(tmp_path, name="gpu", machine=synthetic.H200, variants=("chunked",), baseline=None, **SMALL)
    frame = attnbench.load(tmp_path)
    assert frame.loc[frame["device_name"] == "NVIDIA H200", "speedup"].isna().all()
    assert frame.loc[(frame["variant"] == "chunked") & (frame["run"] == "cpu"), "speedup"].notna().all()


def test_an_empty_run_gives_an_empty_frame_with_all_columns(tmp_path):
    """A run without records loads as a frame that has all columns but no rows."""
    run = synthetic.make_run(tmp_path, cells=[])
    frame = attnbench.load(run)
    assert frame.empty
    assert set(frame.columns) == set(frames.COLUMNS)


def test_a_record_without_counts_has_no_rates(tmp_path):
    """TFLOP/s and GB/s are NaN if `flops` and `bytes` were not recorded."""
    run = synthetic.make_run(tmp_path, replace={"flops": None, "bytes": None}, **SMALL)
    timed = attnbench.load(run).query("status == 'ok'")
    assert all(math.isnan(value) for value in [*timed["tflops"], *timed["gbps"]])


def test_energy_comes_from_the_counter_else_from_power_and_time(tmp_path):
    """With an energy counter, a call's energy is the energy of all blocks divided by the number of all calls.

    Without a counter, it is the mean power times the median latency.
    """
    blocks = [{"energy_j": 0.0, "calls": 300}, {"energy_j": 0.8, "calls": 100}, {"energy_j": None, "calls": 7}]
    counted = {"blocks": [{**block, "power_w": 300.0} for block in blocks]}
    estimated = {"blocks": [{"power_w": 300.0}, {"energy_j": None, "power_w": 500.0}]}
    for name, telemetry in (("counted", counted), ("estimated", estimated)):
        synthetic.make_run(tmp_path, name=name, replace={"telemetry": telemetry}, **SMALL)
    frame = attnbench.load(tmp_path).query("status == 'ok'").set_index("run")
    assert frame.loc["counted", "energy_mj"].to_list() == pytest.approx([2.0] * len(frame.loc["counted"]))
    assert (frame.loc["estimated", "energy_mj"] / frame.loc["estimated", "latency_ms"]).to_list() == pytest.approx(
        [400.0] * len(frame.loc["estimated"])
    )
