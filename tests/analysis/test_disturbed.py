"""Cells in whose blocks others had the cores: they have a time, but nothing is claimed of them."""

import pytest

import synthetic
from attnbench.analysis.compare import compare
from attnbench.analysis.dispatch_table import dispatch_gains, from_json, regions, to_json
from attnbench.analysis.length_scaling import crossovers
from attnbench.analysis.ranking import contests
from attnbench.analysis.results import Results
from attnbench.analysis.trend import trends

CELLS = synthetic.workloads(seqs=(256, 512, 1024, 2048), masks=("causal",), directions=("forward",))
VARIANTS = ("sdpa", "chunked", "naive")
BUSY = "other processes used the cores in 100% of the blocks; stop them and run again"


def loaded(tmp_path, name="run", **options):
    """Write and load a synthetic run, in which `sdpa` is the baseline and the fastest variant."""
    return Results.load(synthetic.make_run(tmp_path, name=name, cells=CELLS, variants=VARIANTS, **options))


def comparisons_of(results, variant):
    """Return the comparisons of a variant with the baseline."""
    return [comparison for key, comparison in results.comparisons.items() if key[-1] == variant]


def test_a_disturbed_cell_has_a_time_and_no_verdict(tmp_path):
    """If others had the cores in most blocks, the verdict is `undecided` for this reason, however large the ratio."""
    results = loaded(tmp_path, disturbed={"naive": 1.0}, slower={"naive": 3.0})
    for comparison in comparisons_of(results, "naive"):
        assert (comparison.verdict, comparison.reason, comparison.low) == ("undecided", "disturbed", None)
        assert comparison.ratio > 3
    assert {comparison.verdict for comparison in comparisons_of(results, "chunked")} == {"slower"}
    naive = results.current[results.current["variant"] == "naive"]
    assert naive["latency_ms"].notna().all()
    assert all("disturbed" in flags for flags in naive["flags"])  # although the record itself has no such flag


def test_a_disturbed_baseline_leaves_no_verdict(tmp_path):
    """If the baseline was disturbed, no variant has a verdict, although the other cells were not disturbed."""
    results = loaded(tmp_path, disturbed={"sdpa": 0.6})
    judged = [*comparisons_of(results, "chunked"), *comparisons_of(results, "naive")]
    assert len(judged) == 8
    assert {(comparison.verdict, comparison.reason) for comparison in judged} == {("undecided", "disturbed")}


def test_disturbed_blocks_are_left_out_as_long_as_they_are_few(tmp_path):
    """If a third of the blocks took twice as long because of others, times and verdicts are those without them."""
    clean, disturbed = loaded(tmp_path, "clean"), loaded(tmp_path, "load", disturbed={"chunked": 0.34, "sdpa": 0.2})
    assert disturbed.warnings == []
    for variant in ("sdpa", "chunked"):
        one, other = (results.current[results.current["variant"] == variant] for results in (clean, disturbed))
        assert list(other["latency_ms"]) == pytest.approx(list(one["latency_ms"]), rel=0.03)
    ratios = [[each.ratio for each in comparisons_of(results, "chunked")] for results in (clean, disturbed)]
    assert ratios[1] == pytest.approx(ratios[0], rel=0.03)
    assert {comparison.verdict for comparison in comparisons_of(disturbed, "chunked")} == {"slower"}


@pytest.mark.parametrize("variant", ["sdpa", "naive"])
def test_nobody_is_in_first_place_alone_beside_a_disturbed_cell(tmp_path, variant):
    """Neither a disturbed cell nor another one is in first place alone, because the disturbed cell may be faster."""
    results = loaded(tmp_path, disturbed={variant: 1.0})
    assert results.leads[results.frame["variant"] == variant].sum() == len(CELLS)
    assert results.winners["disturbed"].all()
    (contest,) = contests(results)
    assert all(standing.fastest == 0 for standing in contest.standings)
    assert contest.finding.startswith(f"no verdict for 4 of 12 cells: {BUSY}")


def test_undisturbed_cells_are_still_ranked_behind_each_other(tmp_path):
    """A variant that is slower than an undisturbed one is not in first place, whatever is true of disturbed ones."""
    results = loaded(tmp_path, disturbed={"naive": 1.0})
    assert set(results.ranked.loc[results.ranked["leads"], "variant"]) == {"sdpa", "naive"}


def test_results_warn_of_load(tmp_path):
    """The warnings name the share of cells and blocks, and the variants that wait for more cores than others."""
    assert loaded(tmp_path, "clean").warnings == []
    results = loaded(tmp_path, disturbed=dict.fromkeys(VARIANTS, 1.0))
    assert results.warnings == [f"no verdict: {BUSY}"]
    (contest,) = contests(results)
    assert contest.verdict == f"On {contest.device_name}, causal, forward: no verdict: {BUSY}."


def test_two_runs_are_not_compared_where_one_was_disturbed(tmp_path):
    """A cell that was disturbed in either run is no regression, and the comparison says which run it was."""
    old, new = loaded(tmp_path, "old"), loaded(tmp_path, "new", disturbed={"chunked": 1.0})
    for before, after, name in ((old, new, "new"), (new, old, "old")):
        found = compare(before, after)
        changes = [change for change in found.changes if change.variant == "chunked"]
        assert {(change.verdict, change.reason) for change in changes} == {("undecided", "disturbed")}
        assert found.regressions == []
        assert found.warnings == (f"{name}: no verdict for 4 of 12 cells: {BUSY}",)
    changed = [trend for trend in trends(Results.load([tmp_path / "old", tmp_path / "new"])) if trend.changes]
    assert changed == []


def test_a_dispatch_table_says_that_its_regions_are_not_clear(tmp_path):
    """The table has the warning and no clear shape, claims no gain, and can be read back."""
    results = loaded(tmp_path, disturbed={"sdpa": 1.0})
    table = regions(results)
    written = to_json(table, results.warnings)
    assert written["warnings"] == [f"no verdict for 4 of 12 cells: {BUSY}"]
    assert from_json(written) == table
    assert sum(region.clear for region in table) == 0
    assert dispatch_gains(results, "sdpa") == {}


def test_disturbed_cells_have_no_crossover(tmp_path):
    """A length at which one variant overtakes another is claimed only of undisturbed cells."""
    slow_start = synthetic.Machine("cpu", "model", 1.2e11, 1.4e10, 1_500_000, 8e9)
    for name, load in (("clean", {}), ("load", {"sdpa": 1.0})):
        folder = tmp_path / name
        synthetic.make_run(folder, name="a", cells=CELLS, variants=("chunked",), baseline=None)
        synthetic.make_run(
            folder, name="b", cells=CELLS, variants=("sdpa",), baseline=None, machine=slow_start, disturbed=load
        )
        frame = Results.load(folder).frame.assign(device_name="one", environment_id="one")
        assert bool(crossovers(Results(frame))) == (name == "clean")
