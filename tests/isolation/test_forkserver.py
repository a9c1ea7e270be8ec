"""Workers are forked from a process that has already imported torch, but otherwise start like new processes."""

import importlib.util
import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from attnbench.isolation import forkserver_client, worker_process
from attnbench.isolation import log as log_module
from attnbench.isolation.forkserver_main import ForkRequest
from attnbench.isolation.log import OUTPUT_TIMEOUT_S, QUIET_S, WorkerLog
from attnbench.isolation.worker_process import WorkerLostError, WorkerProcess
from attnbench.messages import CloseRequest
from waiting import LONG_S, wait_until

PREAMBLE = """
    import json, os, sys, time
    def reply(value):
        os.write(int(sys.argv[2]), json.dumps(value).encode() + b"\\n")
"""


@pytest.fixture
def reply_of(tmp_path, monkeypatch):
    """Yield a function that runs a script as a worker and returns the worker's first reply.

    The workers are stopped at the end of the test.
    """
    workers = []

    def run(text, imports=(), environment=None, cores=None):
        script = tmp_path / f"worker{len(workers)}.py"
        script.write_text(textwrap.dedent(PREAMBLE) + textwrap.dedent(text) + "\ntime.sleep(600)\n")
        monkeypatch.setattr(worker_process, "ENTRY", str(script))
        monkeypatch.setattr(worker_process, "PRELOADED", imports)
        workers.append(WorkerProcess(environment or {}, cores))
        return json.loads(workers[-1]._line(time.monotonic() + LONG_S))

    yield run
    monkeypatch.setattr(worker_process, "GRACE_S", 0.05)
    for worker in workers:
        worker.stop()


def test_modules_are_imported_once_for_all_workers(reply_of):
    """Workers with the same environment share a fork server and its imports. Others use a different fork server."""
    text = "reply([os.getppid(), 'colorsys' in sys.modules])"
    first, second = reply_of(text, ["colorsys"]), reply_of(text, ["colorsys"])
    assert first == second
    assert first[1]
    assert reply_of(text, ["colorsys"], {"OMP_NUM_THREADS": "7"})[0] != first[0]


def test_a_module_that_cant_be_imported_does_not_stop_the_fork_server(reply_of):
    """If the fork server can't import a module, the worker still starts and can report the error."""
    assert reply_of("reply('no_such_module' in sys.modules)", ["no_such_module"]) is False


def test_a_worker_inherits_nothing_else_from_the_fork_server(reply_of):
    """A worker has only its standard streams and two pipes open, and has its own session and temporary folder."""
    text = """
        import tempfile
        held = [int(name) for name in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + name)]
        reply([sorted(held), os.getsid(0) == os.getpid(), tempfile.gettempdir(),
              os.environ['TMPDIR'], sorted(map(int, sys.argv[1:]))])
    """
    reply_of("reply(0)")
    descriptors, leads, folder, expected, pipes = reply_of(text)
    assert descriptors == [0, 1, 2, *pipes]
    assert leads
    assert folder == expected


def test_a_worker_is_pinned_before_libraries_count_its_cores(reply_of):
    """The fork server is pinned to the worker's cores too, because libraries count the cores when they are imported."""
    core = min(os.sched_getaffinity(0))
    text = "reply([*os.sched_getaffinity(0), *os.sched_getaffinity(os.getppid())])"
    assert reply_of(text, cores=[core]) == [core, core]


def test_processes_that_a_worker_forked_end_with_it(reply_of, monkeypatch):
    """When a worker stops, its child is killed, even if the child has started a new session."""
    text = """
        child = os.fork()
        if child == 0:
            os.setsid()
            time.sleep(600)
        reply(child)
    """
    child = psutil.Process(reply_of(text))
    monkeypatch.setattr(worker_process, "GRACE_S", 0.05)
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
def test_the_reason_why_a_worker_ended_is_reported(tmp_path, monkeypatch, text, reason):
    """The error for a lost worker names the exit code or signal, and the log contains the traceback of an exception."""
    script = tmp_path / "worker.py"
    script.write_text(f"import os, sys\n{text}\n")
    monkeypatch.setattr(worker_process, "ENTRY", str(script))
    monkeypatch.setattr(worker_process, "PRELOADED", ())
    worker = WorkerProcess({})
    worker.log_to(tmp_path / "log")
    with pytest.raises(WorkerLostError, match=reason):
        worker.request(CloseRequest(), lambda _: LONG_S)
    assert ("ValueError" in (tmp_path / "log").read_text()) if "raise" in text else not (tmp_path / "log").exists()


def test_a_worker_may_exit_long_after_it_closed_its_pipes(tmp_path, monkeypatch):
    """The exit code of a worker is reported even if the worker takes longer to exit than it is given when stopped."""
    script = tmp_path / "worker.py"
    script.write_text("import os, sys\nos.close(int(sys.argv[2]))\nos._exit(7)\n")
    monkeypatch.setattr(worker_process, "ENTRY", str(script))
    monkeypatch.setattr(worker_process, "PRELOADED", ())
    monkeypatch.setattr(worker_process, "GRACE_S", 0.0)
    with pytest.raises(WorkerLostError, match="the process exited with code 7"):
        WorkerProcess({}).request(CloseRequest(), lambda _: LONG_S)


