"""Each reader of files reads anything, or raises an error of attnbench; hypothesis generates the content."""

import copy
import functools
import json
import tomllib

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

import synthetic
from attnbench.analysis.dispatch_table import DEFAULTS, SETTING, pick, read_table
from attnbench.errors import UsageError
from attnbench.messages import MessageError, PluginNotice, VariantDescription, decode_answer
from attnbench.plan import catalog
from attnbench.plugins.loading import PluginSource
from attnbench.report.importing import import_pytest_benchmark
from attnbench.runner import resume
from attnbench.runner.resume import resumed
from attnbench.store import read_manifest, read_run
from attnbench.workloads.suite import parse_suite, read_suite
from attnbench.workloads.workload import AXES

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from([10**18, 10**400, -1, 0, "window:1:1", "9" * 5000, "prefix:" + "9" * 5000, "\x1b[31m", "\ud800"])
)  # fmt: skip
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
GRID = {"heads": 2, "seq": 16, "head_dim": 8}
BENCHMARK = {"name": "t", "fullname": "t", "params": GRID, "extra_info": {}, "stats": {"data": [1e-3], "median": 1e-3}}
REGION = {
    **dict.fromkeys(SETTING, 1), **DEFAULTS, "mask": "none", "device_name": "d", "variant": "v",
    "order": ["v"], "tied": [],
    "margin": 1.5, "shapes": 1, "clear": 1, "length_from": 16, "length_to": 32,
}  # fmt: skip


def replaced(value, keys, new):
    """Return a copy of a JSON value in which the entry at the path `keys` is `new`."""
    if not keys:
        return new
    value = copy.deepcopy(value)
    inner = value
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = new
    return value


def paths(value):
    """Return the path of each entry of a JSON value, and of the value itself."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(), *((key, *rest) for key, inner in items for rest in paths(inner))]


def changed(valid):
    """Return a strategy for copies of a JSON value in which one entry has been replaced with anything."""
    return st.builds(replaced, st.just(valid), st.sampled_from(paths(valid)), ANYTHING)


def written(tmp_path_factory, value):
    """Write a value as JSON to a new file and return its path."""
    path = tmp_path_factory.mktemp("fuzz") / "file.json"
    path.write_text(json.dumps(value))
    return path


@given(changed({"name": "m", "defaults": {"batch": [1, 2]}, "grid": [GRID, {**GRID, "mask": "causal"}]}))
@example({"name": "m", "grid": [{**GRID, "batch": 10**18, "mask": "padding"}]})
@example({"name": "m", "grid": [{"heads": 2, "head_dim": 8, "batch_spec": "q" + "9" * 5000}]})
@example({"name": "m", "grid": [{axis: list(range(1, 9)) for axis in AXES}]})
def test_any_table_is_a_suite_or_a_usage_error(table):
    """A table with any value in any place is parsed as a suite or raises UsageError."""
    try:
        suite = parse_suite(table if isinstance(table, dict) else {}, "file")
    except UsageError:
        return
    assert all(workload.flops() >= 0 for workload in suite.workloads)


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"a = " + b"[" * 5_000)
@example(b"a = " + b"9" * 5_000)
def test_any_bytes_are_a_suite_or_a_usage_error(tmp_path_factory, data):
    """A suite file with any bytes raises UsageError with the file's name, because such a file has no grid."""
    path = tmp_path_factory.mktemp("fuzz") / "suite.toml"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"suite\.toml"):
        read_suite(path)


@given(changed({"machine_info": {"cpu": {"brand_raw": "c"}}, "datetime": "d", "benchmarks": [BENCHMARK, BENCHMARK]}))
def test_any_import_is_a_run_or_a_usage_error(tmp_path_factory, content):
    """A pytest-benchmark file with any value in any place is imported as valid records or raises UsageError."""
    path = written(tmp_path_factory, content)
    try:
        imported = import_pytest_benchmark(path, path.parent / "results", "r")
    except UsageError:
        return
    reading = read_run(imported.run)
    assert (len(reading.records), reading.problems, reading.torn_lines) == (imported.benchmarks, [], 0)


