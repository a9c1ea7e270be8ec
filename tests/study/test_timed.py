"""Studies that time variants, at tiny sizes."""

import os
import subprocess
import sys
import tomllib
from importlib import import_module
from types import SimpleNamespace

import pytest

from attnbench.study import MODULES, Settings, bidirectional, find_study, gpus, heads, make, memory
from attnbench.study.timed import run_suite, suite_text
from attnbench.suite import parse_suite

SHAPE = {"heads": 1, "head_dim": 8, "seq": [16, 32], "dtype": "float32"}
GRIDS = [  # one small run serves all studies
    *bidirectional.grids(SHAPE),
    *memory.grids(SHAPE),
    *heads.grids({"width": 8, "heads": [2], "seq": 16, "batch": 1, "dtype": "float32"}),
]
ROWS = {
    "heads": lambda row: row["mask"] == "none" and row["seq_q"] == 16,
    "context": lambda row: row["mask"] == "causal" and row["direction"] == "forward",
    "bidirectional": lambda row: row["heads"] == 1 and row["direction"] == "forward",
    "memory": lambda row: row["direction"] == "forward_backward",
}


@pytest.fixture(scope="module")
def timed_rows(tmp_path_factory):
    """Give the rows of one run of all studies' tiny grids."""
    folder = tmp_path_factory.mktemp("studies")
    return run_suite("all", GRIDS, Settings(folder, variants=["naive"], budget_s=0.02), folder, ["cpu"])


def test_suite_text_is_toml():
    """Grids become a suite that TOML reads back."""
    text = suite_text("x", [{"heads": [1, 2], "mask": "causal"}, {"scale": 0.5, "alibi": True}])
    assert tomllib.loads(text) == {
        "name": "x", "grid": [{"heads": [1, 2], "mask": "causal"}, {"scale": 0.5, "alibi": True}],
    }  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_timed_studies_on_real_rows(name, timed_rows, monkeypatch, tmp_path):
    """Each study draws and concludes from what a run of its tiny grids gave."""
    rows = [row for row in timed_rows if ROWS[name](row)]
    assert len(rows) == (4 if name == "bidirectional" else 2)
    monkeypatch.setattr("attnbench.study.timed.run_suite", lambda *_: rows)
    outcome = make(find_study(name), Settings(tmp_path, device="cpu"))
    assert "naive" in outcome.finding
    assert (outcome.folder / "figure.png").stat().st_size > 5000


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_every_size_is_a_suite(name, kind):
    """The sizes that a study has for a kind of device make workloads."""
    module = import_module(f"attnbench.study.{MODULES[name]}")
    if hasattr(module, "SIZES"):
        table = tomllib.loads(suite_text(name, module.grids(module.SIZES[kind])))
        assert parse_suite(table, name).workloads


def test_study_runs_from_the_command_line(tmp_path):
    """`attnbench study` prints the finding and says where the figure is."""
    command = ["study", "weights", "--results", str(tmp_path)]
    done = subprocess.run([sys.executable, "-m", "attnbench", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "In a sentence of 11 words" in done.stdout
    assert "figure.svg" in done.stdout


def test_slots_of_a_cpu_work_at_once(tmp_path):
    """One run on two one-core slots gives each slot's time of the same share, and the slowest of them counts."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores")
    sizes = {"batch": 2, "heads": 2, "head_dim": 8, "seq": 16}
    settings = Settings(tmp_path, variants=["naive"], budget_s=0.02)
    timed = run_suite("gpus", gpus.grids(sizes, 2)[:1], settings, tmp_path, ["cpu:0", "cpu:1"], run="devices-2")
    assert {row["device"] for row in timed} == {"cpu:0", "cpu:1"}
    (row,) = gpus.slowest(timed, sizes, 2)
    assert row["latency_ms"] == max(row["latency_ms"] for row in timed)
    assert row["split"] == "batch"


def test_gpus_runs_every_count_by_itself(tmp_path, monkeypatch):
    """`gpus` makes a run for each number of devices, on that many, and concludes from all of them."""
    asked = []

    def stand_in(name, grids, settings, folder, devices, *, run):
        asked.append((run, len(devices), len(grids)))
        return [
            {"variant": "x", "device_name": "slot", "latency_ms": 8 / len(devices)} | {s: grid[s] for s in gpus.SPLITS}
            for grid in grids
            for _ in devices
        ]  # fmt: skip

    monkeypatch.setattr(gpus, "run_suite", stand_in)
    monkeypatch.setattr(gpus, "alike", lambda name: [SimpleNamespace(kind="cpu", name=f"cpu:{i}") for i in range(4)])
    outcome = make(find_study("gpus"), Settings(tmp_path))
    assert asked == [("devices-1", 1, 1), ("devices-2", 2, 2), ("devices-4", 4, 2)]
    assert "x is 4.00 times as fast (100% scaling efficiency)" in outcome.finding
