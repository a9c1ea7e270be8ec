"""Verdicts within a run, and who shares the first place."""

import attnbench
import synthetic
from attnbench.analysis.verdict import judge, with_leaders

CELLS = synthetic.workloads(seqs=(256, 512, 1024, 2048), masks=("causal",), directions=("forward",))
COPY = ("sdpa", "sdpa-flash")  # of the same speed in the synthetic machine


def loaded(tmp_path, **options):
    """Load a synthetic run."""
    return attnbench.load(synthetic.make_run(tmp_path, cells=CELLS, **options))


def verdicts_of(frame, variant):
    """Give the verdicts of a variant over the baseline."""
    return {one.verdict for key, one in judge(frame).items() if key[-1] == variant}


def test_a_variant_is_judged_round_by_round_against_the_baseline(tmp_path):
    """What is a tenth slower is told slower, and a copy is not, though the machine drifts by more than that."""
    frame = loaded(tmp_path, variants=(*COPY, "chunked"), drift=0.2, noise=0.005, slower={"chunked": 0.45 / 0.62 * 1.1})
    assert verdicts_of(frame, "chunked") == {"slower"}
    assert verdicts_of(frame, "sdpa-flash") <= {"same", "undecided"}


def test_the_controls_decide_how_much_a_difference_must_be(tmp_path):
    """The same difference is no verdict where the controls of the run differ by more."""
    frame = loaded(tmp_path, variants=COPY, noise=0.002, slower={"sdpa-flash": 1.05})
    assert verdicts_of(frame, "sdpa-flash") == {"slower"}
    apart = frame["control"]
    frame.loc[apart, "samples_ns"] = frame.loc[apart, "samples_ns"].map(lambda taken: tuple(1.1 * one for one in taken))
    assert verdicts_of(frame, "sdpa-flash") == {"undecided"}


def test_without_a_control_nobody_is_judged_and_intervals_decide(tmp_path):
    """A run without an A/A control gives no verdict; ties then follow from the intervals of the medians."""
    frame = loaded(tmp_path, variants=(*COPY, "naive"), baseline=None)
    assert judge(frame) == {}
    leads = with_leaders(frame)
    assert set(leads.loc[leads["leads"], "variant"]) == set(COPY)


def test_who_is_not_told_slower_shares_the_first_place(tmp_path):
    """The fastest and its copy lead, in a frame that is told so once; the naive one does not."""
    leads = with_leaders(loaded(tmp_path, variants=(*COPY, "naive")))
    assert set(leads.loc[leads["leads"], "variant"]) == set(COPY)
    assert with_leaders(leads) is leads


def test_what_had_few_rounds_and_took_twice_as_long_shares_no_first_place(tmp_path):
    """A slow variant whose budget ended after two rounds is no leader by that, though two rounds tell little."""
    frame = loaded(tmp_path, variants=(*COPY, "naive"), rounds=2)
    leads = with_leaders(frame)
    assert set(leads.loc[leads["leads"], "variant"]) == set(COPY)
    assert verdicts_of(frame, "naive") == {"slower"}


def test_rounds_that_were_not_shared_are_not_paired(tmp_path):
    """Cells that were measured one after the other are not compared round by round, whatever their rounds' numbers."""
    frame = loaded(tmp_path, variants=(*COPY, "naive"), replace={"flags": ("not_interleaved",)})
    assert judge(frame) == {}


def test_cells_of_two_runs_are_not_paired(tmp_path):
    """A variant that ran in another run than the baseline took no turns with it."""
    synthetic.make_run(tmp_path, name="a", cells=CELLS, variants=("sdpa",))
    synthetic.make_run(tmp_path, name="b", cells=CELLS, variants=("chunked",), baseline=None)
    assert {key[-1] for key in judge(attnbench.load(tmp_path))} == set()
