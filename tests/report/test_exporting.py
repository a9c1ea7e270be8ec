"""Results are exported in the formats of other tools."""

import json
import subprocess
import sys

import pandas as pd
import pytest

import attnbench
import synthetic
from attnbench.errors import UsageError
from attnbench.report import export

CELLS = synthetic.workloads(seqs=(512, 1024), directions=("forward",))


@pytest.fixture(scope="module")
def frame(tmp_path_factory):
    """Return the frame of a run with two sequence lengths."""
    return attnbench.load(synthetic.make_run(tmp_path_factory.mktemp("runs"), cells=CELLS, rounds=8))


def test_csv_has_a_row_for_each_record(frame, tmp_path):
    """The CSV file has a row for each record, with the record's median and workload."""
    table = pd.read_csv(export(frame, tmp_path / "new" / "results.csv", "csv"))
    assert len(table) == len(frame)
    assert table["latency_ms"].tolist() == pytest.approx(frame["latency_ms"].tolist(), nan_ok=True)
    assert table["workload_id"].tolist() == frame["workload_id"].tolist()


def test_parquet_keeps_raw_samples(frame, tmp_path):
    """The Parquet file contains the raw samples as JSON text."""
    table = pd.read_parquet(export(frame, tmp_path / "results.parquet", "parquet"))
    index = frame.index[frame["status"] == "ok"][0]
    assert json.loads(table["samples_ns"][index]) == list(frame["samples_ns"][index])


def test_markdown_and_latex_hold_the_same_tables(frame, tmp_path):
    """Markdown and LaTeX exports contain the same number of tables, including the headline tables."""
    markdown = export(frame, tmp_path / "tables.md", "markdown").read_text()
    latex = export(frame, tmp_path / "tables.tex", "latex").read_text()
    assert markdown.count("\n### ") + markdown.startswith("### ") == latex.count(r"\begin{table}") > 2
    assert "speed-up over sdpa" in markdown
    assert "speed-up over sdpa" in latex


def test_pytest_benchmark_reads_the_export(frame, tmp_path):
    """`pytest-benchmark compare --group-by=param:seq` reads the exported file and groups it by length."""
    path = export(frame, tmp_path / "export.json", "pytest-benchmark")
    command = [
        sys.executable,
        "-m",
        "pytest_benchmark",
        "compare",
        "--group-by=param:seq",
        "--columns=median",
        str(path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "benchmark 'seq=512'" in done.stdout
    assert "benchmark 'seq=1024'" in done.stdout
    assert "sdpa-flash" in done.stdout


def test_each_correct_cell_is_one_benchmark_with_its_median(frame, tmp_path):
    """Each correct cell becomes one benchmark with a unique name and the median of its samples in seconds."""
    content = json.loads(export(frame, tmp_path / "export.json", "pytest-benchmark").read_text())
    timed = frame[(frame["status"] == "ok") & ~frame["control"]]
    names = [benchmark["fullname"] for benchmark in content["benchmarks"]]
    assert len(names) == len(set(names)) == len(timed)
    medians = [benchmark["stats"]["median"] for benchmark in content["benchmarks"]]
    assert medians == pytest.approx((timed["latency_ms"] / 1e3).tolist())


def test_statistics_are_those_that_pytest_benchmark_computes(frame, tmp_path):
    """The exported rounds, quartiles and outliers follow from the samples, as in pytest-benchmark's own files."""
    content = json.loads(export(frame, tmp_path / "export.json", "pytest-benchmark").read_text())
    stats = content["benchmarks"][0]["stats"]
    samples = sorted(stats["data"])
    expected = {"min": samples[0], "max": samples[-1], "rounds": len(samples), "total": sum(samples), "iterations": 1}
    assert {name: stats[name] for name in expected} == pytest.approx(expected)
    assert samples[0] <= stats["q1"] <= stats["median"] <= stats["q3"] <= samples[-1]
    assert stats["iqr"] == pytest.approx(stats["q3"] - stats["q1"])
    assert stats["outliers"] == f"{stats['stddev_outliers']};{stats['iqr_outliers']}"


def test_without_pytest_benchmark_the_error_says_what_to_install(frame, tmp_path, monkeypatch):
    """If pytest-benchmark is not installed, an export to its format raises a usage error with the install command."""
    monkeypatch.setitem(sys.modules, "pytest_benchmark.stats", None)
    with pytest.raises(UsageError, match=r"pip install 'attnbench\[pytest\]'"):
        export(frame, tmp_path / "export.json", "pytest-benchmark")
    assert not (tmp_path / "export.json").exists()


def test_an_unknown_format_is_an_error_with_the_nearest_name(frame, tmp_path):
    """A misspelt format raises a usage error that suggests the nearest format."""
    with pytest.raises(UsageError, match="did you mean 'parquet'"):
        export(frame, tmp_path / "x", "parket")


def test_a_file_that_cannot_be_written_is_a_usage_error(frame, tmp_path):
    """If the output path is a folder, a usage error says that the path can't be written."""
    with pytest.raises(UsageError, match="can't be written"):
        export(frame, tmp_path, "csv")
