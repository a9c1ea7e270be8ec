"""Verdicts within a run, and the variants that share the first place."""

import synthetic
from attnbench.analysis.results import Results

CELLS = synthetic.workloads(seqs=(256, 512, 1024, 2048), masks=("causal",), directions=("forward",))
COPY = ("sdpa", "sdpa-flash")  # equally fast on the synthetic machine


def loaded(tmp_path, **options):
    """Load a synthetic run."""
    return Results.load(synthetic.make_run(tmp_path, cells=CELLS, **options))


def leading(results):
    """Return the variants that share a first place."""
    return set(results.ranked.loc[results.ranked["leads"], "variant"])


def verdicts_of(results, variant):
    """Return the verdicts of a variant over the baseline."""
    return {comparison.verdict for key, comparison in results.comparisons.items() if key[-1] == variant}


def test_a_variant_is_judged_round_by_round_against_the_baseline(tmp_path):
    """A variant that is a tenth slower is `slower` and a copy is not, though the machine drifts by more than that."""
    results = loaded(
        tmp_path, variants=(*COPY, "chunked"), drift=0.2, noise=0.005, slower={"chunked": 0.45 / 0.62 * 1.1}
    )
    assert verdicts_of(results, "chunked") == {"slower"}
    assert verdicts_of(results, "sdpa-flash") <= {"same", "undecided"}


def test_the_controls_decide_how_much_a_difference_must_be(tmp_path):
    """A difference that is a verdict on a quiet machine is undecided if the run's own controls differ by more."""
    results = loaded(tmp_path, variants=COPY, noise=0.002, slower={"sdpa-flash": 1.05})
    assert verdicts_of(results, "sdpa-flash") == {"slower"}
    frame = results.frame.copy()
    control = frame["control"]
    frame.loc[control, "samples_ns"] = frame.loc[control, "samples_ns"].map(
        lambda taken: tuple(1.1 * ns for ns in taken)
    )
    assert verdicts_of(Results(frame), "sdpa-flash") == {"undecided"}


def test_without_a_control_intervals_decide_who_leads(tmp_path):
    """A run without an A/A control has no verdict; variants whose intervals overlap the fastest's share its place."""
    results = loaded(tmp_path, variants=(*COPY, "naive"), baseline=None)
    assert results.comparisons == {}
    assert leading(results) == set(COPY)


def test_variants_that_cannot_be_shown_to_be_slower_share_the_first_place(tmp_path):
    """The fastest variant and its copy lead, and the naive one does not."""
    assert leading(loaded(tmp_path, variants=(*COPY, "naive"))) == set(COPY)


def test_a_slow_variant_with_few_rounds_does_not_lead(tmp_path):
    """A variant of twice the time whose budget ended after two rounds is slower, though two rounds show little."""
    results = loaded(tmp_path, variants=(*COPY, "naive"), rounds=2)
    assert leading(results) == set(COPY)
    assert verdicts_of(results, "naive") == {"slower"}


def test_rounds_that_were_not_shared_are_not_paired(tmp_path):
    """Cells that were measured one after the other are not paired, even if their rounds have the same numbers."""
    results = loaded(tmp_path, variants=(*COPY, "naive"), replace={"flags": ("not_interleaved",)})
    assert results.comparisons == {}


def test_cells_of_two_runs_are_not_paired(tmp_path):
    """A variant that ran in another run than the baseline is not paired with it."""
    synthetic.make_run(tmp_path, name="a", cells=CELLS, variants=("sdpa",))
    synthetic.make_run(tmp_path, name="b", cells=CELLS, variants=("chunked",), baseline=None)
    assert {key[-1] for key in Results.load(tmp_path).comparisons} == set()
