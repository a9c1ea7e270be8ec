"""Rankings: winners, ties and standings."""

import pytest

import synthetic
from attnbench.analysis.ranking import contests
from attnbench.analysis.results import Results

CELLS = synthetic.workloads(seqs=(256, 512, 1024), masks=("causal",), directions=("forward",))


def ranked(tmp_path, **options):
    """Write and load a synthetic run of a few cells."""
    return Results.load(synthetic.make_run(tmp_path, cells=CELLS, rounds=8, **options))


def test_the_fastest_variant_wins_by_its_margin_over_the_next(tmp_path):
    """A variant that is clearly the fastest is alone in first place, and `margin` compares it with the runner-up."""
    table = ranked(tmp_path, variants=("sdpa", "chunked", "naive"), slower={"sdpa": 0.5}).winners
    assert set(table["fastest"]) == {"sdpa"}
    assert set(table["tied"]) == {("sdpa",)}
    assert set(table["next"]) == {"chunked"}
    assert (table["margin"] > 2).all()


def test_equally_fast_variants_share_the_first_place(tmp_path):
    """Two equally fast variants tie for first place, and `next` is the fastest variant that is slower than both."""
    table = ranked(tmp_path, variants=("sdpa", "sdpa-flash", "naive")).winners
    assert set(table["tied"]) == {("sdpa", "sdpa-flash")}
    assert set(table["next"]) == {"naive"}


def test_wrong_and_inexact_variants_and_the_control_never_win(tmp_path):
    """Incorrect variants, inexact variants and the control are not ranked, even if they are the fastest."""
    results = ranked(tmp_path, variants=("sdpa", "naive", "forgets-a-key", "linear-attention"))
    table = results.winners
    assert set(table["fastest"]) == {"sdpa"}
    assert set(table["contenders"]) == {2}


def test_the_verdict_has_wins_and_margin(tmp_path):
    """A contest's verdict states how many shapes the winner won, and its median margin."""
    (contest,) = contests(ranked(tmp_path, variants=("sdpa", "naive"), slower={"naive": 1.0}))
    assert contest.verdict.startswith("On AMD EPYC 7B13, causal, forward: sdpa fastest in 3 of 3 shapes, median ")
    assert contest.undecided == 0
    assert [one.variant for one in contest.standings] == ["sdpa", "naive"]


def test_a_contest_of_ties_has_no_winner(tmp_path):
    """If variants tie for first place on every shape, the verdict states that there is no clear winner."""
    (contest,) = contests(ranked(tmp_path, variants=("sdpa", "sdpa-flash")))
    assert "no clear winner in 3 shapes; sdpa and sdpa-flash tie for first place" in contest.verdict
    assert contest.undecided == 3
    assert all(one.fastest == 0 for one in contest.standings)


def test_a_contest_needs_two_ranked_variants(tmp_path):
    """If only one variant is ranked, it does not win any shape."""
    (contest,) = contests(ranked(tmp_path, variants=("sdpa", "forgets-a-key")))
    assert contest.shapes == 0
    assert "fewer than two variants" in contest.verdict
    assert all(one.fastest == one.tied == 0 for one in contest.standings)


def test_a_standing_counts_all_cells_and_averages_speedups_geometrically(tmp_path):
    """A standing counts the variant's cells, and has the mean and the extremes of its speed-ups; the baseline has 1."""
    (contest,) = contests(ranked(tmp_path, variants=("sdpa", "naive", "forgets-a-key")))
    by_name = {one.variant: one for one in contest.standings}
    assert (by_name["forgets-a-key"].cells, by_name["forgets-a-key"].ranked) == (3, 0)
    assert by_name["sdpa"].speedup == 1
    naive = by_name["naive"]
    assert naive.speedup_low <= naive.speedup <= naive.speedup_high
    assert naive.speedup == pytest.approx((naive.speedup_low * naive.speedup_high) ** 0.5, rel=0.2)


def test_the_baseline_is_ranked_by_its_speedup_of_1(tmp_path):
    """Among variants with equally many first places, the baseline is between faster and slower ones."""
    slower = {"sdpa-flash": 0.5, "chunked": 0.6, "sdpa": 1.0, "naive": 1.0}
    (contest,) = contests(ranked(tmp_path, variants=tuple(sorted(slower)), slower=slower))
    assert [one.variant for one in contest.standings] == ["sdpa-flash", "chunked", "sdpa", "naive"]
    assert [one.fastest for one in contest.standings] == [3, 0, 0, 0]


def test_variants_without_a_ranked_cell_are_last_and_wrong_ones_after_all_others(tmp_path):
    """A variant that is wrong in every cell is below the slowest correct one and below one that only failed."""
    variants = ("forgets-a-key", "naive", "sdpa", "xformers")
    (contest,) = contests(ranked(tmp_path, variants=variants, slower={"forgets-a-key": 0.1}))
    assert [one.variant for one in contest.standings] == ["sdpa", "naive", "xformers", "forgets-a-key"]
    assert [one.incorrect for one in contest.standings] == [0, 0, 0, 3]
