"""The runs of the soak tests: thousands of simulated cells, or small real cells for a given time."""

from __future__ import annotations

import dataclasses
import os
import secrets
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import process_samples
from process_samples import MARK, ROOT, ProcessSample, sampled

from attnbench import store

# The Python programs that are run instead of `attnbench`.
REAL = ("-m", "attnbench")
STUBBED = (str(ROOT / "tests/stand_ins/stub_run.py"),)  # stand-ins take the place of the workers
SIMULATED_NODES = (str(ROOT / "tests/soak/simulated_node.py"),)  # a stand-in takes the place of a node's task

STUBBED_VARIANTS = ("alpha", "beta", "gamma")
CLUSTER_VARIANTS = ("naive", "sdpa", "chunked")
REAL_VARIANTS = ("naive", "sdpa", "sdpa-math", "chunked")
SMALL = {"heads": 2, "head_dim": 8}
# Every real workload has another shape, because libraries cache what they prepare for a shape.
REAL_AXES = {
    "heads": 2,
    "head_dim": 16,
    "dtype": ["float32", "bfloat16"],
    "mask": ["none", "causal"],
    "direction": ["forward", "forward_backward"],
}
WORKLOADS_PER_LENGTH = 8
SHORTEST_LENGTH = 8
CALIBRATION_LENGTHS = 2
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the folder is only listed
REAL_INTERVAL_S, SIMULATED_INTERVAL_S = 5.0, 1.0  # between two samples of the processes


@dataclasses.dataclass(frozen=True)
class SoakRun:
    """A run that has ended.

    - `status`: the exit status of the command
    - `folder`: the folder of the run
    - `samples`: the state of its processes over time
    - `left`: what it has left behind outside its folder: files, shared memory and processes
    - `log`: the file with the command's output
    """

    status: int
    folder: Path
    samples: list[ProcessSample]
    left: list[str]
    log: Path

    @property
    def contradictions(self) -> list[str]:
        """What is wrong with the records: each planned cell must have exactly one record, and must have been timed."""
        manifest, reading = store.read_manifest(self.folder), store.read_run(self.folder)
        planned = Counter(cell["cell_id"] for cell in manifest["plan"])
        stored = Counter(record.cell_id for record in reading.records if not record.control)
        statuses = Counter(record.status for record in reading.records)
        summary = manifest.get("summary", {}).get("statuses")
        wrong = list(reading.problems)
        if self.status:
            wrong.append(f"the command ended with exit status {self.status}; its output: {self.log}")
        if reading.torn_lines:
            wrong.append(f"{reading.torn_lines} lines are incomplete")
        if stored != planned:
            missing, surplus = planned - stored, stored - planned
            wrong.append(f"{missing.total()} planned cells have no record, and {surplus.total()} records are surplus")
        if set(statuses) != {"ok"}:
            wrong.append(f"not all cells were timed: {dict(statuses)}")
        if summary != {"ok": planned.total()}:
            wrong.append(f"the summary counts {summary} for {planned.total()} cells")
        return wrong


def run(program: Sequence[str], arguments: Sequence[str], work: Path, name: str, interval_s: float) -> SoakRun:
    """Execute a program with the arguments of `attnbench run`, and return what came of it.

    `program` is REAL, STUBBED or SIMULATED_NODES, `work` is a folder for results and caches, and `interval_s` is the
    time between two samples of the processes.
    """
    mark, temporary = secrets.token_hex(8), Path(tempfile.mkdtemp(prefix="soak-"))
    results, log, shared_before = work / "results", work / f"{name}.log", _shared_memory()
    command = [sys.executable, *program, "run", *arguments, "--results", str(results), "--name", name]
    environment = {
        MARK: mark,
        "TMPDIR": str(temporary),
        "XDG_CACHE_HOME": str(work / "cache"),
        "TORCHINDUCTOR_CACHE_DIR": str(work / "cache" / "inductor"),
        "PYTHONPATH": _python_path(),
    }
    status, samples = sampled(command, environment, log, _LineCount(results / name).update, interval_s)
    left = [f"temporary file {path}" for path in temporary.rglob("*")]
    left += [f"process {process.pid} {process.name()}" for process in process_samples.marked(mark)]
    left += [f"shared memory {found}" for found in _unused(_shared_memory() - shared_before)]
    shutil.rmtree(temporary, ignore_errors=True)
    return SoakRun(status, results / name, samples, left, log)


