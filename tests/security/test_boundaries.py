"""Tests of security boundaries: no pickle, no plugins in commands that read results, safe parsing of untrusted data."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import synthetic
from attnbench.errors import RecordError, UsageError
from attnbench.record import Record
from attnbench.store import read_manifest, read_run
from attnbench.untrusted import cleaned, parse, printable

ROOT = Path(__file__).parents[2]
PICKLES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "shelve", "marshal", "joblib", "multiprocessing"}
CALLS = {"read_pickle", "to_pickle", "eval", "exec"}
UNSAFE_LOADS = {"torch.load", "yaml.load", "numpy.load", "np.load"}
SOURCES = sorted([*(ROOT / "harness").rglob("*.py"), *(ROOT / "variants").rglob("*.py")])


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_pickles_or_evaluates(path):
    """No module imports a pickling library, calls a loader that unpickles, or evaluates a string as code."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            imported = {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported = {(node.module or "").partition(".")[0]}
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in UNSAFE_LOADS, f"{path}:{node.lineno}"
            assert called.rpartition(".")[2] not in CALLS or called.startswith("self."), f"{path}:{node.lineno}"
            continue
        else:
            continue
        assert not imported & PICKLES, f"{path}:{node.lineno}"


@pytest.mark.parametrize(
    "command", [("report", "r"), ("compare", "r", "r"), ("list", "runs"), ("export", "-o", "x.csv")]
)
def test_a_command_that_reads_results_loads_no_plugin(tmp_path, command):
    """Commands that read results import neither an installed plugin nor torch."""
    synthetic.make_run(tmp_path / "results", name="r", variants=("naive", "sdpa"), rounds=4)
    site = tmp_path / "site"
    info = site / "marker-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: marker\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[attnbench]\nmarker = marker_plugin\n")
    (site / "marker_plugin.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\n")
    script = (
        "import sys; from attnbench.cli import main\n"
        f"sys.path.insert(0, {str(site)!r}); sys.argv = ['attnbench', *{list(command)!r}]\n"
        "try: main()\nexcept SystemExit as end: code = end.code\n"
        "assert not code, code\nassert 'marker_plugin' not in sys.modules and 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "mark").exists()


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
HONEST = {
    "record_id": "r", "run_id": "r", "cell_id": "c", "variant": "v", "plugin": "p", "plugin_sha256": "0",
    "workload": {"heads": 2, "seq_q": 8, "head_dim": 4}, "device": "cpu", "device_name": "d", "environment_id": "e",
    "protocol_id": "p", "status": "ok", "phase": "done", "started_at": "t", "ended_at": "t", "samples_ns": [1.0, 2.0],
    "block_sizes": [2], "block_rounds": [0], "error": {"worst_ratio": 0.5}, "telemetry": {"blocks": [{}]}, "flags": [],
}  # fmt: skip


@given(st.text())
def test_printable_text_has_no_control_characters(text):
    """`printable` turns any text into a single line of printable characters."""
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_parse_to_a_value_or_a_value_error(data):
    """Parsing any bytes returns a JSON value or raises ValueError."""
    try:
        parse(data)
    except ValueError:
        return


@given(
    st.dictionaries(st.sampled_from([*HONEST, "reason", "log", "flops", "kernels", "unheard-of"]), ANYTHING, max_size=3)
)
def test_a_record_with_any_values_is_read_or_reported_as_a_problem(tmp_path_factory, changes):
    """Any line is read as a record, reported as a problem or counted as incomplete, and no latency is infinite."""
    from attnbench.analysis import load

    run = tmp_path_factory.mktemp("fuzz")
    (run / "manifest.json").write_text("{}")
    line = json.dumps({**HONEST, **changes}, ensure_ascii=True)
    (run / "records-x.jsonl").write_text(line + "\n")
    reading = read_run(run)
    assert len(reading.records) + len(reading.problems) + reading.torn_lines == 1
    for record in reading.records:
        assert record.variant.isprintable()
        assert Record.from_json(json.loads(record.to_line())) == record
        assert not load(run)["latency_ms"].isin([float("inf")]).any()


@given(ANYTHING)
def test_any_manifest_is_an_object_or_a_usage_error(tmp_path_factory, value):
    """Reading any manifest returns an object with printable keys or raises UsageError."""
    run = tmp_path_factory.mktemp("fuzz")
    (run / "manifest.json").write_text(json.dumps(value))
    try:
        manifest = read_manifest(run)
    except UsageError:
        return
    assert isinstance(manifest, dict)
    assert all(name.isprintable() for name in manifest)


def test_the_error_of_a_wrong_type_names_the_field():
    """The error for a field whose value has the wrong type names the field and the value's type."""
    with pytest.raises(RecordError, match="variant is a dict"):
        Record.from_json({**HONEST, "variant": {}})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=12,
    ),
    st.integers(0, 40),
)
def test_the_quick_check_agrees_with_cleaning_each_value(value, depth):
    """`parse` doesn't clean harmless lines, but its result is the same as if it cleaned every line."""
    for _ in range(depth):
        value = [value] if depth % 2 else {"]": value}
    line = json.dumps(value, allow_nan=True).encode()
    try:
        careful = cleaned(json.loads(line))
    except ValueError:
        with pytest.raises(ValueError):
            parse(line)
    else:
        assert parse(line) == careful
