"""Slurm by way of submitit: what is there, and what is told where it is not."""

import pytest

from attnbench.errors import UsageError
from attnbench.runner.slurm_cluster import SlurmCluster, rows_of

pytest.importorskip(
    "submitit", reason="SUBMITIT IS NOT INSTALLED: Slurm is not tested (pip install 'attnbench[slurm]')"
)


def test_the_machines_are_read_from_sinfo():
    """GPUs are counted by type, a machine in two partitions once, a machine without a GPU by its cores."""
    told = "g1|64|515000|gpu:h100:8(S:0-1)\ng1|64|515000|gpu:h100:8\ng2|32|256000+|gpu:4\nc1|128|1031000|(null)\n\n"
    rows = rows_of(told)
    assert [(row["machine"], row["device"], row["devices"]) for row in rows] == [
        ("g1", "cuda:h100", 8),
        ("g2", "cuda:any", 4),
        ("c1", "cpu:any", 128),
    ]
    assert rows[0]["memory_gib"] == 502.9


def test_without_sbatch_slurm_is_bad_usage(monkeypatch):
    """On a machine that submits no jobs nothing falls back to running here."""
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(UsageError, match="sbatch is not here"):
        SlurmCluster()
