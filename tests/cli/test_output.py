"""The summary that `attnbench run` prints at the end."""

from collections import Counter
from pathlib import Path

import synthetic
from attnbench import store
from attnbench.cli.output import print_summary, print_warnings
from attnbench.plan.history import TimeEstimate
from attnbench.runner.scheduler import RunSummary


def test_the_summary_gives_the_estimate_and_the_phases(capsys):
    """The summary gives the actual and the estimated duration, the share of sampling, and each phase's time per cell.

    Phases that took less than half a millisecond per cell are left out.
    """
    phases = {"start": 0.0004, "first_call": 0.01, "conform": 1.0, "measure": 2.0}
    summary = RunSummary(Counter(ok=4, unsupported=1), 5.0, 0.4, phase_s=phases)
    print_summary(Path("r"), summary, TimeEstimate(6.0))
    assert capsys.readouterr().out.splitlines() == [
        "4 ok, 1 unsupported in 5.0 s (estimated: 6.0 s), 40% of it sampling",
        "seconds per timed cell: first call 0.003, conform 0.250, measure 0.500",
        "records: r",
        "report:  attnbench report r",
    ]


def test_a_run_without_timed_cells_has_no_phases(capsys):
    """If no cell was timed, the summary has no line with the time per cell."""
    print_summary(Path("r"), RunSummary(Counter(crash=1), 5.0, phase_s={"start": 1.0}), TimeEstimate(6.0))
    assert "per timed cell" not in capsys.readouterr().out


def test_a_run_ends_with_a_warning_if_others_had_the_cores(tmp_path, capsys):
    """The last lines say that there is no verdict, why and what to do, and which variants suffer most from load."""
    cells = synthetic.workloads(seqs=(512,), masks=("causal",), directions=("forward",))
    run = synthetic.make_run(tmp_path, cells=cells, variants=("sdpa", "naive"), disturbed={"sdpa": 1.0, "naive": 1.0})
    print_warnings(store.load_warnings(run))
    assert capsys.readouterr().out == (
        "warning: no verdict: other processes used the cores in 100% of the blocks; stop them and run again\n"
    )
    clean = synthetic.make_run(tmp_path, name="clean", cells=cells, variants=("sdpa", "naive"))
    assert store.load_warnings(clean) == []
