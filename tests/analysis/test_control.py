"""The noise floor, computed from A/A controls."""

import math

import pytest

import synthetic
from attnbench.analysis.results import Results
from attnbench.analysis.verdict import blocks_of, noise_text

CELLS = synthetic.workloads(seqs=(256, 512, 1024, 2048), directions=("forward",))


def loaded(tmp_path, **options):
    """Write and load a synthetic run that contains only the baseline."""
    return Results.load(synthetic.make_run(tmp_path, cells=CELLS, variants=("sdpa",), **options))


def test_the_noise_floor_grows_with_the_noise_and_not_with_the_drift(tmp_path):
    """The noise floor depends on the samples' noise but not on drift, which affects a control and its twin equally."""
    quiet = loaded(tmp_path / "quiet", noise=0.001, drift=0.1).noise
    loud = loaded(tmp_path / "loud", noise=0.1, drift=0.0).noise
    assert quiet.cells == loud.cells == len(CELLS)
    assert quiet.noise_floor < 0.002
    assert 0.01 < loud.noise_floor < 0.2


def test_the_note_has_floor_pairs_and_false_positives(tmp_path):
    """The note under a table states the noise floor in percent and the number of false positives."""
    found = loaded(tmp_path).noise
    assert noise_text(found) == (
        f"A/A control: noise floor {found.noise_floor:.1%}; {found.false_positives} of 8 pairs of identical code"
        " told apart."
    )


def test_without_a_control_the_floor_is_unknown(tmp_path):
    """A run without a control has no noise floor, and the note says that the noise floor is unknown."""
    found = loaded(tmp_path, baseline=None).noise
    assert found.noise_floor is None
    assert "unknown" in noise_text(found)


def test_controls_of_one_run_are_not_paired_with_another_run(tmp_path):
    """A control is compared only with its twin in the same run."""
    loaded(tmp_path, name="a", started="2026-01-01T00:00:00+00:00")
    loaded(tmp_path, name="b", started="2026-02-01T00:00:00+00:00", slower={"sdpa": 3.0})
    found = Results.load(tmp_path).noise
    assert found.cells == len(CELLS)
    assert found.noise_floor < math.log(2)


def test_samples_without_blocks_are_blocks_of_one(tmp_path):
    """If a record has no blocks, each of its samples is treated as a block."""
    row = {"samples_ns": (1.0, 2.0), "cold_samples_ns": (), "block_sizes": (), "block_rounds": ()}
    assert blocks_of(row).medians() == pytest.approx({0: 1.0, 1: 2.0})
