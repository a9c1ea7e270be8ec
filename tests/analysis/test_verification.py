"""Verifying a run by measuring some of its cells again."""

import pytest

import synthetic
from attnbench.analysis.compare import agreement, sample
from attnbench.analysis.results import Results

CELLS = synthetic.workloads(seqs=(512, 1024), masks=("causal",), directions=("forward",))


def load(folder, name, **options):
    """Write and load a synthetic run of a few cells.

    The seed is the length of the run's name, so runs named `one` and `second` have different samples.
    """
    options = {"variants": ("sdpa", "chunked", "xformers"), "cells": CELLS, "noise": 0.005, "drift": 0.0, **options}
    return Results.load(synthetic.make_run(folder, name=name, seed=len(name), **options))


def test_a_sample_is_drawn_from_cells_that_can_run(tmp_path):
    """A sample has the requested number of distinct cells, depends only on the seed, and omits unsupported cells."""
    results = load(tmp_path, "one")
    drawn = sample(results, 3, seed=1)
    assert len(set(drawn)) == 3
    assert drawn == sample(results, 3, seed=1)
    assert {cell.variant for cell in sample(results, 100)} == {"sdpa", "chunked"}


def test_the_same_code_agrees_with_itself(tmp_path):
    """Cells that are measured again with the same code agree. Cells that are not measured again are left out."""
    found = agreement(load(tmp_path, "one"), load(tmp_path, "second", variants=("chunked",)))
    assert found.agrees
    assert len(found.agreeing) == 2
    assert "2 of 2 cells agree" in str(found)


@pytest.mark.parametrize("factor", [0.7, 1.4])
def test_a_time_that_clearly_differs_disagrees(tmp_path, factor):
    """A cell disagrees if it is much slower or much faster than before."""
    found = agreement(load(tmp_path, "one"), load(tmp_path, "second", slower={"chunked": factor}))
    assert not found.agrees
    assert {change.variant for change in found.disagreeing} == {"chunked"}


def test_another_status_disagrees(tmp_path):
    """A cell that fails when it is measured again disagrees."""
    again = load(tmp_path, "second").frame
    again.loc[again["variant"] == "chunked", "status"] = "crash"
    found = agreement(load(tmp_path, "one"), Results(again))
    assert {change.variant for change in found.disagreeing} == {"chunked"}


def test_a_verification_without_cells_does_not_agree(tmp_path):
    """A second run without records does not verify the first run."""
    assert not agreement(load(tmp_path, "one"), load(tmp_path, "second", cells=[])).agrees
