"""Estimates of time and memory from earlier runs, and the reasons why a record is stale."""

import dataclasses
import json
import shutil
import sys

import pytest

from attnbench import Workload
from attnbench.cli import main
from attnbench.plan.devices import Device
from attnbench.plan.estimate import COSTS
from attnbench.plan.history import START_S, History
from attnbench.plan.memory_frontier import input_bytes, result_bytes
from attnbench.runner import local_executor
from attnbench.runner.request import plan_of
from attnbench.runner.resume import resumed
from attnbench.runner.run import execute
from attnbench.store import list_runs, read_manifest, read_run, write_manifest
from stubbed_runs import PROCESSES


@pytest.fixture
def command(capsys, monkeypatch):
    """Return a function that runs attnbench with the given arguments and returns its exit code and its output."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["attnbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        printed = capsys.readouterr()
        return left.value.code or 0, printed.out + printed.err

    return run


def test_byte_counts_cover_inputs_outputs_and_gradients():
    """The byte counts cover the inputs and the output and, with a backward pass, their gradients."""
    forward = Workload(batch=2, heads=4, kv_heads=2, seq_q=8, seq_k=16, head_dim=4, head_dim_v=2, dtype="bfloat16")
    assert input_bytes(forward) == 2 * 2 * (4 * 8 * 4 + 2 * 16 * (4 + 2))
    assert result_bytes(forward) == 2 * 2 * 4 * 8 * 2
    training = dataclasses.replace(forward, direction="forward_backward")
    assert input_bytes(training) == input_bytes(forward) + result_bytes(forward)
    assert result_bytes(training) == input_bytes(training)


def test_a_dry_run_estimates_memory_and_time_of_cells(stubbed, command):
    """A dry run shows the total time and each cell's memory, as measured in an earlier run or as a lower bound."""
    shape = ["-d", "cpu:0", "--heads", "2", "--seq", "16,32", "--head-dim", "8"]
    shape += ["--results", stubbed.folder / "results"]
    code, before = command("run", "--dry-run", "-v", "alpha", *shape)
    assert code == 0
    assert "at least 0.0 MiB" in before
    assert "2 cells to time, about" in before
    assert "(0 of these cells have been timed here before)" in before
    command("run", "-v", "alpha", *shape, "--budget", "0.001", "--precision", "50%", "--name", "r")
    _, after = command("run", "--dry-run", "-v", "alpha,beta", *shape)
    assert "(2 of these cells have been timed here before)" in after
    assert after.count("at least") == 2
    assert [path.name for path in (stubbed.folder / "results").iterdir()] == ["r"]
    code, large = command("run", "--dry-run", "-v", "alpha", "-d", "cpu", "--heads", "4096", "--seq", "9999999")
    assert "will not fit: the device has" in large


def test_a_dry_run_predicts_cells_that_will_not_fit(stubbed, command):
    """A cell is predicted not to fit if the same cell or a smaller one ran out of memory in an earlier run."""
    stubbed.behave(alpha={"limit": 20})
    run, _ = stubbed.run(seq=(16, 32))
    _, printed = command(
        *("run", "--dry-run", "-v", "alpha", "-d", "cpu:0", "--heads", 2, "--head-dim", 8, "--seq", "16,32,64"),
        *("--results", run.parent),
    )
    lines = printed.splitlines()
    assert "will not fit" not in lines[0]
    assert lines[1].endswith("will not fit: this workload ran out of memory before")
    assert lines[2].endswith("will not fit: b1-h2-s32-d8-float32-none-forward ran out of memory before")


def test_devices_of_one_model_divide_the_estimated_time(stubbed, monkeypatch):
    """A second device of the same model halves the cells' estimated time, but not the time to start workers."""
    history = History(stubbed.folder)
    known = {name: Device(name, "H200", name) for name in ("cuda:0", "cuda:1")}
    monkeypatch.setattr(local_executor, "choose_devices", lambda names: [known[name] for name in names])
    plans = [plan_of(stubbed.request(devices=names))[1] for names in (["cuda:0"], ["cuda:0", "cuda:1"])]
    started = START_S + 2 * PROCESSES * COSTS["cuda"].worker_s
    alone, shared = (history.estimate(plan, ()).total_s - started for plan in plans)
    assert alone == pytest.approx(2 * shared)
    assert alone > 0


