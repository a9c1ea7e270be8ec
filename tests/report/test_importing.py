"""Results of other tools are imported as a run."""

import json

import pytest

import attnbench
import synthetic
from attnbench import Workload
from attnbench.analysis.results import Results
from attnbench.errors import UsageError
from attnbench.report import export, headline
from attnbench.report.importing import import_pytest_benchmark

CELLS = synthetic.workloads(seqs=(512, 1024), masks=("causal",), directions=("forward",))


def pytest_benchmark_file(*benchmarks):
    """Return the content of a pytest-benchmark file with these benchmarks."""
    return {
        "machine_info": {"cpu": {"brand_raw": "Other CPU"}},
        "datetime": "2026-01-01",
        "benchmarks": list(benchmarks),
    }


def benchmark(**params):
    """Return a benchmark with these parameters and three rounds."""
    return {
        "name": "test_mine[x]",
        "fullname": "t.py::x",
        "params": params,
        "stats": {"data": [0.001, 0.002, 0.003], "median": 0.002},
    }


def test_an_imported_export_has_the_same_shapes_and_times(tmp_path):
    """Importing an exported run creates a new run with the same workloads and medians."""
    frame = attnbench.load(synthetic.make_run(tmp_path / "a", cells=CELLS, variants=("sdpa", "naive"), rounds=8))
    file = export(frame, tmp_path / "export.json", "pytest-benchmark")
    imported = import_pytest_benchmark(file, tmp_path / "b", "theirs")
    again = attnbench.load(imported.run)
    before = frame[~frame["control"]].set_index(["variant", "workload_id"])["latency_ms"]
    after = again.set_index(["variant", "workload_id"])["latency_ms"]
    assert after.to_dict() == pytest.approx(before.to_dict())
    assert imported.skipped == ()


def test_an_imported_export_keeps_every_field_of_the_attention(tmp_path):
    """A workload whose options all differ from the defaults is the same after an export and an import."""
    fields = {"heads": 4, "kv_heads": 2, "seq_q": 8, "seq_k": 16, "head_dim": 8, "head_dim_v": 4, "batch": 2}
    options = {"scale": 0.5, "softcap": 30.0, "alibi": True, "dropout": 0.1, "mask": "causal", "dtype": "float16"}
    workload = Workload(**fields, **options, direction="backward")
    run = synthetic.make_run(tmp_path / "a", cells=[workload], variants=("sdpa",))
    file = export(attnbench.load(run), tmp_path / "ours.json", "pytest-benchmark")
    imported = import_pytest_benchmark(file, tmp_path / "b", "theirs")
    assert set(attnbench.load(imported.run)["workload_id"]) == {workload.id}


def test_imported_results_are_shown_but_never_ranked(tmp_path):
    """Imported results have the flag `unchecked` and are not ranked."""
    file = tmp_path / "theirs.json"
    file.write_text(json.dumps(pytest_benchmark_file(benchmark(heads=8, seq=512, head_dim=64))))
    frame = attnbench.load(import_pytest_benchmark(file, tmp_path, "theirs").run)
    assert frame["flags"].tolist() == [("unchecked",)]
    assert frame["variant"].tolist() == ["test_mine"]
    assert frame["device_name"].tolist() == ["Other CPU"]
    assert frame["latency_ms"].tolist() == pytest.approx([2.0])
    assert Results(frame).ranked.empty
    assert "fewer than two variants" in headline(frame)[0].notes[0]


def test_benchmarks_without_a_shape_are_skipped_with_the_reason(tmp_path):
    """Benchmarks without a shape are skipped with a reason, and the remaining benchmark is imported."""
    file = tmp_path / "theirs.json"
    file.write_text(
        json.dumps(pytest_benchmark_file(benchmark(heads=8, seq=512, head_dim=64), benchmark(size=3), "no object"))
    )
    imported = import_pytest_benchmark(file, tmp_path, "theirs")
    assert imported.benchmarks == 1
    assert len(imported.skipped) == 2
    assert "heads" in imported.skipped[0]


@pytest.mark.parametrize("content", ["no json", "[]", '{"benchmarks": 3}', '{"benchmarks": []}'])
def test_a_file_of_another_kind_is_a_usage_error(tmp_path, content):
    """Importing a file in another format, or without benchmarks, raises a usage error that names the file."""
    file = tmp_path / "other.json"
    file.write_text(content)
    with pytest.raises(UsageError, match=r"other\.json"):
        import_pytest_benchmark(file, tmp_path, "theirs")
