"""The plugins that log runs to experiment trackers by means of the observer hooks."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest

from attnbench import Workload
from attnbench.errors import PluginError
from attnbench.observers.record_values import metrics, parameters
from attnbench.plan.catalog import Catalog, PluginEntry
from attnbench.plugins.loading import load_plugin, named_source, observes
from attnbench.record import Record
from attnbench.runner.observer_process import Observers

TIMED = Record(
    record_id="r1", run_id="mine", cell_id="c1", variant="sdpa", plugin="builtin/sdpa", plugin_sha256="",
    workload=Workload(heads=2, seq_q=16, head_dim=8), device="cpu", device_name="a CPU", environment_id="",
    protocol_id="", status="ok", phase="done", samples_ns=(1e6, 2e6, 3e6), flops=4_000_000, peak_bytes=4096,
    first_call_ns=5e6, error={"rule": "fused", "worst_ratio": 0.25, "max_abs": 1e-6}, started_at="", ended_at="",
)  # fmt: skip
CRASHED = dataclasses.replace(
    TIMED, record_id="r2", variant="mine", status="crash", reason="killed by SIGSEGV", samples_ns=(), flops=None,
    peak_bytes=None, first_call_ns=None, error=None,
)  # fmt: skip
MANIFEST = {"run_id": "mine", "plan": [{}, {}], "machine": {"cpu": "a CPU"}}


def send_events(name, folder):
    """Send the events of a run with two records and a control to an observer that runs in a separate process."""
    source = named_source(f"attnbench.observers.{name}")
    entry = PluginEntry(source, None, observes=("run_started", "record_stored", "run_ended"))
    with Observers(Catalog((entry,)), folder / "log") as notifier:
        notifier.notify("run_started", MANIFEST)
        for record in (TIMED, CRASHED, dataclasses.replace(TIMED, record_id="r3", control=True)):
            notifier.notify("record_stored", json.loads(record.to_line()))
        notifier.notify("run_ended", {"ok": 1, "crash": 1})
    log = folder / "log"
    assert notifier.problems == [], log.read_text() if log.exists() else ""


def test_a_record_becomes_parameters_and_metrics():
    """Descriptive fields are logged as strings, numbers are logged as metrics, and missing values are left out."""
    fields = json.loads(TIMED.to_line())
    assert metrics(fields) == {
        "latency_ms": 2.0, "tflops": 0.002, "samples": 3, "peak_bytes": 4096, "first_call_ms": 5.0, "error_ratio": 0.25,
    }  # fmt: skip
    about = parameters(fields)
    assert about["variant"] == "sdpa"
    assert about["workload"] == TIMED.workload.id
    assert about["heads"] == "2"
    assert "reason" not in about
    assert metrics(json.loads(CRASHED.to_line())) == {}


def test_mlflow_keeps_each_record_as_a_nested_run(tmp_path, monkeypatch):
    """MLflow's file store contains the run and, for each record, a nested run with parameters, metrics and a status."""
    mlflow = pytest.importorskip("mlflow", reason="needs mlflow-skinny (pip install 'attnbench[mlflow]')")
    uri = (tmp_path / "store").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    send_events("mlflow", tmp_path)
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("attnbench")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    parent = runs.pop("mine")
    assert parent.info.status == "FINISHED"
    assert parent.data.params["cells"] == "2"
    assert (parent.data.metrics["cells_ok"], parent.data.metrics["cells_crash"]) == (1, 1)
    assert parent.data.tags["machine.cpu"] == "a CPU"
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    timed = runs[f"sdpa {TIMED.workload.id}"]
    assert timed.data.metrics["latency_ms"] == 2.0
    assert timed.data.params["seq_q"] == "16"
    crashed = runs[f"mine {TIMED.workload.id}"]
    assert crashed.info.status == "FAILED"
    assert crashed.data.params["reason"] == "killed by SIGSEGV"
    assert f"sdpa {TIMED.workload.id} (control)" in runs


def test_wandb_stores_the_run_offline(tmp_path, monkeypatch):
    """In offline mode, the W&B files contain the machine, each variant's metrics and the table of records."""
    pytest.importorskip("wandb", reason="needs wandb (pip install 'attnbench[wandb]')")
    for name, value in (("WANDB_MODE", "offline"), ("WANDB_DIR", str(tmp_path)), ("WANDB_SILENT", "true")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    send_events("wandb", tmp_path)
    (stored,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    content = stored.read_bytes()
    for expected in (b"sdpa/latency_ms", b"cells_crash", b"records", b"a CPU"):
        assert expected in content, expected
    (table,) = tmp_path.glob("wandb/offline-run-*/files/media/table/*.json")
    rows = json.loads(table.read_text())
    assert len(rows["data"]) == 3
    assert rows["data"][0][rows["columns"].index("latency_ms")] == 2.0


@pytest.mark.parametrize(("name", "package"), [("mlflow", "mlflow-skinny"), ("wandb", "wandb")])
def test_a_tracker_without_its_package_is_an_error_with_the_install_command(name, package):
    """If a tracker's package is missing, loading the plugin raises an error with the command to install the package."""
    program = (
        f"import sys; sys.modules[{name!r}] = None\n"
        "from attnbench.plugins.loading import load_plugin, named_source\n"
        f"load_plugin(named_source('attnbench.observers.{name}'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=os.environ)
    expected = f"needs the package {package} (pip install 'attnbench[{name}]')"
    assert PluginError.__name__ in done.stderr
    assert expected in done.stderr


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_trackers_observe_runs(name):
    """Each tracker plugin implements the hooks for the start, the records and the end of a run."""
    pytest.importorskip(name)
    plugin = load_plugin(named_source(f"attnbench.observers.{name}"))
    for event in ("run_started", "record_stored", "run_ended"):
        assert observes(plugin, f"attnbench_{event}")
