"""The verdict tables."""

import synthetic
from attnbench.analysis.results import Results
from attnbench.report.derived_tables import verdict_tables

CELLS = synthetic.workloads(seqs=(256, 512, 1024), masks=("causal",), directions=("forward",))


def test_each_workload_has_a_verdict_a_ratio_and_an_interval_for_each_variant(tmp_path):
    """Each variant except the baseline has a column of verdicts, ratios and intervals. A note gives the noise floor."""
    run = synthetic.make_run(tmp_path, cells=CELLS, variants=("sdpa", "chunked"), slower={"chunked": 3.0})
    (table,) = verdict_tables(Results.load(run, "sdpa"))
    assert table.columns == ("workload", "chunked")
    assert table.title.endswith("causal · forward: verdicts over sdpa")
    assert len(table.rows) == len(CELLS)
    for _, cell in table.rows:
        assert cell.text.startswith("slower 4.")
        assert " to " in cell.text
    assert "Noise floor" in table.notes[-1]


def test_a_verdict_that_load_prevents_is_undecided_for_this_reason(tmp_path):
    """The cell of a disturbed variant says `undecided (disturbed)` and gives the ratio without an interval."""
    run = synthetic.make_run(tmp_path, cells=CELLS, variants=("sdpa", "chunked"), disturbed={"chunked": 1.0})
    (table,) = verdict_tables(Results.load(run, "sdpa"))
    for _, cell in table.rows:
        assert cell.text.startswith("undecided (disturbed) 2.")
        assert " to " not in cell.text
        assert not cell.best


def test_without_a_noise_floor_there_is_no_table(tmp_path):
    """A run with one process per cell and no A/A control has no verdict table."""
    run = synthetic.make_run(tmp_path, cells=CELLS, variants=("sdpa", "chunked"), baseline=None, processes=1)
    assert verdict_tables(Results.load(run, "sdpa")) == []
