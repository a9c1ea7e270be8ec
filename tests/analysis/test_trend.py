"""Latency trends of cells over many runs."""

import synthetic
from attnbench.analysis.results import Results
from attnbench.analysis.trend import trends

CELLS = synthetic.workloads(seqs=(512,), masks=("causal",), directions=("forward",))


def history(tmp_path, factors, variants=("sdpa", "chunked")):
    """Return the trends over daily runs, one per factor. A run's `chunked` latencies are multiplied by its factor."""
    for day, factor in enumerate(factors, 1):
        synthetic.make_run(
            tmp_path,
            name=f"day-{day}",
            cells=CELLS,
            variants=variants,
            slower={"chunked": factor},
            started=f"2026-01-{day:02}T00:00:00+00:00",
            noise=0.003,
            drift=0.0,
            seed=day,
        )
    return trends(Results.load(tmp_path))


def test_a_lasting_slow_down_is_one_change_point(tmp_path):
    """A cell that becomes slower and stays slower has one change point, which is the first slower run."""
    found = {trend.variant: trend for trend in history(tmp_path, (1, 1, 1.3, 1.3))}
    assert [point.change for point in found["chunked"].points] == [None, None, "slower", None]
    assert found["sdpa"].changes == 0


def test_an_improvement_is_a_change_point_too(tmp_path):
    """A cell that becomes faster has a change point, and cells with change points are listed first."""
    first = history(tmp_path, (1, 0.7))[0]
    assert first.variant == "chunked"
    assert first.points[1].change == "faster"


def test_a_cell_of_one_run_has_no_trend(tmp_path):
    """A cell that only one run measured has no trend."""
    assert history(tmp_path, (1,)) == []
