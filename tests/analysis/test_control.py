"""The noise floor of runs, computed from their processes or, for runs of earlier versions, from A/A controls."""

import math

import synthetic
from attnbench.analysis.results import Results
from attnbench.analysis.verdict import blocks_of, noise_text

CELLS = synthetic.workloads(seqs=(256, 512, 1024, 2048), directions=("forward",))


def loaded(tmp_path, variants=("sdpa",), processes=1, **options):
    """Write and load a synthetic run. By default it is a run of an earlier version, with one process and a control."""
    return Results.load(synthetic.make_run(tmp_path, cells=CELLS, variants=variants, processes=processes, **options))


def test_the_noise_floor_grows_with_the_noise_and_not_with_the_drift(tmp_path):
    """The noise floor depends on the samples' noise but not on drift, which affects both sides of a pair equally."""
    for name, options in (("controls", {}), ("processes", {"variants": ("sdpa", "naive"), "processes": 5})):
        quiet = loaded(tmp_path / f"quiet {name}", noise=0.001, drift=0.1, **options).noise_floor
        loud = loaded(tmp_path / f"loud {name}", noise=0.1, drift=0.0, **options).noise_floor
        assert quiet < 0.003
        assert 0.01 < loud < 0.2


def test_the_note_states_the_noise_floor():
    """The note under a table states the noise floor in percent, or that it is unknown."""
    assert noise_text(0.0123) == "Noise floor: two processes that run the same code typically differ by 1.2%."
    assert "unknown" in noise_text(None)


def test_one_process_without_a_control_has_no_noise_floor(tmp_path):
    """A run in which each variant ran in one process, and none in a second one, has no noise floor and no verdicts."""
    results = loaded(tmp_path, variants=("sdpa", "naive"), baseline=None)
    assert results.noise_floor is None
    assert not results.comparisons


def test_controls_of_one_run_are_not_paired_with_another_run(tmp_path):
    """A control is compared only with its twin in the same run."""
    loaded(tmp_path, name="a", started="2026-01-01T00:00:00+00:00")
    loaded(tmp_path, name="b", started="2026-02-01T00:00:00+00:00", slower={"sdpa": 3.0})
    found = Results.load(tmp_path)
    assert len(found.control_ratios) == len(CELLS)
    assert found.noise_floor < math.log(2)


def test_samples_without_blocks_are_blocks_of_one(tmp_path):
    """If a record has no blocks, each of its samples is treated as a block."""
    row = {
        "samples_ns": (1.0, 2.0),
        "cold_samples_ns": (),
        "block_sizes": (),
        "block_rounds": (),
        "block_processes": (),
    }
    assert blocks_of(row).medians() == {0: {0: 1.0, 1: 2.0}}
