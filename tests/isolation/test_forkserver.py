"""Workers are forked from a process that has imported torch, and are as good as new processes."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from attnbench.isolation import forkserver, process
from attnbench.isolation.log import Log
from attnbench.isolation.process import WorkerLostError, WorkerProcess

TELL = """
    import json, os, sys, time
    def tell(told):
        os.write(int(sys.argv[2]), json.dumps(told).encode() + b"\\n")
"""


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Run a script as a worker; give what it tells, and leave it running until the test ends."""
    workers = []

    def run(text, imports=(), environment=None, cores=None):
        script = tmp_path / f"worker{len(workers)}.py"
        script.write_text(textwrap.dedent(TELL) + textwrap.dedent(text) + "\ntime.sleep(600)\n")
        monkeypatch.setattr(process, "ENTRY", str(script))
        monkeypatch.setattr(process, "IMPORTED", imports)
        workers.append(WorkerProcess(environment or {}, cores))
        return process.json.loads(workers[-1]._line(time.monotonic() + 60))

    yield run
    monkeypatch.setattr(process, "GRACE_S", 0.05)
    for worker in workers:
        worker.stop()


def test_what_workers_need_is_imported_once_for_all(told):
    """Two workers have one parent, which has imported the module for both; no other environment shares it."""
    text = "tell([os.getppid(), 'colorsys' in sys.modules])"
    first, second = told(text, ["colorsys"]), told(text, ["colorsys"])
    assert first == second
    assert first[1]
    assert told(text, ["colorsys"], {"OMP_NUM_THREADS": "7"})[0] != first[0]


def test_a_module_that_does_not_import_is_left_to_the_worker(told):
    """The worker starts all the same, and meets the error itself."""
    assert told("tell('no_such_module' in sys.modules)", ["no_such_module"]) is False


def test_a_worker_holds_nothing_of_the_nurserys(told):
    """A worker has its standard streams and its two pipes open, leads a session, and has its own temporary folder."""
    text = """
        import tempfile
        held = [int(name) for name in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + name)]
        tell([sorted(held), os.getsid(0) == os.getpid(), tempfile.gettempdir(),
              os.environ['TMPDIR'], sorted(map(int, sys.argv[1:]))])
    """
    told("tell(0)")
    descriptors, leads, folder, expected, pipes = told(text)
    assert descriptors == [0, 1, 2, *pipes]
    assert leads
    assert folder == expected


def test_a_worker_is_pinned_before_anything_counts_its_cores(told):
    """Modules are imported on the cores that the worker is pinned to."""
    core = min(os.sched_getaffinity(0))
    assert told("tell([*os.sched_getaffinity(0), *os.sched_getaffinity(os.getppid())])", cores=[core]) == [core, core]


def test_what_forks_from_a_worker_ends_with_it(told, monkeypatch):
    """A process that a worker forked, and that left its session, still bears the worker's mark."""
    text = """
        child = os.fork()
        if child == 0:
            os.setsid()
            time.sleep(600)
        tell(child)
    """
    child = psutil.Process(told(text))
    monkeypatch.setattr(process, "GRACE_S", 0.05)
    next(iter(WorkerProcess._running)).stop()
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("sys.exit(7)", "the process exited with code 7"),
        ("os.kill(os.getpid(), 11)", "killed by SIGSEGV"),
        ("raise ValueError", "the process exited with code 1"),
    ],
)
def test_how_a_worker_ended_is_known(tmp_path, monkeypatch, text, reason):
    """Exit codes and signals come through the nursery, and an exception's trace goes to the log."""
    script = tmp_path / "worker.py"
    script.write_text(f"import os, sys\n{text}\n")
    monkeypatch.setattr(process, "ENTRY", str(script))
    monkeypatch.setattr(process, "IMPORTED", ())
    worker = WorkerProcess({})
    worker.log_to(tmp_path / "log")
    with pytest.raises(WorkerLostError, match=reason):
        worker.request("load", lambda _: 30.0)
    assert ("ValueError" in (tmp_path / "log").read_text()) if "raise" in text else not (tmp_path / "log").exists()


def test_what_a_worker_prints_before_its_log_is_known_goes_there_too(tmp_path):
    """Output that came, and even ended, before there was a file is kept for the first one."""
    log = Log()
    writing = os.dup(log.descriptor)
    log.started()
    os.write(writing, b"Traceback\n")
    os.close(writing)
    log.close()
    assert log.written is None
    log.switch(tmp_path / "log")
    assert (tmp_path / "log").read_bytes() == b"Traceback\n"
    assert log.written == tmp_path / "log"


def test_a_lost_nursery_is_replaced(told):
    """When a nursery is killed its workers end with it, and the next worker gets a new one."""
    worker, parent = told("tell([os.getpid(), os.getppid()])")
    running = psutil.Process(worker)
    os.kill(parent, signal.SIGKILL)
    lost = next(iter(WorkerProcess._running))
    with pytest.raises(WorkerLostError, match="killed by SIGKILL"):
        lost.request("load", lambda _: 30.0)
    assert not running.is_running() or running.status() == psutil.STATUS_ZOMBIE
    assert told("tell(os.getppid())") != parent


def test_idle_nurseries_are_few_and_end(told, monkeypatch):
    """Nurseries without a worker are ended on request, and the oldest when there are too many."""
    monkeypatch.setattr(process, "GRACE_S", 0.05)
    forkserver.end_idle()
    parents = []
    for number in range(forkserver.MOST_IDLE + 2):
        parents.append(psutil.Process(told("tell(os.getppid())", environment={"NUMBER": str(number)})))
        next(iter(WorkerProcess._running)).stop()
    alive = [parent.is_running() for parent in parents]
    assert alive == [False, False] + [True] * forkserver.MOST_IDLE
    forkserver.end_idle()
    assert not any(parent.is_running() for parent in parents)


def test_all_ends_with_a_supervisor_that_is_killed(tmp_path):
    """Neither the nursery nor a worker outlives the process that asked for it."""
    script = tmp_path / "worker.py"
    script.write_text(textwrap.dedent(TELL) + "\ntell([os.getpid(), os.getppid()])\ntime.sleep(600)\n")
    text = """
        import sys, time
        from attnbench.isolation import process
        process.ENTRY, process.IMPORTED = sys.argv[1], ()
        print(process.WorkerProcess({})._line(time.monotonic() + 60).decode(), flush=True)
        time.sleep(600)
    """
    supervisor = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text), str(script)], stdout=subprocess.PIPE, text=True
    )
    try:
        found = [Path(f"/proc/{number}") for number in process.json.loads(supervisor.stdout.readline())]
        assert all(folder.exists() for folder in found)
    finally:
        supervisor.kill()
        supervisor.wait()
        supervisor.stdout.close()
    deadline = time.monotonic() + 10
    while any(folder.exists() for folder in found) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(folder.exists() for folder in found)