def report(done: SoakRun, work: Path, interval_s: float) -> tuple[int, list[ProcessSample]]:
    """Write the report of a run, and return the exit status of the command and the samples of its processes."""
    command = [sys.executable, *REAL, "report", str(done.folder)]
    environment = {"XDG_CACHE_HOME": str(work / "cache"), "PYTHONPATH": _python_path()}
    return sampled(command, environment, work / "report.log", lambda: 0, interval_s)


def stubbed_arguments(cells: int, work: Path) -> list[str]:
    """Return the arguments of a run with at least this many cells whose workers are stand-ins."""
    suite = _suite(work, "stubbed", -(-cells // len(STUBBED_VARIANTS)), SMALL)
    settings = ("--budget", "0.002", "--precision", "50%", "--baseline", STUBBED_VARIANTS[0])
    return ["-s", suite, "-v", ",".join(STUBBED_VARIANTS), "-d", "cpu:0", *settings]


def cluster_arguments(cells: int, work: Path, address: str, device_type: str) -> list[str]:
    """Return the arguments of a run with at least this many cells on a Ray cluster."""
    suite = _suite(work, "cluster", -(-cells // len(CLUSTER_VARIANTS)), SMALL)
    cluster = ("--executor", "ray", "--address", address, "--gpus", device_type)
    return ["-s", suite, "-v", ",".join(CLUSTER_VARIANTS), *cluster]


def real_arguments(lengths: int, work: Path) -> list[str]:
    """Return the arguments of a run with small real cells at this many sequence lengths."""
    suite = _suite(work, "real", lengths, REAL_AXES)
    return ["-s", suite, "-v", ",".join(REAL_VARIANTS), "-d", "cpu", "--budget", "0.1", "--baseline", "sdpa"]


def lengths_in(seconds: float, work: Path) -> int:
    """Return how many sequence lengths a real run measures in this time, according to a short run."""
    short = run(REAL, real_arguments(CALIBRATION_LENGTHS, work), work, "calibration", REAL_INTERVAL_S)
    ends = sorted(datetime.fromisoformat(record.ended_at) for record in store.read_run(short.folder).records)
    half = len(ends) // 2  # the workers are started in the first half
    per_cell_s = (ends[-1] - ends[half]).total_seconds() / (len(ends) - half - 1)
    return max(1, round(seconds / per_cell_s / WORKLOADS_PER_LENGTH / len(REAL_VARIANTS)))


def _suite(work: Path, name: str, lengths: int, axes: Mapping[str, Any]) -> str:
    """Write a suite with these axes and this many sequence lengths, and return its path."""
    seqs = list(range(SHORTEST_LENGTH, SHORTEST_LENGTH + lengths))
    lines = [f'name = "{name}"', "[[grid]]", f"seq = {seqs}", *(f"{axis} = {value!r}" for axis, value in axes.items())]
    path = work / f"{name}.toml"
    work.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def _python_path() -> str:
    return os.pathsep.join(map(str, (ROOT / "harness", ROOT / "variants", ROOT / "tests/soak")))


class _LineCount:
    """The number of lines in the record files of a run, of which only the new parts are read."""

    def __init__(self, run: Path) -> None:
        self._run, self._lines = run, 0
        self._read: dict[Path, int] = {}  # the number of bytes of each file that were read

    def update(self) -> int:
        """Return the number of lines."""
        for path in self._run.glob("records-*.jsonl"):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                data = file.read()
            self._read[path] = self._read.get(path, 0) + len(data)
            self._lines += data.count(b"\n")
        return self._lines


def _shared_memory() -> set[str]:
    return {path.name for path in SHARED_MEMORY.glob("*")}


def _unused(names: set[str]) -> set[str]:
    """Return the names of shared memory that no process has mapped, so that no running process will remove it."""
    used: set[str] = set()
    for maps in Path("/proc").glob("[0-9]*/maps") if names else ():
        try:
            text = maps.read_text()
        except OSError:
            continue
        used |= {name for name in names if f"{SHARED_MEMORY}/{name}" in text}
    return names - used
