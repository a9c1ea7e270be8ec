"""Output of `attnbench compare` and `attnbench best`."""

import json

import pytest

import synthetic
from command_line import attnbench

CELLS = synthetic.workloads(seqs=(512,), masks=("causal",), directions=("forward",))
OPTIONS = {"cells": CELLS, "variants": ("sdpa", "chunked"), "rounds": 8, "noise": 0.005, "drift": 0.0}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Return a folder with three runs on one machine; `chunked` is slower in the second and third run."""
    folder = tmp_path_factory.mktemp("results")
    for place, (name, factor) in enumerate((("one", 1.0), ("two", 1.5), ("three", 1.5))):
        started = f"2026-0{place + 1}-01T00:00:00+00:00"
        synthetic.make_run(folder, name=name, seed=place, started=started, slower={"chunked": factor}, **OPTIONS)
    return folder


def test_a_certain_slow_down_fails_and_is_on_the_page(results, tmp_path):
    """With --fail-if-slower, a regression leads to exit code 1, and both the page and the Markdown show it."""
    page = tmp_path / "page.html"
    arguments = ("--fail-if-slower", "3%", "--format", "markdown", "--html", str(page), "--results", str(results))
    done = attnbench("compare", "one", "two", *arguments)
    assert done.returncode == 1
    assert done.stdout.startswith("### Attention benchmark: 1 regression\n")
    assert f"page: {page}" in done.stderr
    assert "1 slower beyond the gate" in page.read_text()


def test_of_three_runs_each_is_compared_with_the_one_before(results):
    """For three runs, two comparisons are printed, each titled with its runs' names. --json accepts only two runs."""
    done = attnbench("compare", "one", "two", "three", "--results", str(results))
    assert done.returncode == 0, done.stderr
    assert done.stdout.index("one to two") < done.stdout.index("two to three")
    refused = attnbench("compare", "one", "two", "three", "--json", "--results", str(results))
    assert refused.returncode == 2
    assert "--json can compare only two runs, not 3" in refused.stderr


def test_the_best_as_json_is_a_dispatch_table(results):
    """`best --format json` prints only a JSON table, in which each region lists variants from fastest to slowest."""
    done = attnbench("best", "one", "--format", "json", "--results", str(results))
    (region,) = json.loads(done.stdout)["regions"]
    assert (region["variant"], region["order"]) == ("sdpa", ["sdpa", "chunked"])


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    """Return a folder with two runs on one machine, during the second of which others had the cores."""
    folder = tmp_path_factory.mktemp("busy")
    for name, disturbed in (("one", {}), ("two", {"sdpa": 1.0, "chunked": 1.0})):
        synthetic.make_run(folder, name=name, disturbed=disturbed, **OPTIONS)
    return folder


def test_json_and_tables_carry_the_warning_of_load(busy):
    """`best`, `compare` and `report` say why there is no verdict, as text and as JSON, and there is no regression."""
    warning = "no verdict: other processes used the cores in 100% of the blocks; stop them and run again"
    best = attnbench("best", "two", "--json", "--results", str(busy))
    assert json.loads(best.stdout)["warnings"] == [warning]
    compared = attnbench("compare", "one", "two", "--json", "--fail-if-slower", "3%", "--results", str(busy))
    assert compared.returncode == 0, compared.stderr
    found = json.loads(compared.stdout)
    assert found["warnings"] == [f"new: {warning}"]
    assert {change["reason"] for change in found["changes"]} == {"disturbed"}
    for command in (("best", "two"), ("compare", "one", "two")):
        assert warning in attnbench(*command, "--results", str(busy)).stdout


def test_the_report_carries_the_warning_of_load(busy, tmp_path):
    """The page, the Markdown and the terminal show the warning before any number."""
    done = attnbench("report", "two", "--out", str(tmp_path / "report"), "--results", str(busy))
    assert "warning: no verdict: other processes used the cores in 100% of the blocks" in done.stdout, done.stderr
    for name in ("index.html", "report.md"):
        text = (tmp_path / "report" / name).read_text()
        assert text.index("No verdict: other processes used the cores") < text.index("Who is fastest")
