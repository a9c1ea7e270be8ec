"""Running cells again."""

import pytest

import synthetic
from attnbench.analysis.results import Results
from attnbench.analysis.verification import agreement, sample

CELLS = synthetic.workloads(seqs=(512, 1024), masks=("causal",), directions=("forward",))


def load(folder, name, **options):
    """Load a synthetic run of few cells."""
    options = {"variants": ("sdpa", "chunked", "xformers"), "cells": CELLS, "noise": 0.005, "drift": 0.0, **options}
    return Results.load(synthetic.make_run(folder, name=name, seed=len(name), **options))


def test_a_sample_is_drawn_from_cells_that_can_run(tmp_path):
    """The sample has as many cells as asked for, each once, the same for the same seed, and none unsupported."""
    results = load(tmp_path, "one")
    drawn = sample(results, 3, seed=1)
    assert len(set(drawn)) == 3
    assert drawn == sample(results, 3, seed=1)
    assert {cell.variant for cell in sample(results, 100)} == {"sdpa", "chunked"}


def test_the_same_code_agrees_with_itself(tmp_path):
    """A second measurement of a part of the cells agrees, and the rest is not held against it."""
    found = agreement(load(tmp_path, "one"), load(tmp_path, "second", variants=("chunked",)))
    assert found.agrees
    assert len(found.agreeing) == 2
    assert "2 of 2 cells agree" in str(found)


@pytest.mark.parametrize("factor", [0.7, 1.4])
def test_a_time_that_is_surely_off_disagrees_either_way(tmp_path, factor):
    """Much faster is as suspicious as much slower."""
    found = agreement(load(tmp_path, "one"), load(tmp_path, "second", slower={"chunked": factor}))
    assert not found.agrees
    assert {change.variant for change in found.disagreeing} == {"chunked"}


def test_another_status_disagrees(tmp_path):
    """A cell that failed the second time disagrees."""
    again = load(tmp_path, "second").frame
    again.loc[again["variant"] == "chunked", "status"] = "crash"
    found = agreement(load(tmp_path, "one"), Results(again))
    assert {change.variant for change in found.disagreeing} == {"chunked"}


def test_nothing_measured_again_is_no_agreement(tmp_path):
    """An empty second run proves nothing."""
    assert not agreement(load(tmp_path, "one"), load(tmp_path, "second", cells=[])).agrees
