"""Studies that time variants, run at tiny sizes."""

import os
import tomllib
from contextlib import contextmanager
from importlib import import_module
from types import SimpleNamespace

import pytest

from attnbench import Workload
from attnbench.store import read_run
from attnbench.study import MODULES, Settings, bidirectional, find_study, gpus, heads, make, memory
from attnbench.study.timing import run_suite, suite_text
from attnbench.workloads.suite import parse_suite
from command_line import attnbench

SHAPE = {"heads": 1, "head_dim": 8, "seq": [16, 32], "dtype": "float32"}
# The grids of all studies are measured in a single run, because each run takes seconds.
GRIDS = [
    *bidirectional.grids(SHAPE),
    *memory.grids(SHAPE),
    *heads.grids({"width": 8, "heads": [2], "seq": 16, "batch": 1, "dtype": "float32"}),
]
ROWS = {  # for each study, a function that selects its rows from the run that measures GRIDS
    "heads": lambda row: row["mask"] == "none" and row["seq_q"] == 16,
    "context": lambda row: row["mask"] == "causal" and row["direction"] == "forward",
    "bidirectional": lambda row: row["heads"] == 1 and row["direction"] == "forward",
    "memory": lambda row: row["direction"] == "forward_backward",
}


@pytest.fixture(scope="module")
def timed_rows(tmp_path_factory):
    """Measure the workloads in GRIDS once, and return the rows."""
    folder = tmp_path_factory.mktemp("studies")
    return run_suite("all", GRIDS, Settings(folder, variants=["naive"], budget_s=0.02), folder, ["cpu"])


def test_suite_text_is_toml():
    """`suite_text` returns TOML that contains the given grids unchanged."""
    text = suite_text("x", [{"heads": [1, 2], "mask": "causal"}, {"scale": 0.5, "alibi": True}])
    assert tomllib.loads(text) == {
        "name": "x", "grid": [{"heads": [1, 2], "mask": "causal"}, {"scale": 0.5, "alibi": True}],
    }  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_timed_studies_draw_and_conclude_from_real_rows(name, timed_rows, monkeypatch, tmp_path):
    """Each timed study makes a figure and a finding from a real run's rows."""
    rows = [row for row in timed_rows if ROWS[name](row)]
    assert len(rows) == (4 if name == "bidirectional" else 2)
    monkeypatch.setattr("attnbench.study.timing.run_suite", lambda *_, **__: rows)
    result = make(find_study(name), Settings(tmp_path, device="cpu"))
    assert "naive" in result.finding
    assert (result.folder / "figure.png").stat().st_size > 5000


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_all_sizes_are_valid_suites(name, kind):
    """The default sizes of each study make a valid suite for each kind of device."""
    module = import_module(f"attnbench.study.{MODULES[name]}")
    if hasattr(module, "SIZES"):
        table = tomllib.loads(suite_text(name, module.grids(module.SIZES[kind])))
        assert parse_suite(table, name).workloads


def test_a_study_runs_from_the_command_line(tmp_path):
    """`attnbench study` prints the finding and the path of the figure."""
    command = ["study", "weights", "--results", str(tmp_path)]
    done = attnbench(*command)
    assert done.returncode == 0, done.stderr
    assert "In a sentence of 11 words" in done.stdout
    assert "figure.svg" in done.stdout


def test_a_study_runs_the_default_variants_and_those_it_needs(tmp_path):
    """If no variants are chosen, `parallelism` plans the device's default variants and the recurrent layers."""
    planned = []

    @contextmanager
    def watch(plan):
        planned.extend({cell.variant.name for cell in plan.cells})
        raise InterruptedError("this test needs only the plan")
        yield

    with pytest.raises(InterruptedError):
        make(find_study("parallelism"), Settings(tmp_path, device="cpu", watch=watch))
    assert {"naive", "sdpa", "chunked", "lstm", "gru", "linear"} <= set(planned)
    assert "flex" not in planned, "compiling flex takes minutes on a CPU, so it is not a default variant"


def test_gpus_splits_a_problem_over_cores(tmp_path):
    """`gpus` runs the whole problem on one core, and then half of the problem on each of two cores."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores")
    sizes = {"batch": 2, "heads": 2, "head_dim": 8, "seq": 16}
    settings = Settings(tmp_path, device="cpu", variants=["naive"], budget_s=0.02, sizes=sizes)
    rows = gpus.collect(settings, tmp_path)
    places = {(row["split"], row["devices"]): row["device"] for row in rows if row["devices"] <= 2}
    assert len(rows) == len(places) == 4
    assert {places["batch", 1], places["heads", 1]} <= {"cpu:0", "cpu:1"}
    assert places["batch", 2] == places["heads", 2] == "cpu:0+cpu:1"
    assert all(row["efficiency"] > 0 for row in rows)
    records = [record for record in read_run(tmp_path / "run").records if record.workload.gpus == 2]
    for record in records:
        assert all(len(block["rank_ns"]) == 2 for block in record.telemetry["blocks"])
        assert record.flops == Workload(**sizes_of(sizes), mask="causal").flops()


def sizes_of(sizes):
    """Convert a study's sizes to workload fields."""
    return {"seq_q" if name == "seq" else name: value for name, value in sizes.items()}


def test_gpus_uses_all_devices_of_one_kind(tmp_path, monkeypatch):
    """If there are five devices of one kind, `gpus` uses 1, 2 and 4 of them, and states the speed-up on 4."""
    requested = []

    def stand_in(name, grids, settings, folder, devices):
        requested.append((grids[0]["gpus"], len(devices)))
        return [
            {"variant": "x", "device_name": "slot", "latency_ms": 8 / count, "gpus": count, "split": split}
            for count in grids[0]["gpus"]
            for split in (gpus.SPLITS if count > 1 else gpus.SPLITS[:1])
        ]

    monkeypatch.setattr(gpus, "run_suite", stand_in)
    monkeypatch.setattr(gpus, "alike", lambda name: [SimpleNamespace(kind="cpu", name=f"cpu:{i}") for i in range(5)])
    result = make(find_study("gpus"), Settings(tmp_path))
    assert requested == [([1, 2, 4], 4)]
    assert "x is 4.00 times as fast (100% scaling efficiency)" in result.finding
