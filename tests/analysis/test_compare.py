"""The comparison of two runs, and the regression gate."""

import dataclasses

import pytest

import synthetic
from attnbench.analysis.compare import compare
from attnbench.analysis.results import Results
from attnbench.report.comparison import comparison_json, comparison_markdown, comparison_table

CELLS = synthetic.workloads(seqs=(512, 1024), masks=("causal",), directions=("forward",))


def load(folder, name, **options):
    """Write and load a synthetic run of a few cells.

    The seed is the length of the run's name, so runs named `old` and `newer` have different samples.
    """
    options = {"variants": ("sdpa", "chunked"), "cells": CELLS, "noise": 0.005, "drift": 0.0, **options}
    return Results.load(synthetic.make_run(folder, name=name, seed=len(name), **options))


def by_verdict(comparison):
    """Return, for each verdict, the set of variants that have a cell with this verdict."""
    found = {}
    for change in comparison.changes:
        found.setdefault(change.verdict, set()).add(change.variant)
    return found


def test_a_slow_down_beyond_bar_and_noise_is_a_regression(tmp_path):
    """If the regression threshold is 3%, a variant that is 10% slower is a regression, and an unchanged one is not."""
    found = compare(load(tmp_path, "old"), load(tmp_path, "newer", slower={"chunked": 1.10}), bar=0.03)
    assert {change.variant for change in found.regressions} == {"chunked"}
    assert all(change.ratio == pytest.approx(1.1, abs=0.02) for change in found.regressions)
    assert found.changes[0].regression


def test_a_slow_down_within_the_bar_is_not_a_regression(tmp_path):
    """If the regression threshold is 20%, a variant that is 10% slower is judged `slower` but is not a regression."""
    found = compare(load(tmp_path, "old"), load(tmp_path, "newer", slower={"chunked": 1.10}), bar=0.2)
    assert found.regressions == []
    assert "chunked" in by_verdict(found)["slower"]


def test_a_slow_down_within_three_noise_floors_is_not_a_regression(tmp_path):
    """A 10% slowdown is not a regression if the A/A controls differ from their baselines by 6%.

    A slow-down must exceed three times the noise floor to be a regression.
    """
    old = load(tmp_path, "old")
    slower = load(tmp_path, "newer", slower={"chunked": 1.10})
    frame = slower.frame.copy()
    control = frame["control"]
    frame.loc[control, "samples_ns"] = frame.loc[control, "samples_ns"].map(lambda ns: tuple(1.06 * t for t in ns))
    assert compare(old, slower).regressions
    assert compare(old, Results(frame)).regressions == []


def test_the_same_runs_have_no_regression(tmp_path):
    """Two runs of the same code differ only by noise, so no cell is a regression."""
    assert compare(load(tmp_path, "old"), load(tmp_path, "newer")).regressions == []


def test_a_newly_failing_cell_is_a_regression_and_comes_first(tmp_path):
    """A cell that succeeded in the old run but fails in the new one is a regression. It is listed first."""
    old = load(tmp_path, "old", variants=("sdpa", "chunked"))
    new = load(tmp_path, "newer", slower={"sdpa": 2.0}).frame
    broken = new["variant"] == "chunked"
    new.loc[broken, ["status", "reason"]] = ["crash", "worker died"]
    found = compare(old, Results(new))
    assert [change.verdict for change in found.changes] == ["newly failing", "newly failing", "slower", "slower"]
    assert found.changes[0].reason == "worker died"


def test_added_removed_and_fixed_cells_are_listed_as_such(tmp_path):
    """Cells in only one of the runs are `added` or `removed`.

    Cells that failed in the old run are `fixed` or `still failing`.
    """
    old = load(tmp_path, "old", variants=("sdpa", "naive", "forgets-a-key"))
    new = load(tmp_path, "newer", variants=("sdpa", "chunked", "forgets-a-key")).frame
    fixed = new["variant"] == "forgets-a-key"
    found = by_verdict(compare(old, Results(new)))
    assert found["removed"] == {"naive"}
    assert found["added"] == {"chunked"}
    assert found["still failing"] == {"forgets-a-key"}
    donor = new[new["variant"] == "chunked"].reset_index()
    for column in ("status", "latency_ms", "samples_ns", "block_sizes", "block_rounds"):
        new.loc[fixed, column] = donor[column].set_axis(new.index[fixed])
    assert by_verdict(compare(old, Results(new)))["fixed"] == {"forgets-a-key"}


def test_machines_are_compared_by_variant_and_workload(tmp_path):
    """If the runs have no device name in common, cells are matched without the device name, and a note says so."""
    found = compare(load(tmp_path, "old"), load(tmp_path, "newer", machine=synthetic.H200))
    assert not found.same_device
    assert by_verdict(found) == {"faster": {"sdpa", "chunked"}}
    assert any("different devices" in note for note in comparison_table(found).notes)


def test_markdown_begins_with_the_verdict_and_escapes_names(tmp_path):
    """The pull request comment starts with the number of regressions, and HTML in variant names is escaped."""
    found = compare(load(tmp_path, "old"), load(tmp_path, "newer", slower={"chunked": 1.2}))
    text = comparison_markdown(found)
    assert text.startswith("### Attention benchmark: 2 regressions\n")
    assert "| **slower** | chunked |" in text
    hostile = dataclasses.replace(found.changes[0], variant="<img src=x>|")
    assert "<img" not in comparison_markdown(dataclasses.replace(found, changes=(hostile,)))


def test_markdown_without_a_regression_folds_the_other_changes(tmp_path):
    """If nothing regressed, the pull request comment says so and puts the other changes into a `<details>` element."""
    found = compare(load(tmp_path, "old"), load(tmp_path, "newer", slower={"chunked": 0.8}))
    text = comparison_markdown(found)
    assert text.startswith("### Attention benchmark: no regression\n")
    assert "<details>" in text


def test_json_has_counts_and_each_change(tmp_path):
    """The JSON output contains the number of regressions, and the verdict and interval of each change."""
    found = comparison_json(compare(load(tmp_path, "old"), load(tmp_path, "newer", slower={"chunked": 1.2})))
    assert found["regressions"] == 2
    assert len(found["changes"]) == 4
    assert found["changes"][0]["verdict"] == "slower"
    assert found["changes"][0]["low"] > 1.03