@pytest.mark.parametrize(
    ("arrivals", "exits_s", "waited_s"),
    [
        ((0, 0, 9, 9, 0), 60.0, 0.5),
        ((), 60.0, OUTPUT_TIMEOUT_S),
        (itertools.repeat(1), 60.0, OUTPUT_TIMEOUT_S),
        ((), 0.2, 0.2),
    ],
    ids=["late", "none", "endless", "exit"],
)
def test_output_is_awaited_until_no_more_arrives(monkeypatch, arrivals, exits_s, waited_s):
    """The wait ends when output has arrived and no more follows, when the worker exits, or at the time limit."""
    log, bytes_arriving, now_s = WorkerLog(), iter(arrivals), 0.0

    def sleep(duration_s):
        nonlocal now_s
        now_s += duration_s
        log.received += next(bytes_arriving, 0)

    monkeypatch.setattr(log_module, "time", SimpleNamespace(monotonic=lambda: now_s, sleep=sleep))
    log.wait_for_more(0, lambda: now_s < exits_s)
    assert now_s == pytest.approx(waited_s, abs=QUIET_S)


def test_output_before_the_log_file_is_chosen_is_kept(tmp_path):
    """Output from before the first `switch` call is written to that call's file, even if the worker has exited."""
    log = WorkerLog()
    writing = os.dup(log.descriptor)
    log.started()
    os.write(writing, b"Traceback\n")
    os.close(writing)
    log.close()
    assert log.written is None
    log.switch(tmp_path / "log")
    assert (tmp_path / "log").read_bytes() == b"Traceback\n"
    assert log.written == tmp_path / "log"


def test_a_killed_fork_server_is_replaced(reply_of):
    """When a fork server is killed, its workers are killed too, and the next worker gets a new fork server."""
    worker, parent = reply_of("reply([os.getpid(), os.getppid()])")
    running = psutil.Process(worker)
    os.kill(parent, signal.SIGKILL)
    lost = next(iter(WorkerProcess._running))
    with pytest.raises(WorkerLostError, match="killed by SIGKILL"):
        lost.request(CloseRequest(), lambda _: LONG_S)
    assert not running.is_running() or running.status() == psutil.STATUS_ZOMBIE
    assert reply_of("reply(os.getppid())") != parent


def test_idle_fork_servers_are_ended(reply_of, monkeypatch):
    """If more than MAX_IDLE fork servers are idle, the oldest are stopped. `end_idle` stops all idle fork servers."""
    monkeypatch.setattr(worker_process, "GRACE_S", 0.05)
    forkserver_client.end_idle()
    parents = []
    for number in range(forkserver_client.MAX_IDLE + 2):
        parents.append(psutil.Process(reply_of("reply(os.getppid())", environment={"NUMBER": str(number)})))
        next(iter(WorkerProcess._running)).stop()
    alive = [parent.is_running() for parent in parents]
    assert alive == [False, False] + [True] * forkserver_client.MAX_IDLE
    forkserver_client.end_idle()
    assert not any(parent.is_running() for parent in parents)


def test_fork_server_and_worker_end_with_a_killed_supervisor(tmp_path):
    """When a supervisor is killed, its fork server and its worker exit too."""
    script = tmp_path / "worker.py"
    script.write_text(textwrap.dedent(PREAMBLE) + "\nreply([os.getpid(), os.getppid()])\ntime.sleep(600)\n")
    text = """
        import sys, time
        from attnbench.isolation import worker_process
        worker_process.ENTRY, worker_process.PRELOADED = sys.argv[1], ()
        print(worker_process.WorkerProcess({})._line(time.monotonic() + 300).decode(), flush=True)
        time.sleep(600)
    """
    supervisor = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text), str(script)], stdout=subprocess.PIPE, text=True
    )
    try:
        found = [Path(f"/proc/{number}") for number in json.loads(supervisor.stdout.readline())]
        assert all(folder.exists() for folder in found)
    finally:
        supervisor.kill()
        supervisor.wait()
        supervisor.stdout.close()
    wait_until(lambda: not any(folder.exists() for folder in found))


@pytest.mark.parametrize(
    "module", [worker_process.ENTRY, *worker_process.PRELOADED, forkserver_client.forkserver_main.__name__]
)
def test_modules_that_are_started_by_name_exist(module):
    """All modules that are started or preloaded by name exist. No import statement would fail if one were missing."""
    assert importlib.util.find_spec(module)


def test_a_fork_request_survives_encoding():
    """Decoding an encoded fork request returns the original request."""
    request = ForkRequest("module", ["colorsys"], {"NAME": "µ"}, data_limit=1 << 40)
    assert ForkRequest.from_json(request.to_json()) == request


def test_the_fork_server_starts_without_torch():
    """The fork server's own module does not import torch, so a worker that doesn't need torch starts quickly."""
    code = f"import sys, {forkserver_client.forkserver_main.__name__}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
