"""The machine survives what a worker takes, and a worker leaves nothing behind."""

import mmap
import os
import resource
import signal
import subprocess
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from attnbench.isolation import cleanup, memory_limit, process
from attnbench.isolation.memory_limit import HostMemory
from attnbench.isolation.process import WorkerLostError, WorkerProcess
from attnbench.messages import CloseRequest

MIB = 1 << 20


@pytest.fixture
def worker_runs(tmp_path, monkeypatch):
    """Have workers run a script of the given text."""

    def run(text):
        script = tmp_path / "worker.py"
        script.write_text(text)
        monkeypatch.setattr(process, "ENTRY", str(script))
        monkeypatch.setattr(process, "IMPORTED", ())

    return run


def test_a_containers_limit_counts_as_the_machines_memory(monkeypatch):
    """Total and available memory are the container's where it has less than the machine."""

    def limited(limit, available):
        groups = SimpleNamespace(memory_limit=lambda: limit, available_memory=lambda: available)
        monkeypatch.setattr(memory_limit, "ControlGroups", lambda: groups)
        return memory_limit.total_bytes(), memory_limit.available_bytes()

    assert limited(100 * MIB, 60 * MIB) == (100 * MIB, 60 * MIB)
    assert limited(None, None)[0] == limited(1 << 59, 1 << 59)[0] == psutil.virtual_memory().total


def test_a_limit_is_bounded_by_the_machine_less_a_reserve():
    """By default a worker may take all but a reserve; a GPU's worker is watched, and refused nothing."""
    whole = memory_limit.host_memory("cpu")
    assert 0 < whole.reserve_bytes <= memory_limit.total_bytes() / 4
    assert whole.limit_bytes == memory_limit.total_bytes() - whole.reserve_bytes
    assert whole.refuse
    assert not memory_limit.host_memory("cuda").refuse
    assert memory_limit.host_memory("cpu", 5 * MIB).limit_bytes == 5 * MIB


def test_what_a_worker_holds_is_seen(monkeypatch):
    """A process that holds more than its limit has to end, and one that holds much while little is left."""
    own = os.getpid()
    with mmap.mmap(-1, 32 * MIB) as shared:
        for page in range(0, len(shared), mmap.PAGESIZE):
            shared[page] = 1
        assert "its limit is" in HostMemory(16 * MIB, 0, refuse=False).exceeded(own)
    assert HostMemory(1 << 50, 1 << 50, refuse=False).exceeded(own) is None
    monkeypatch.setattr(memory_limit, "available_bytes", lambda: MIB)
    assert "the machine had 0.0 GiB left" in HostMemory(1 << 50, 2 * MIB, refuse=False).exceeded(own)


@pytest.mark.parametrize(
    ("taking", "status", "reason"),
    [
        ("[bytearray(1 << 20) for _ in range(1000)]", "crash", "exited with code 1"),  # refused: MemoryError
        (
            "import mmap; shared = mmap.mmap(-1, 1 << 30); [shared.write(bytes(1 << 20)) for _ in range(1000)]",
            "out_of_memory",
            "its limit is",
        ),
    ],
)
def test_memory_beyond_the_limit_is_refused_or_ends_the_worker(worker_runs, taking, status, reason):
    """The kernel refuses what goes beyond the limit; what gets round that is seen, and ends the worker."""
    worker_runs(f"{taking}; import time; time.sleep(60)")
    worker = WorkerProcess({}, memory=HostMemory(128 * MIB, 0, refuse=True))
    with pytest.raises(WorkerLostError) as lost:
        worker.request(CloseRequest(), lambda _: 30.0)
    assert lost.value.status == status
    assert reason in lost.value.reason


def test_the_kernel_chooses_the_worker_if_memory_runs_out(worker_runs):
    """A worker is the first that the kernel would end, and its limit is set on it alone."""
    worker_runs("import os, sys, time; os.write(int(sys.argv[2]), b'%d\\n' % os.getpid()); time.sleep(60)")
    before = resource.getrlimit(resource.RLIMIT_DATA)
    worker = WorkerProcess({}, memory=HostMemory(512 * MIB, 0, refuse=True))
    try:
        process_id = int(worker._line(time.monotonic() + 30))
        assert Path(f"/proc/{process_id}/oom_score_adj").read_text().strip() == "1000"
        assert resource.prlimit(process_id, resource.RLIMIT_DATA)[0] == 512 * MIB
    finally:
        worker.stop()
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_a_worker_that_the_kernel_ended_for_memory_ran_out_of_it(worker_runs, monkeypatch):
    """A SIGKILL while the kernel's count of such kills grew is out_of_memory; any other is a crash."""
    worker_runs("import os; os.kill(os.getpid(), 9)")
    for counts, status in ((iter((1, 1)), "crash"), (iter((1, 2)), "out_of_memory")):
        monkeypatch.setattr(process, "killed_for_memory", lambda counts=counts: next(counts))
        with pytest.raises(WorkerLostError) as lost:
            WorkerProcess({}).request(CloseRequest(), lambda _: 30.0)
        assert lost.value.status == status


def test_nothing_of_a_worker_is_left(worker_runs, monkeypatch, tmp_path):
    """A descendant in a session of its own ends with its worker, and the temporary files go."""
    notes = tmp_path / "notes"
    child = f"import time, tempfile; open({str(notes)!r}, 'w').write(tempfile.mkdtemp()); time.sleep(600)"
    text = f"""
        import subprocess, sys, time
        subprocess.Popen([sys.executable, "-S", "-c", {child!r}], start_new_session=True)
        time.sleep(600)
    """
    worker_runs(textwrap.dedent(text))
    worker = WorkerProcess({})
    deadline = time.monotonic() + 30
    while not (notes.exists() and notes.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    folder = Path(notes.read_text())
    assert folder.is_dir()
    monkeypatch.setattr(process, "GRACE_S", 0.1)
    worker.stop()
    assert not folder.parent.exists()
    assert not [found for found in psutil.process_iter(["cmdline"]) if child in (found.info["cmdline"] or ())]


def test_temporary_folders_of_a_killed_supervisor_are_removed(tmp_path, monkeypatch):
    """The next run removes the folders of supervisors that are no more, and leaves those of the living."""
    monkeypatch.setattr(cleanup.tempfile, "gettempdir", lambda: str(tmp_path))
    ended = subprocess.Popen(["/bin/true"])
    ended.wait()
    folders = [tmp_path / f"{cleanup.FOLDER_PREFIX}{owner}-x" for owner in (ended.pid, os.getpid(), "none")]
    for folder in folders:
        folder.mkdir()
    cleanup.clear_abandoned()
    assert [folder.exists() for folder in folders] == [False, True, True]


def test_all_workers_can_be_ended_at_once(worker_runs):
    """Whoever waits for a worker when all are ended is told of its death."""
    worker_runs("import time; time.sleep(60)")
    worker = WorkerProcess({})
    WorkerProcess.end_all()
    with pytest.raises(WorkerLostError, match=signal.SIGKILL.name):
        worker.request(CloseRequest(), lambda _: 30.0)
