"""Who is fastest, and when that is left open."""

import pytest

import synthetic
from attnbench.analysis.ranking import contests
from attnbench.analysis.results import Results

CELLS = synthetic.workloads(seqs=(256, 512, 1024), masks=("causal",), directions=("forward",))


def ranked(tmp_path, **options):
    """Load a synthetic run of few cells."""
    return Results.load(synthetic.make_run(tmp_path, cells=CELLS, rounds=8, **options))


def test_the_clearly_fastest_wins_with_its_margin_over_the_next(tmp_path):
    """A variant whose interval nobody reaches is alone in its place, and the margin is over the runner-up."""
    table = ranked(tmp_path, variants=("sdpa", "chunked", "naive"), slower={"sdpa": 0.5}).winners
    assert set(table["fastest"]) == {"sdpa"}
    assert set(table["tied"]) == {("sdpa",)}
    assert set(table["next"]) == {"chunked"}
    assert (table["margin"] > 2).all()


def test_overlapping_intervals_share_the_first_place(tmp_path):
    """Two variants of the same speed tie, and the margin is over the first one that is truly behind."""
    table = ranked(tmp_path, variants=("sdpa", "sdpa-flash", "naive")).winners
    assert set(table["tied"]) == {("sdpa", "sdpa-flash")}
    assert set(table["next"]) == {"naive"}


def test_wrong_and_inexact_variants_and_the_control_never_win(tmp_path):
    """However fast it is, what is wrong, inexact or the control takes no place."""
    results = ranked(tmp_path, variants=("sdpa", "naive", "forgets-a-key", "linear-attention"))
    table = results.winners
    assert set(table["fastest"]) == {"sdpa"}
    assert set(table["contenders"]) == {2}


def test_the_verdict_says_wins_margin_and_what_is_undecided(tmp_path):
    """The verdict of a group counts wins over shapes and names the median margin."""
    (contest,) = contests(ranked(tmp_path, variants=("sdpa", "naive"), slower={"naive": 1.0}))
    assert contest.verdict.startswith("On AMD EPYC 7B13, causal, forward: sdpa fastest in 3 of 3 shapes, median ")
    assert contest.undecided == 0
    assert [one.variant for one in contest.standings] == ["sdpa", "naive"]


def test_a_group_of_ties_has_no_winner(tmp_path):
    """Where every first place is shared, the verdict says so instead of naming a winner."""
    (contest,) = contests(ranked(tmp_path, variants=("sdpa", "sdpa-flash")))
    assert "no clear winner in 3 shapes; sdpa and sdpa-flash share" in contest.verdict
    assert contest.undecided == 3
    assert all(one.fastest == 0 for one in contest.standings)


def test_a_variant_alone_is_no_contest(tmp_path):
    """One ranked variant wins nothing: there was nobody to beat."""
    (contest,) = contests(ranked(tmp_path, variants=("sdpa", "forgets-a-key")))
    assert contest.shapes == 0
    assert "fewer than two variants" in contest.verdict
    assert all(one.fastest == one.tied == 0 for one in contest.standings)


def test_a_standing_counts_all_cells_and_averages_speedups_geometrically(tmp_path):
    """A standing has cells tried, cells ranked, and the geometric mean of speed-ups between their extremes."""
    (contest,) = contests(ranked(tmp_path, variants=("sdpa", "naive", "forgets-a-key")))
    by_name = {one.variant: one for one in contest.standings}
    assert (by_name["forgets-a-key"].cells, by_name["forgets-a-key"].ranked) == (3, 0)
    assert by_name["sdpa"].speedup is None
    naive = by_name["naive"]
    assert naive.speedup_low <= naive.speedup <= naive.speedup_high
    assert naive.speedup == pytest.approx((naive.speedup_low * naive.speedup_high) ** 0.5, rel=0.2)
