"""Scaling exponents, crossovers and memory limits."""

import dataclasses

import pytest

import attnbench
import synthetic
from attnbench.analysis.length_scaling import crossovers, exponents, reaches
from attnbench.analysis.results import Results

LENGTHS = (512, 1024, 2048, 4096, 8192)
CELLS = synthetic.workloads(seqs=LENGTHS, masks=("none",), directions=("forward",))


def loaded(tmp_path, **options):
    """Write and load a synthetic run with five sequence lengths."""
    return Results.load(synthetic.make_run(tmp_path, cells=CELLS, rounds=8, **options))


def test_exact_attention_grows_with_the_square_of_the_length(tmp_path):
    """On the synthetic machine, attention's scaling exponent is about 2, and its confidence interval contains 2."""
    (found,) = exponents(loaded(tmp_path, variants=("sdpa",)))
    assert found.exponent == pytest.approx(2, abs=0.05)
    assert found.low <= 2 <= found.high
    assert found.lengths == len(LENGTHS)


def test_a_batch_that_shrinks_as_length_grows_does_not_change_the_exponent(tmp_path):
    """With the same number of tokens at each length, as in the suite `standard`, attention still has exponent 2."""
    cells = [cell for n in LENGTHS for cell in workloads_of(seqs=(n,), batches=(8192 // n,))]
    (found,) = exponents(Results.load(synthetic.make_run(tmp_path, cells=cells, variants=("sdpa",), rounds=8)))
    assert found.series.batch is None
    assert found.exponent == pytest.approx(2, abs=0.05)
    assert found.low <= 2 <= found.high
    assert found.expected == pytest.approx(2)


def workloads_of(**axes):
    """Return forward workloads without a mask."""
    return synthetic.workloads(**axes, masks=("none",), directions=("forward",))


def test_the_expected_exponent_is_that_of_the_flops(tmp_path):
    """One query over longer and longer keys is expected to grow linearly, and so is a window of constant size."""
    decode = [dataclasses.replace(cell, seq_q=1) for cell in CELLS]
    (found,) = exponents(Results.load(synthetic.make_run(tmp_path / "a", cells=decode, variants=("sdpa",))))
    assert found.expected == pytest.approx(1)
    window = synthetic.workloads(seqs=LENGTHS, masks=("window:32:0",), directions=("forward",))
    (found,) = exponents(Results.load(synthetic.make_run(tmp_path / "b", cells=window, variants=("sdpa",))))
    assert found.expected == pytest.approx(1, abs=0.05)


def test_lengths_that_differ_in_more_than_one_way_have_no_exponent(tmp_path):
    """If queries and keys grow independently of each other, no exponent is computed, and otherwise one is."""

    def shapes(*pairs):
        return [dataclasses.replace(CELLS[0], seq_q=queries, seq_k=keys) for queries, keys in pairs]

    mixed = shapes((64, 512), (512, 1024), (64, 2048), (1024, 4096))
    assert exponents(Results.load(synthetic.make_run(tmp_path / "a", cells=mixed, variants=("sdpa",)))) == []
    fixed = shapes((64, 512), (64, 1024), (64, 2048))
    (found,) = exponents(Results.load(synthetic.make_run(tmp_path / "b", cells=fixed, variants=("sdpa",))))
    assert found.expected == pytest.approx(1)


def test_noise_widens_the_interval_of_the_exponent(tmp_path):
    """With noisy samples, the exponent's confidence interval is wider but still contains the true exponent."""
    (quiet,) = exponents(loaded(tmp_path / "a", variants=("sdpa",), noise=0.001))
    (loud,) = exponents(loaded(tmp_path / "b", variants=("sdpa",), noise=0.1))
    assert loud.high - loud.low > 2 * (quiet.high - quiet.low)
    assert loud.low <= 2 <= loud.high


def test_two_lengths_have_no_exponent(tmp_path):
    """No exponent is computed from only two lengths, because any two points lie on a line."""
    run = synthetic.make_run(tmp_path, cells=CELLS[:2], variants=("sdpa",))
    assert exponents(Results.load(run)) == []


def overtaken(tmp_path):
    """Return results from one device, on which `sdpa` has a higher launch cost than `chunked` but a faster kernel."""
    slow_start = synthetic.Machine("cpu", "model", 1.2e11, 1.4e10, 60_000_000, 8e9)
    folder = tmp_path / "runs"
    first = synthetic.make_run(folder, name="a", cells=CELLS, variants=("chunked",), baseline=None)
    late = synthetic.make_run(folder, name="b", cells=CELLS, variants=("sdpa",), baseline=None, machine=slow_start)
    frame = attnbench.load([first, late])
    return Results(frame.assign(device_name="one", environment_id="one"))


def test_a_crossover_is_between_the_lengths_at_which_the_order_changes(tmp_path):
    """A crossover is interpolated between neighbouring lengths and lies inside its confidence interval."""
    (found,) = crossovers(overtaken(tmp_path))
    assert (found.before, found.after) == ("chunked", "sdpa")
    assert 2048 < found.length < 8192
    assert found.low <= found.length <= found.high


def test_curves_that_never_cross_have_no_crossover(tmp_path):
    """Two variants have no crossover if one is faster at all lengths, or if they tie at all lengths."""
    assert crossovers(loaded(tmp_path, variants=("sdpa", "sdpa-flash", "naive"))) == []


def test_memory_limits_are_listed_only_if_a_variant_ran_out(tmp_path):
    """`reaches` returns the memory limits of all variants if any variant ran out of memory, and otherwise nothing."""
    machine = synthetic.Machine("cpu", "small", 1.2e11, 1.4e10, 9_000, 1e9)
    found = {reach.variant: reach for reach in reaches(loaded(tmp_path, variants=("naive", "sdpa"), machine=machine))}
    assert (found["naive"].largest_ok, found["naive"].smallest_out) == (2048, 4096)
    assert (found["sdpa"].largest_ok, found["sdpa"].smallest_out) == (8192, None)
    records = sorted((tmp_path).rglob("records-*.jsonl"))
    for path in records:
        path.write_text(path.read_text().replace('"flags":[]', '"flags":["harness_out_of_memory"]'))
    assert reaches(Results.load(records[0].parent)) == [], "failures of the harness are no limit of a variant"
    assert reaches(loaded(tmp_path / "large", variants=("naive", "sdpa"), machine=synthetic.H200)) == []
