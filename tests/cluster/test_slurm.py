"""Run plans with submitit. Its local executor takes the place of a Slurm cluster."""

import os
import sys

import pytest

from attnbench.cluster.executor import ClusterExecutor
from attnbench.cluster.slurm import SlurmCluster, rows_of
from attnbench.errors import UsageError
from attnbench.measure_config import MeasureConfig
from attnbench.runner.request import Request, plan_of
from attnbench.runner.run import execute, start
from attnbench.store import read_run

pytest.importorskip(
    "submitit", reason="SUBMITIT IS NOT INSTALLED: Slurm is not tested (pip install 'attnbench[slurm]')"
)

QUICK = MeasureConfig(budget_s=0.05, min_blocks=2, block_s=0.01, min_time_s=0.01, warm_up_max_s=0.1, interleave=False)


def test_a_plan_runs_as_jobs_and_leaves_no_pickle(tmp_path, monkeypatch):
    """Each group runs as a submitit job, and none of submitit's files are left in the run's folder or in the cache."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(entry for entry in sys.path if entry))
    executor = ClusterExecutor(SlurmCluster("local"))
    request = Request(
        variants=["naive"],
        axes={"heads": [1], "seq": [16], "head_dim": [8]},
        protocol=QUICK,
        results=tmp_path,
        name="r",
        every_device=True,
    )
    catalog, plan = plan_of(request, executor)
    run = start(request, catalog, plan)
    summary = execute(run, catalog, plan, executor=executor)
    assert dict(summary.statuses) == {"ok": 1}
    assert [record.device for record in read_run(run).records] == ["cpu:any"]
    assert not executor._cluster._folder.exists()
    assert not list(tmp_path.rglob("*.pkl"))


def test_nodes_are_read_from_sinfo():
    """GPUs are counted by type, cores are counted only on nodes without a GPU, and no node is counted twice."""
    output = "g1|64|515000|gpu:h100:8(S:0-1)\ng1|64|515000|gpu:h100:8\ng2|32|256000+|gpu:4\nc1|128|1031000|(null)\n\n"
    rows = rows_of(output)
    assert [(row["machine"], row["device"], row["devices"]) for row in rows] == [
        ("g1", "cuda:h100", 8),
        ("g2", "cuda:any", 4),
        ("c1", "cpu:any", 128),
    ]
    assert rows[0]["memory_gib"] == 502.9


def test_without_sbatch_slurm_is_an_error(monkeypatch):
    """Without sbatch, SlurmCluster raises UsageError instead of running the jobs locally."""
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(UsageError, match="sbatch was not found"):
        SlurmCluster()
