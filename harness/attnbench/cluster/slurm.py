"""Run tasks on a Slurm cluster with submitit.

Each task is a job. Job options can be set with sbatch's SBATCH_* environment variables.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from attnbench.cluster.backend import UNLABELLED, DeviceType, NodeLostError, Task
from attnbench.errors import UsageError
from attnbench.user_cache import cache_folder

JOB_LIMIT_MINUTES = 240  # the default time limit of a job; SBATCH_TIMELIMIT overrides it
POLL_S = 0.5
SINFO_MAX_AGE_S = 30.0  # sinfo is called again if its last output is older than this
GPUS = re.compile(r"gpu:(?:([^:,()]+):)?(\d+)")
LOST_STATES = ("NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "INTERRUPTED", "CANCELLED", "UNKNOWN")


class SlurmCluster:
    """A Slurm cluster. Each task is a job with one GPU or one core.

    `scheduler` is the name of a submitit executor: `slurm`, or `local` for processes on this machine. Submitit's files
    are stored in a subfolder of the user's cache folder, which must be accessible from all nodes.
    """

    name = "slurm"

    def __init__(self, scheduler: str = "slurm") -> None:
        try:
            import submitit
        except ImportError:
            raise UsageError("--executor slurm needs the package submitit: pip install 'attnbench[slurm]'") from None
        if scheduler == "slurm" and not shutil.which("sbatch"):
            raise UsageError("--executor slurm: sbatch was not found: run attnbench on a machine that can submit jobs")
        folder = cache_folder() / "slurm"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = Path(tempfile.mkdtemp(prefix="jobs-", dir=folder))
        self._submitit, self._scheduler = submitit, scheduler
        self._jobs: list[Any] = []
        self._excluded: set[str] = set()  # the names of nodes that get no further jobs
        self._rows: list[dict[str, Any]] = []
        self._fresh_until = 0.0

    def device_types(self) -> list[DeviceType]:
        """List the types of GPU that sinfo reports, and the type `any` for the cores of nodes without a GPU."""
        if self._scheduler == "local":
            return [] if self._excluded else [DeviceType(UNLABELLED, "cpu", 1)]
        slots: dict[tuple[str, str], int] = {}
        for node in self.nodes():
            if node["machine"] in self._excluded:
                continue
            kind, _, type_ = node["device"].partition(":")
            slots[type_, kind] = slots.get((type_, kind), 0) + node["devices"]
        return [DeviceType(label, kind, count) for (label, kind), count in sorted(slots.items())]

    def nodes(self) -> list[dict[str, Any]]:
        """Return a table with one row for each node that responds.

        A row lists the node's GPUs or, if the node has none, its cores. Raises UsageError if sinfo fails.
        """
        if time.monotonic() < self._fresh_until:
            return self._rows
        answer = subprocess.run(
            ["sinfo", "--noheader", "--Node", "--responding", "--format", "%N|%c|%m|%G"],  # noqa: S607 - sinfo is found in PATH
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if answer.returncode:
            raise UsageError(f"sinfo failed: {' '.join(answer.stderr.split())}")
        self._rows, self._fresh_until = rows_of(answer.stdout), time.monotonic() + SINFO_MAX_AGE_S
        return self._rows

    def submit(self, task: Task, argument: dict[str, Any], device_type: DeviceType) -> Any:
        """Submit a job that runs the task, and return the job.

        Submitit pickles a reference to the task and the JSON values of the argument.
        """
        executor = self._submitit.AutoExecutor(folder=self._folder, cluster=self._scheduler)
        executor.update_parameters(name="attnbench", timeout_min=JOB_LIMIT_MINUTES)
        if self._scheduler == "slurm":
            gpu = {"slurm_gres": "gpu:1" if device_type.label == UNLABELLED else f"gpu:{device_type.label}:1"}
            executor.update_parameters(cpus_per_task=1, **(gpu if device_type.kind == "cuda" else {}))
            if self._excluded:
                executor.update_parameters(slurm_exclude=",".join(sorted(self._excluded)))
        job = executor.submit(_run_task, task, argument)
        self._jobs.append(job)
        return job

    def finished(self, handles: Collection[Any], timeout_s: float) -> list[Any]:
        """Wait up to `timeout_s` seconds for a job to finish, and return all finished jobs."""
        deadline = time.monotonic() + timeout_s
        while True:
            done = [job for job in handles if job.done()]
            if done or time.monotonic() > deadline:
                return done
            time.sleep(POLL_S)

    def result(self, handle: Any) -> dict[str, Any]:
        """Return the result of a finished job.

        Raises NodeLostError if the job's node was lost.
        """
        state = str(handle.state).partition(" ")[0]
        if state in LOST_STATES and not handle.paths.result_pickle.exists():
            raise NodeLostError(f"job {handle.job_id} ended in state {state}")
        result: dict[str, Any] = handle.result()
        return result

    def exclude(self, node: str) -> None:
        """Submit no further jobs to the node with this name."""
        self._excluded.add(node)

    def cancel(self, handle: Any) -> None:
        """Cancel a job."""
        handle.cancel(check=False)

    def stop(self) -> None:
        """Cancel the jobs that are still running and remove submitit's files."""
        for job in self._jobs:
            if not job.done():
                job.cancel(check=False)
        shutil.rmtree(self._folder, ignore_errors=True)


def _run_task(task: Task, argument: dict[str, Any]) -> dict[str, Any]:
    """Run a task on a node, and add to its result the name by which Slurm knows the node."""
    return {**task(argument), "node": os.environ.get("SLURMD_NODENAME") or platform.node()}


def rows_of(text: str) -> list[dict[str, Any]]:
    """Parse lines of the form `name|cores|MiB|generic resources` from sinfo, and return one row per node.

    A node in several partitions is listed on several lines but gets only one row.
    """
    rows: dict[str, dict[str, Any]] = {}
    for line in text.splitlines():
        name, cores, memory, resources = (*line.strip().split("|"), "", "", "")[:4]
        if not name or name in rows:
            continue
        gpus = GPUS.findall(resources)
        count = sum(int(number) for _, number in gpus)
        device = f"cuda:{gpus[0][0] or UNLABELLED}" if gpus else f"cpu:{UNLABELLED}"
        rows[name] = {
            "machine": name,
            "address": name,
            "device": device,
            "devices": count or int(re.sub(r"\D", "", cores) or 0),
            "memory_gib": round(int(digits) / 1024, 1) if (digits := re.sub(r"\D", "", memory)) else None,
        }
    return list(rows.values())
