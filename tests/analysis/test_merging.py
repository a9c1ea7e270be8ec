"""Runs from several machines, merged by copying their folders into one folder."""

import shutil

import synthetic
from attnbench.analysis import load
from attnbench.analysis.results import Results
from attnbench.report import headline

OPTIONS = {"variants": ("naive", "sdpa"), "rounds": 4}


def cells():
    """Return two workloads."""
    return synthetic.workloads(seqs=(512, 1024), masks=("none",), directions=("forward",))


def test_copied_folders_load_together(tmp_path):
    """Loading a folder with the runs of two machines returns the records of both, each with its device name."""
    for index, machine in enumerate((synthetic.H200, synthetic.A100)):
        run = synthetic.make_run(
            tmp_path / f"machine-{index}", name=f"r{index}", cells=cells(), machine=machine, **OPTIONS
        )
        shutil.copytree(run, tmp_path / "merged" / run.name)
    merged = load(tmp_path / "merged")
    parts = [load(tmp_path / f"machine-{index}") for index in (0, 1)]
    assert len(merged) == sum(map(len, parts))
    assert sorted(merged["record_id"]) == sorted([*parts[0]["record_id"], *parts[1]["record_id"]])
    assert set(merged["device_name"]) == {"NVIDIA H200", "NVIDIA A100-SXM4-80GB"}


def test_each_type_of_gpu_is_ranked_separately(tmp_path):
    """Each type of GPU has its own table, and its speed-ups are over the baseline on the same type of GPU."""
    runs = [
        synthetic.make_run(tmp_path, name=name, cells=cells(), machine=machine, **OPTIONS)
        for name, machine in (("a", synthetic.H200), ("b", synthetic.A100))
    ]
    frame = load(runs)
    titles = [table.title for table in headline(frame)]
    assert any("NVIDIA H200" in title for title in titles)
    assert any("A100" in title for title in titles)
    assert (frame.loc[frame["variant"].eq("sdpa") & ~frame["control"], "speedup"] == 1).all()


def test_a_repeated_cell_counts_once_in_each_environment(tmp_path):
    """In each environment, only a cell's latest record counts. A different driver means a different environment."""
    environments = {"first": "old-driver", "again": "old-driver", "other": "new-driver"}
    for day, (name, environment) in enumerate(environments.items(), 1):
        synthetic.make_run(
            tmp_path, name=name, cells=cells(), machine=synthetic.H200, baseline=None, seed=day,
            started=f"2026-01-0{day}T12:00:00+00:00", replace={"environment_id": environment}, **OPTIONS,
        )  # fmt: skip
    frame = load(tmp_path)
    assert len(frame) == 3 * 2 * 2
    counted = Results(frame).current
    assert len(counted) == 2 * 2 * 2
    assert set(counted["run"]) == {"again", "other"}
    assert set(counted["environment_id"]) == {"old-driver", "new-driver"}
