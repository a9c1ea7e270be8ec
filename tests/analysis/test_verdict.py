"""Verdicts within a run, and the variants that tie for first place."""

import itertools
import math

import pytest

import synthetic
from attnbench.analysis.results import Results

CELLS = synthetic.workloads(seqs=(256, 512, 1024, 2048), masks=("causal",), directions=("forward",))
EQUALLY_FAST = ("sdpa", "sdpa-flash")  # these variants have the same speed on the synthetic machine


def loaded(tmp_path, **options):
    """Write and load a synthetic run."""
    return Results.load(synthetic.make_run(tmp_path, cells=CELLS, **options))


def leading(results):
    """Return the variants that are in first place on at least one problem."""
    return set(results.ranked.loc[results.ranked["leads"], "variant"])


def verdicts_of(results, variant):
    """Return the set of verdicts from comparing a variant with the baseline."""
    return {comparison.verdict for key, comparison in results.comparisons.items() if key[-1] == variant}


def test_a_variant_is_judged_round_by_round_against_the_baseline(tmp_path):
    """Despite a drift of 20%, a variant that is 10% slower is judged `slower`, but an equally fast variant is not."""
    results = loaded(
        tmp_path, variants=(*EQUALLY_FAST, "chunked"), drift=0.2, noise=0.005, slower={"chunked": 0.45 / 0.62 * 1.1}
    )
    assert verdicts_of(results, "chunked") == {"slower"}
    assert verdicts_of(results, "sdpa-flash") <= {"same", "undecided"}


def test_a_difference_below_the_noise_floor_is_undecided(tmp_path):
    """A slow-down of 5% is judged `slower` on a quiet machine, but `undecided` if processes differ by up to 20%."""
    results = loaded(tmp_path, variants=EQUALLY_FAST, noise=0.002, slower={"sdpa-flash": 1.05})
    assert verdicts_of(results, "sdpa-flash") == {"slower"}
    frame = results.frame.copy()
    flash = frame["variant"] == "sdpa-flash"
    factors = [1.0, 1.2, 0.9, 1.0, 1.1]  # one for each process, which took two blocks of three samples
    frame.loc[flash, "samples_ns"] = frame.loc[flash, "samples_ns"].map(
        lambda taken: tuple(factors[index // 6] * ns for index, ns in enumerate(taken))
    )
    assert verdicts_of(Results(frame), "sdpa-flash") == {"undecided"}


def test_an_earlier_run_is_judged_by_its_controls(tmp_path):
    """In a run with one process per cell, the A/A controls make the noise floor, so a factor of two is `slower`."""
    results = loaded(tmp_path, variants=(*EQUALLY_FAST, "naive"), processes=1)
    assert verdicts_of(results, "naive") == {"slower"}
    assert leading(results) == set(EQUALLY_FAST)


def test_without_a_noise_floor_intervals_decide_who_leads(tmp_path):
    """A run with one process per cell and no control has no verdicts, and overlapping intervals tie for first place."""
    results = loaded(tmp_path, variants=(*EQUALLY_FAST, "naive"), baseline=None, processes=1)
    assert results.comparisons == {}
    assert leading(results) == set(EQUALLY_FAST)


def test_variants_that_cannot_be_shown_to_be_slower_share_the_first_place(tmp_path):
    """The fastest variant and an equally fast variant tie for first place, but a slower variant does not."""
    assert leading(loaded(tmp_path, variants=(*EQUALLY_FAST, "naive"))) == set(EQUALLY_FAST)


def test_a_slow_variant_with_few_rounds_does_not_lead(tmp_path):
    """A variant that takes twice as long is judged `slower`, even if it was measured for only two rounds."""
    results = loaded(tmp_path, variants=(*EQUALLY_FAST, "naive"), rounds=2, processes=2)
    assert leading(results) == set(EQUALLY_FAST)
    assert verdicts_of(results, "naive") == {"slower"}


def test_cells_that_were_not_interleaved_are_not_paired(tmp_path):
    """Cells that were measured one after the other are not paired, even if their round numbers are equal."""
    results = loaded(tmp_path, variants=(*EQUALLY_FAST, "naive"), replace={"flags": ("not_interleaved",)})
    assert results.comparisons == {}


def test_cells_of_two_runs_are_not_paired(tmp_path):
    """A variant is not paired with the baseline if the two were measured in different runs."""
    synthetic.make_run(tmp_path, name="a", cells=CELLS, variants=("sdpa",))
    synthetic.make_run(tmp_path, name="b", cells=CELLS, variants=("chunked",), baseline=None)
    assert {key[-1] for key in Results.load(tmp_path).comparisons} == set()


def in_rounds(results, rounds):
    """Return the results with only some rounds of each variant, given the rounds by variant."""

    def kept(cell):
        numbers = [number for number in cell["block_rounds"] if number in rounds.get(cell["variant"], {number})]
        samples = [cell["samples_ns"][3 * number : 3 * number + 3] for number in numbers]
        cell["block_rounds"], cell["block_sizes"] = tuple(numbers), (3,) * len(numbers)
        cell["samples_ns"], cell["block_processes"] = tuple(itertools.chain(*samples)), ()
        return cell

    return Results(results.frame.apply(kept, axis=1))


@pytest.mark.parametrize(("factor", "expected"), [(1.0, {"sdpa-flash", "chunked"}), (1.1, {"sdpa-flash"})])
def test_variants_without_common_rounds_are_compared_through_the_baseline(tmp_path, factor, expected):
    """Equally fast variants tie although the machine was 15% slower in the rounds of one; a slower one does not."""
    equal = 0.45 / 0.62  # the factor by which chunked becomes as fast as sdpa-flash
    results = loaded(
        tmp_path,
        variants=(*EQUALLY_FAST, "chunked"),
        slower={"sdpa": 1.5, "chunked": equal * factor},
        noise=0.002,
        drift=0.2,
        rounds=20,
        processes=1,
    )
    slow = {number for number in range(20) if math.sin(number) > 0.4}
    fast = {number for number in range(20) if math.sin(number) < -0.4}
    assert leading(in_rounds(results, {"sdpa-flash": fast, "chunked": slow})) == expected
