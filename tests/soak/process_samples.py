"""Sample the memory and the descriptors of a command and all of its descendants while it runs."""

from __future__ import annotations

import contextlib
import csv
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import psutil

from attnbench.isolation import forkserver_main

MARK = "ATTNBENCH_SOAK"  # the environment variable that every process of a command inherits
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class ProcessSample:
    """The state of one process at one time.

    - `seconds`: the time since the command was started
    - `role`: `supervisor`, `fork server` or `worker`
    - `age_s`: the age of the process in seconds
    - `rss`, `uss`: resident memory, and the part of it that no other process shares, in bytes
    - `cpu_s`: the CPU time of the process in seconds
    - `records`: the number of records that had been stored, as far as `progress` tells
    """

    seconds: float
    role: str
    pid: int
    age_s: float
    rss: int
    uss: int
    descriptors: int
    threads: int
    cpu_s: float
    records: int


def sampled(
    command: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    progress: Callable[[], int],
    interval_s: float,
) -> tuple[int, list[ProcessSample]]:
    """Run a command, sample its processes every `interval_s` seconds, and return its exit status and the samples.

    The command's output is written to `log`, and the samples to a CSV file beside it. `progress` returns the number of
    records stored so far.
    """
    samples: list[ProcessSample] = []
    began = time.monotonic()
    with (
        log.open("wb") as output,
        log.with_suffix(".csv").open("w", newline="", encoding="utf-8") as table,
        subprocess.Popen(command, env={**os.environ, **environment}, stdout=output, stderr=output, cwd=ROOT) as running,
    ):
        root = psutil.Process(running.pid)
        writer = csv.DictWriter(table, [field.name for field in fields(ProcessSample)], lineterminator="\n")
        writer.writeheader()
        try:
            while running.poll() is None:
                latest = _family(root, began, progress())
                writer.writerows(map(asdict, latest))
                table.flush()
                samples += latest
                with contextlib.suppress(subprocess.TimeoutExpired):
                    running.wait(interval_s)
        finally:
            running.terminate()
    return running.returncode, samples


def _family(root: psutil.Process, began: float, records: int) -> list[ProcessSample]:
    found = []
    with contextlib.suppress(psutil.Error):
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.Error, OSError):
                found.append(_sample(process, root, time.monotonic() - began, records))
    return found


def _sample(process: psutil.Process, root: psutil.Process, seconds: float, records: int) -> ProcessSample:
    memory, cpu = process.memory_full_info(), process.cpu_times()
    return ProcessSample(
        seconds=round(seconds, 2),
        role=_role(process, root),
        pid=process.pid,
        age_s=round(time.time() - process.create_time(), 2),
        rss=memory.rss,
        uss=memory.uss,
        descriptors=process.num_fds(),
        threads=process.num_threads(),
        cpu_s=round(cpu.user + cpu.system, 3),
        records=records,
    )


def _role(process: psutil.Process, root: psutil.Process) -> str:
    """Return the role of a process. A worker is forked from a fork server and therefore has its command line."""
    if process == root:
        return "supervisor"
    if forkserver_main.__name__ not in process.cmdline():
        return "other"
    return "fork server" if process.ppid() == root.pid else "worker"


def marked(mark: str) -> list[psutil.Process]:
    """Return the running processes that have inherited the mark of a command."""
    return [
        process
        for process in psutil.process_iter(["environ", "status"])
        if (process.info["environ"] or {}).get(MARK) == mark and process.info["status"] != psutil.STATUS_ZOMBIE
    ]
