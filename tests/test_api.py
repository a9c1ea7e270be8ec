"""Start, resume and open runs from Python, as in a notebook."""

import pandas as pd
import pytest

import attnbench
from attnbench.errors import PluginError, UsageError, WorkloadError
from attnbench.workloads.workload import Workload

TINY = Workload(heads=2, seq_q=16, head_dim=8)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run one variant on two tiny workloads, one given by its fields and the other by its id."""
    return attnbench.run(
        "naive", workloads=[TINY, "b1-h2-s8-d8-float32-causal-forward"], devices="cpu:0", budget_s=0.05,
        results=tmp_path_factory.mktemp("results"), name="tiny", progress=False,
    )  # fmt: skip


def test_a_run_returns_its_records(run):
    """`statuses` counts cells, `records` has one row per cell, and `attnbench.load` accepts a run or a path."""
    assert run.statuses == {"ok": 2}
    cells = run.records[~run.records["control"]]
    assert list(cells["workload_id"]) == [TINY.id, "b1-h2-s8-d8-float32-causal-forward"]
    pd.testing.assert_frame_equal(attnbench.load(run), attnbench.load(run.path))


def test_a_run_shows_its_tables_in_a_notebook(run):
    """The repr of a run contains its path and statuses, and its HTML contains its tables."""
    assert repr(run) == f"Run({str(run.path)!r}): 2 ok"
    shown = run._repr_html_()
    assert "<table>" in shown
    assert "naive" in shown
    assert "2 ok" in shown


def test_a_finished_run_has_nothing_to_resume(run):
    """Resuming a finished run measures nothing and returns the run."""
    before = len(run.records)
    assert run.resume(progress=False) is run
    assert len(run.records) == before


def test_a_run_is_opened_by_its_path(run):
    """`Run(path)` opens the run in a folder and raises an error if there is none."""
    assert attnbench.Run(run.path).statuses == run.statuses
    with pytest.raises(UsageError, match="unknown run"):
        attnbench.Run(run.path / "nowhere")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"variants": "naiv"}, UsageError, "did you mean 'naive'"),
        ({"sequence": 16}, UsageError, "unknown axis 'sequence'"),
        ({"seq": []}, UsageError, "axis 'seq' is empty"),
        ({"workloads": ["b1"]}, WorkloadError, "expected an id such as"),
        ({"suites": "quik"}, UsageError, "did you mean 'quick'"),
        ({"variants": "sdpa-cudnn", "seq": 16}, UsageError, "nothing to time: sdpa-cudnn: this backend has no kernel"),
    ],
)
def test_a_wrong_value_is_refused_before_anything_runs(tmp_path, arguments, error, message):
    """An invalid argument raises an error that says what is wrong, and no folder is created."""
    with pytest.raises(error, match=message):
        attnbench.run(results=tmp_path / "results", progress=False, devices="cpu:0", **arguments)
    assert not (tmp_path / "results").exists()


def test_a_plugin_that_is_given_must_load(tmp_path):
    """If a plugin can't be loaded, the run does not start, and the message names the file and the line."""
    broken = tmp_path / "broken.py"
    broken.write_text("import attnbench\nthis is no Python\n")
    with pytest.raises(PluginError, match=r"broken\.py did not load: import failed: SyntaxError.*broken\.py, line 2"):
        attnbench.run("naive", plugins=str(broken), results=tmp_path / "results", progress=False)


@pytest.mark.parametrize("progress", [True, False])
def test_a_run_under_load_warns(stubbed, tmp_path, progress):
    """If others had the cores, `run` and `resume` issue a RuntimeWarning, and the run and its page have the text."""
    telemetry = {"throttle": ["foreign_load"]}
    block = {"type": "Block", "samples_ns": [2e4], "calls_per_sample": 1, "wall_ns": 1e5, "telemetry": telemetry}
    stubbed.behave(alpha={"block": block}, beta={"block": block})
    text = "no verdict: other processes used the cores in 100% of the blocks; stop them and run again"
    with pytest.warns(RuntimeWarning, match=text):
        run = attnbench.run(
            "alpha,beta", heads=2, seq=16, head_dim=8, devices="cpu:0", budget_s=0.01, results=tmp_path / "results",
            progress=progress,
        )  # fmt: skip
    assert run.warnings == [text]
    assert f"warning: {text}" in run._repr_html_()
    assert attnbench.analysis.Results.load(run).warnings == [text]
    with pytest.warns(RuntimeWarning, match=text):
        run.resume(progress=progress)
