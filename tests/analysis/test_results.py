"""The results of runs: the baseline, the records that count, and the records that are ranked."""

import json

import pytest

import attnbench
import synthetic
from attnbench.analysis import results as module
from attnbench.analysis.results import Results
from attnbench.errors import UsageError

SMALL = {"cells": synthetic.workloads(seqs=(256, 512), directions=("forward",)), "rounds": 8}


@pytest.mark.parametrize(
    ("variants", "control", "marked", "expected"),
    [
        (("naive", "sdpa", "chunked"), "chunked", ("sdpa",), "chunked"),
        (("naive", "sdpa", "chunked"), None, ("sdpa",), "sdpa"),
        (("naive", "sdpa", "chunked"), None, ("sdpa", "naive"), "naive"),
        (("naive", "chunked"), None, ("sdpa",), "chunked"),
        (("chunked",), None, (), "chunked"),
        (("forgets-a-key",), None, ("forgets-a-key",), None),
    ],
)
def test_the_baseline_is_the_controlled_variant_else_the_marked_one(tmp_path, variants, control, marked, expected):
    """The variant with an A/A control is the baseline.

    Without a control, the baseline is a variant that is marked as one. If no variant is marked, it is the variant with
    the most ranked records.
    """
    run = synthetic.make_run(tmp_path, variants=variants, baseline=control, **SMALL)
    mark(run, marked)
    assert Results.load(run).baseline == expected
    assert Results(attnbench.load(run)).baseline == expected


def mark(run, names):
    """Mark the named variants as baselines in a run's manifest."""
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["variants"] = {name: {"baseline": True} for name in names}
    (run / "manifest.json").write_text(json.dumps(manifest))


def test_speedups_are_over_a_requested_baseline(tmp_path):
    """Speed-ups are relative to the requested baseline. Requesting an unknown variant raises UsageError."""
    run = synthetic.make_run(tmp_path, variants=("sdpa", "chunked"), **SMALL)
    results = Results.load(run, "chunked")
    assert (results.ranked.loc[results.ranked["variant"] == "chunked", "speedup"] == 1).all()
    assert (results.ranked.loc[results.ranked["variant"] == "sdpa", "speedup"] != 1).all()
    with pytest.raises(UsageError, match=r"baseline 'chunkd'.*did you mean 'chunked'"):
        Results.load(run, "chunkd")


def test_a_cell_measured_again_counts_once_by_its_last_record(tmp_path):
    """If two runs in one environment measured the same cell, `current` has the later record and `frame` has both."""
    synthetic.make_run(tmp_path, name="old", started="2026-01-01T00:00:00+00:00", seed=1, **SMALL)
    synthetic.make_run(tmp_path, name="new", started="2026-02-01T00:00:00+00:00", seed=2, **SMALL)
    results = Results.load(tmp_path)
    assert set(results.frame["run"]) == {"old", "new"}
    assert set(results.current["run"]) == {"new"}


def test_only_correct_exact_variants_are_ranked(tmp_path):
    """The A/A control, inexact variants and cells without a time are not ranked, so none of them can be first."""
    results = Results.load(synthetic.make_run(tmp_path, **SMALL))
    assert not {"forgets-a-key", "linear-attention", "xformers"} & set(results.ranked["variant"])
    assert not results.ranked["control"].any()
    assert len(results.ranked[results.ranked["variant"] == "sdpa"]) == len(SMALL["cells"])
    assert results.frame[results.leads].index.isin(results.ranked.index).all()


def test_suspect_times_are_not_ranked(tmp_path):
    """A record with the flag `suspect` is not ranked, although it has a time."""
    suspect = {"flags": ("suspect",), "reason": "cached output?"}
    results = Results.load(synthetic.make_run(tmp_path, variants=("sdpa",), replace=suspect, **SMALL))
    assert (results.frame["status"] == "ok").all()
    assert results.ranked.empty
    assert not results.leads.any()


def test_within_returns_the_results_of_selected_records(tmp_path):
    """The results that `within` returns cover only the selected records, but have the same baseline."""
    results = Results.load(synthetic.make_run(tmp_path, variants=("naive", "sdpa", "chunked"), **SMALL))
    causal = results.within(results.frame["mask"] == "causal")
    assert set(causal.ranked["mask"]) == {"causal"}
    assert len(causal.control_ratios) == 2
    assert len(results.control_ratios) == 4
    assert causal.baseline == results.baseline


def test_runs_of_one_name_keep_their_manifests(tmp_path):
    """Two runs have separate manifests even if their folders have the same name."""
    for machine in (synthetic.H200, synthetic.A100):
        synthetic.make_run(tmp_path / machine.name, name="r", machine=machine, **SMALL)
    found = [next(iter(manifest["environments"].values())) for manifest in Results.load(tmp_path).manifests]
    assert {environment["device_name"] for environment in found} == {synthetic.H200.name, synthetic.A100.name}


def test_each_part_is_computed_once(tmp_path, monkeypatch):
    """The log-ratios of the controls are computed once, although noise floors and leaders both depend on them."""
    calls = []
    pair = module.control_ratios
    monkeypatch.setattr(module, "control_ratios", lambda current: calls.append(len(current)) or pair(current))
    results = Results.load(synthetic.make_run(tmp_path, **SMALL))
    assert results.baseline_ratios is results.baseline_ratios
    assert results.comparisons is results.comparisons
    assert len(results.winners)
    assert results.noise_floor > 0
    assert len(calls) == 1
