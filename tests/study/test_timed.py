"""Studies that time variants, at tiny sizes."""

import subprocess
import sys
import tomllib
from importlib import import_module

import pytest

from attnbench.study import MODULES, Settings, bidirectional, find_study, heads, make, memory
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
    return run_suite("all", GRIDS, Settings(folder, variants=["naive"], budget_s=0.02), folder, "cpu")


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
