"""A worker can't use up the machine's memory, and leaves neither processes nor files behind."""

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

from attnbench.isolation import cleanup, memory_limit, worker_process
from attnbench.isolation.memory_limit import HostMemory
from attnbench.isolation.worker_process import WorkerLostError, WorkerProcess
from attnbench.messages import CloseRequest
from waiting import LONG_S, wait_until

MIB = 1 << 20


@pytest.fixture
def run_script(tmp_path, monkeypatch):
    """Return a function that makes workers run a given script."""

    def run(text):
        script = tmp_path / "worker.py"
        script.write_text(text)
        monkeypatch.setattr(worker_process, "ENTRY", str(script))
        monkeypatch.setattr(worker_process, "PRELOADED", ())

    return run


def test_a_containers_limit_counts_as_the_machines_memory(monkeypatch):
    """If a container has less memory than the machine, the container's total and available memory apply."""

    def limited(limit, available):
        groups = SimpleNamespace(memory_limit=lambda: limit, available_memory=lambda: available)
        monkeypatch.setattr(memory_limit, "ControlGroups", lambda: groups)
        return memory_limit.total_bytes(), memory_limit.available_bytes()

    assert limited(100 * MIB, 60 * MIB) == (100 * MIB, 60 * MIB)
    assert limited(None, None)[0] == limited(1 << 59, 1 << 59)[0] == psutil.virtual_memory().total


def test_the_default_limit_is_the_machines_memory_less_a_reserve():
    """By default, a worker may use all memory except a reserve, and RLIMIT_DATA is set only for workers on a CPU."""
    whole = memory_limit.host_memory("cpu")
    assert 0 < whole.reserve_bytes <= memory_limit.total_bytes() / 4
    assert whole.limit_bytes == memory_limit.total_bytes() - whole.reserve_bytes
    assert whole.refuse
    assert not memory_limit.host_memory("cuda").refuse
    assert memory_limit.host_memory("cpu", 5 * MIB).limit_bytes == 5 * MIB


def test_a_process_that_holds_too_much_memory_must_be_ended(monkeypatch):
    """A process must be killed if it exceeds its limit, or if it holds more than the reserve while memory is low."""
    own = os.getpid()
    with mmap.mmap(-1, 32 * MIB) as shared:
        for page in range(0, len(shared), mmap.PAGESIZE):
            shared[page] = 1
        assert "its limit is" in HostMemory(16 * MIB, 0, refuse=False).exceeded(own)
    assert HostMemory(1 << 50, 1 << 50, refuse=False).exceeded(own) is None
    monkeypatch.setattr(memory_limit, "available_bytes", lambda: MIB)
    assert "the machine had 0.0 GiB left" in HostMemory(1 << 50, 2 * MIB, refuse=False).exceeded(own)


@pytest.mark.parametrize(
    ("allocation", "status", "reason"),
    [
        # The operating system refuses the allocation, so the script fails with a MemoryError.
        ("[bytearray(1 << 20) for _ in range(1000)]", "crash", "exited with code 1"),
        (
            "import mmap; shared = mmap.mmap(-1, 1 << 30); [shared.write(bytes(1 << 20)) for _ in range(1000)]",
            "out_of_memory",
            "its limit is",
        ),
    ],
)
def test_memory_beyond_the_limit_is_refused_or_ends_the_worker(run_script, allocation, status, reason):
    """The kernel refuses private memory beyond the limit. A worker with too much shared memory is killed instead."""
    run_script(f"{allocation}; import time; time.sleep(600)")
    worker = WorkerProcess({}, memory=HostMemory(128 * MIB, 0, refuse=True))
    with pytest.raises(WorkerLostError) as lost:
        worker.request(CloseRequest(), lambda _: LONG_S)
    assert lost.value.status == status
    assert reason in lost.value.reason


def test_the_kernel_kills_a_worker_first_if_memory_runs_out(run_script):
    """A worker has the highest OOM score, and RLIMIT_DATA is set for the worker but not for the supervisor."""
    run_script("import os, sys, time; os.write(int(sys.argv[2]), b'%d\\n' % os.getpid()); time.sleep(600)")
    before = resource.getrlimit(resource.RLIMIT_DATA)
    worker = WorkerProcess({}, memory=HostMemory(512 * MIB, 0, refuse=True))
    try:
        process_id = int(worker._line(time.monotonic() + LONG_S))
        assert Path(f"/proc/{process_id}/oom_score_adj").read_text().strip() == "1000"
        assert resource.prlimit(process_id, resource.RLIMIT_DATA)[0] == 512 * MIB
    finally:
        worker.stop()
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_a_worker_killed_by_the_kernel_ran_out_of_memory(run_script, monkeypatch):
    """SIGKILL is recorded as `out_of_memory` if the kernel's count of OOM kills has grown, and otherwise as `crash`."""
    run_script("import os; os.kill(os.getpid(), 9)")
    for counts, status in ((iter((1, 1)), "crash"), (iter((1, 2)), "out_of_memory")):
        monkeypatch.setattr(worker_process, "oom_kill_count", lambda counts=counts: next(counts))
        with pytest.raises(WorkerLostError) as lost:
            WorkerProcess({}).request(CloseRequest(), lambda _: LONG_S)
        assert lost.value.status == status


def test_a_worker_leaves_nothing_behind(run_script, monkeypatch, tmp_path):
    """When a worker is stopped, its child in another session is killed too, and its temporary files are removed."""
    notes = tmp_path / "notes"
    child = f"import time, tempfile; open({str(notes)!r}, 'w').write(tempfile.mkdtemp()); time.sleep(600)"
    text = f"""
        import subprocess, sys, time
        subprocess.Popen([sys.executable, "-S", "-c", {child!r}], start_new_session=True)
        time.sleep(600)
    """
    run_script(textwrap.dedent(text))
    worker = WorkerProcess({})
    folder = Path(wait_until(lambda: notes.exists() and notes.read_text()))
    assert folder.is_dir()
    monkeypatch.setattr(worker_process, "GRACE_S", 0.1)
    worker.stop()
    assert not folder.parent.exists()
    assert not [found for found in psutil.process_iter(["cmdline"]) if child in (found.info["cmdline"] or ())]


def test_temporary_folders_of_a_killed_supervisor_are_removed(tmp_path, monkeypatch):
    """The temporary folders of supervisors that have exited are removed, but those of running supervisors are kept."""
    monkeypatch.setattr(cleanup.tempfile, "gettempdir", lambda: str(tmp_path))
    ended = subprocess.Popen(["/bin/true"])
    ended.wait()
    folders = [tmp_path / f"{cleanup.FOLDER_PREFIX}{owner}-x" for owner in (ended.pid, os.getpid(), "none")]
    for folder in folders:
        folder.mkdir()
    cleanup.clear_abandoned()
    assert [folder.exists() for folder in folders] == [False, True, True]


def test_all_workers_can_be_ended_at_once(run_script):
    """After `end_all`, a request to any worker raises a WorkerLostError that names SIGKILL."""
    run_script("import time; time.sleep(600)")
    worker = WorkerProcess({})
    WorkerProcess.end_all()
    with pytest.raises(WorkerLostError, match=signal.SIGKILL.name):
        worker.request(CloseRequest(), lambda _: LONG_S)
