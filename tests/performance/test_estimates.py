"""The estimated duration of runs on this CPU, compared with their actual duration. Needs a machine that is idle."""

import contextlib
import re
import sys

import pytest

from attnbench.cli import main

# A first run, the same cells with another budget, and other cells. Only the first one has no earlier run to learn from.
RUNS = {
    "first": ["--seq", "64,256", "--budget", "0.2"],
    "another budget": ["--seq", "64,256", "--budget", "0.5"],
    "longer": ["--seq", "512,1024", "--budget", "0.2"],
}
SHAPE = ["-d", "cpu", "-v", "naive,sdpa,chunked", "--heads", "12", "--mask", "none,causal", "--head-dim", "64"]
SHAPE += ["--direction", "forward,forward_backward", "--quiet"]
TOLERANCE = 0.25
SUMMARY = re.compile(r" in ([\d.]+) s \(estimated: ([\d.]+) s\)")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Return the folder that holds the results of all runs, so that later runs learn from earlier ones."""
    return tmp_path_factory.mktemp("results")


@pytest.mark.parametrize("options", RUNS.values(), ids=RUNS)
def test_the_estimate_of_a_run_is_close(benchmark, capsys, monkeypatch, results, options):
    """The duration that a run prints at its start is right to within 25%, also in the first run of a machine."""
    monkeypatch.setattr(sys, "argv", ["attnbench", "run", *SHAPE, *options, "--results", str(results)])

    def run():
        with contextlib.suppress(SystemExit):
            main()

    benchmark.pedantic(run)
    actual_s, estimated_s = map(float, SUMMARY.search(capsys.readouterr().out).groups())
    assert estimated_s == pytest.approx(actual_s, rel=TOLERANCE)