def test_explain_says_why_a_cell_is_stale(stubbed, command, monkeypatch):
    """A record is stale if the plugin, torch, the driver or the protocol changed, and the output names the change."""
    run, _ = stubbed.run("alpha")
    cell, results = read_run(run).records[0].cell_id, run.parent
    assert "up to date" in command("explain", cell, "--results", results)[1]
    monkeypatch.setenv("STUB_SHA", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(stubbed.folder / "another"))
    assert "stale: plugin builtin changed" in command("explain", cell, "--results", results)[1]
    monkeypatch.setenv("STUB_SHA", "0")
    monkeypatch.setenv("XDG_CACHE_HOME", str(stubbed.folder / "third"))
    manifest = read_manifest(run)
    manifest["environments"]["cpu:0"]["packages"]["torch"] = "1.0"
    manifest["environments"]["cpu:0"]["driver"] = "550.1"
    manifest["protocols"]["cpu"]["budget_s"] = 9.0
    write_manifest(run, manifest)
    _, printed = command("explain", cell, "--results", results)
    assert "driver changed: it is none, it was 550.1" in printed
    assert "it was 1.0" in printed
    assert "protocol changed" in printed
    manifest["plugin_arguments"] = ["/gone.py"]
    write_manifest(run, manifest)
    assert "stale: plugin file '/gone.py' does not exist" in command("explain", cell, "--results", results)[1]


def test_a_failed_baseline_is_retried(stubbed, outcomes, tmp_path):
    """With --retry-failed, a baseline's failed cell is measured again."""
    failure = {"type": "FailedReply", "status": "error", "phase": "conform", "reason": "RuntimeError: once"}
    stubbed.behave(alpha={"close": {"once": str(tmp_path / "met"), "do": failure}})
    run, summary = stubbed.run()
    assert outcomes(run)["alpha", 16].status == "error"
    assert summary.failed == 1
    assert resumed(run)[1].cells == ()
    catalog, plan = resumed(run, retry_failed=True)
    assert [cell.variant.name for cell in plan.cells] == ["alpha"]
    assert execute(run, catalog, plan).statuses == {"ok": 1}
    assert resumed(run, retry_failed=True)[1].cells == ()
    assert json.loads((run / "manifest.json").read_text())["summary"]["statuses"] == {"ok": 2}


def test_runs_with_unknown_or_jumping_times_do_not_prevent_an_estimate(stubbed):
    """A run whose records state no time counts as the oldest and is left out of estimates; naive times are UTC."""
    runs = [stubbed.run("alpha", name=name)[0] for name in ("r", "unknown", "naive", "jumping")]
    expected = [("unknown", "unknown"), ("2020-01-01T00:00:09", "2020-01-01T00:00:10+00:00")]
    expected.append(("2020-01-01T00:00:10+00:00", "2020-01-01T00:00:05+00:00"))  # the clock was set back by 5 s
    for run, (started, ended) in zip(runs[1:], expected, strict=True):
        write_manifest(run, {**read_manifest(run), "started_at": started})
        file = run / "records-cpu-0.jsonl"
        records = [dataclasses.replace(record, started_at=started, ended_at=ended) for record in read_run(run).records]
        file.write_text("".join(record.to_line() for record in records))
    assert [run.name for run in list_runs(runs[0].parent)] == ["unknown", "naive", "jumping", "r"]
    _, plan = plan_of(stubbed.request("alpha", name="next"))
    seconds = History(runs[0].parent).seconds(plan.cells[0])
    assert seconds is not None
    assert seconds >= 0
    for run in (runs[0], *runs[2:]):
        shutil.rmtree(run)
    assert History(runs[0].parent).seconds(plan.cells[0]) is None