@given(changed({"schema": 1, "regions": [REGION, REGION]}))
def test_any_dispatch_table_can_be_used_or_is_a_usage_error(tmp_path_factory, table):
    """A dispatch table with any value in any place raises UsageError, or a variant's name can be picked from it."""
    try:
        regions = read_table(written(tmp_path_factory, table))
    except UsageError:
        return
    shape = dict.fromkeys(SETTING, 1) | DEFAULTS | {"device_name": "d", "length": 64}
    found = pick(regions, shape)
    assert found is None or isinstance(found.variant, str)


def notice():
    """Return the JSON values of a plugin's description."""
    variant = VariantDescription(
        "v", layout="BHSD", tier="fused", exact=True, default_on=("cpu",), ranks=1, packages=(), baseline=False,
        traits=(), summary="",
    )  # fmt: skip
    described = PluginNotice(PluginSource("p", "file", "p.py"), sha256="0", variants=[variant])
    return json.loads(catalog.msgspec.json.encode(described))


@given(changed([notice()]))
def test_any_cached_description_of_a_plugin_is_used_or_ignored(tmp_path_factory, content):
    """A cached description with any value in any place is a list of descriptions, or is ignored."""
    cache = catalog._Cache()
    path = written(tmp_path_factory, content)
    cache._path = lambda _: path
    found = cache.get(PluginSource("p", "file", "p.py"))
    assert found is None or all(catalog._entry(description) for description in found)


@given(changed({"id": "i", "body": notice()}))
def test_any_answer_of_a_worker_is_a_message_or_an_error(line):
    """A line from a worker with any value in any place is decoded or raises MessageError."""
    try:
        decode_answer(json.dumps(line).encode(), "i")
    except MessageError:
        return


@given(st.data())
def test_any_manifest_is_resumed_or_a_usage_error(stubbed_manifest, data):
    """Resuming a run whose manifest has any value in any place returns a plan or raises UsageError."""
    run, valid = stubbed_manifest
    manifest = data.draw(changed(valid))
    assume(isinstance(manifest, dict))
    (run / "manifest.json").write_text(json.dumps(manifest))
    try:
        read_manifest(run)
        _, plan = resumed(run)
    except UsageError:
        return
    assert len(plan.cells) <= len(manifest["plan"])


@pytest.fixture(scope="module")
def monkeypatch_module():
    """Yield a MonkeyPatch for the tests of this module."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def stubbed_manifest(tmp_path_factory, monkeypatch_module):
    """Return a synthetic run whose variants are built in, and a valid manifest that resumes it."""
    catalog_of = functools.cache(resume.read_catalog)
    monkeypatch_module.setattr(resume, "read_catalog", lambda plugins: catalog_of(tuple(plugins)))
    run = synthetic.make_run(
        tmp_path_factory.mktemp("resumed"), variants=("naive", "sdpa"), cells=synthetic.workloads(seqs=(16,))[:1]
    )
    manifest = json.loads((run / "manifest.json").read_text())
    cell = {"variant": "sdpa", "workload": synthetic.workloads(seqs=(16,))[0].to_json(), "device": "cpu"}
    chosen = {name: manifest[name] for name in ("schema", "run_id", "environments", "protocols")}
    return run, {
        **chosen, "devices": ["cpu"], "every_device": True, "frontier": [], "plugin_arguments": [],
        "plan": [cell, cell],
        "variants": {"sdpa": {"baseline": True}},
    }  # fmt: skip


def test_the_line_of_an_entry_is_found_after_values_of_several_lines(tmp_path):
    """The line of a wrong entry is named after arrays, strings and comments that span lines."""
    path = tmp_path / "suite.toml"
    text = 'name = """m\n# no comment\n"""\n\n# comment = [\n[[grid]]\nheads = [\n1, # two\n2,\n]\nhead_dim = 8\n'
    text += "seq = -2\n"
    path.write_text(text)
    assert tomllib.loads(text)
    with pytest.raises(UsageError, match=r"suite\.toml:12: seq_q is -2"):
        read_suite(path)
