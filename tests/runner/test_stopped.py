"""A run that is stopped and continued, with SIGSTOP or Ctrl-Z, loses no cell and keeps no disturbed block."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import stub_run
from attnbench import store
from attnbench.isolation import worker_process
from attnbench.isolation.worker_process import WorkerLostError, WorkerProcess
from attnbench.messages import Block
from attnbench.plan.history import History
from attnbench.record import STOPPED
from attnbench.runner.cell_runner import MAX_STOPPED_BLOCKS
from attnbench.runner.request import plan_of
from waiting import wait_until

SHAPE = ["-v", "alpha,beta", "-d", "cpu:0", "--heads", "2", "--head-dim", "8", "--seq", "16", "--name", "r"]


class SimulatedWait:
    """A clock, and a `select` that takes a scripted time for each wait and then finds the pipe readable or not."""

    def __init__(self, *waits):
        self._waits, self._now_s = iter(waits), 0.0

    def monotonic(self):
        return self._now_s

    def select(self, readers, _writers, _errors, timeout_s):
        took_s, readable = next(self._waits, (timeout_s, False))
        self._now_s += took_s
        return (readers if readable else [], [], [])


@pytest.fixture
def waiting(monkeypatch):
    """Return a function that lets a worker's handle wait until a deadline while the given waits happen."""

    def wait(*waits, deadline_s):
        simulated = SimulatedWait(*waits)
        monkeypatch.setattr(worker_process, "time", SimpleNamespace(monotonic=simulated.monotonic))
        monkeypatch.setattr(worker_process, "select", SimpleNamespace(select=simulated.select))
        monkeypatch.setattr(WorkerProcess, "_timed_out", lambda self: WorkerLostError("timeout", self.phase, ""))
        worker = WorkerProcess.__new__(WorkerProcess)
        worker.__dict__.update(_replies=0, _memory=None, stopped_s=0.0, phase="measure")
        worker._wait_readable(deadline_s)
        return worker.stopped_s

    return wait


def test_a_stop_counts_towards_no_deadline(waiting):
    """If the supervisor is stopped for an hour while it waits, a worker still has the rest of its time."""
    assert waiting((3600.1, False), (0.05, True), deadline_s=0.5) == pytest.approx(3600.0)
    with pytest.raises(WorkerLostError):
        waiting((3600.1, False), (0.1, False), (0.1, False), (0.1, False), (0.1, False), deadline_s=0.5)


def test_a_reply_that_arrives_during_a_stop_is_read(waiting):
    """A reply that the worker sent while the supervisor was stopped is no timeout, and the stop is noticed."""
    assert waiting((3600.1, True), deadline_s=0.5) == pytest.approx(3600.0)


def test_a_busy_machine_is_no_stop(waiting):
    """If the supervisor wakes up late by less than a second, it was not stopped."""
    assert waiting((0.9, False), (0.05, True), deadline_s=5.0) == 0.0


def stopped_during(monkeypatch, *numbers):
    """Let the supervisor be stopped during the blocks with these numbers, counted over all workers."""
    wait, blocks = WorkerProcess.wait, []

    def stop(self, *arguments):
        reply = wait(self, *arguments)
        if isinstance(reply, Block):
            blocks.append(reply)
            self.stopped_s += 5.0 if len(blocks) in numbers else 0.0
        return reply

    monkeypatch.setattr(WorkerProcess, "wait", stop)
    return blocks


def test_a_block_during_a_stop_is_timed_again(stubbed, monkeypatch):
    """A block during which the run was stopped is not stored but timed again, and the cell's record is flagged."""
    timed = stopped_during(monkeypatch, 2)
    run, summary = stubbed.run("alpha", "beta")
    assert summary.statuses == {"ok": 2}
    records = store.read_run(run).records
    assert sum(len(record.block_sizes) for record in records) == len(timed) - 1
    assert sum(STOPPED in record.flags for record in records) == 1
    assert not any(block.get("throttle") for record in records for block in record.telemetry["blocks"])
    _, plan = plan_of(stubbed.request("alpha", "beta", name="next"))
    assert History(run.parent).seconds(plan.cells[0]) is None  # how long the cells took is unknown


def test_a_block_that_is_stopped_again_and_again_is_marked(stubbed, monkeypatch):
    """If the run is stopped during each attempt to time a block, the last attempt is stored and marked as throttled."""
    stopped_during(monkeypatch, *range(1, 1 + MAX_STOPPED_BLOCKS))
    run, _ = stubbed.run("alpha")
    throttled = [
        block.get("throttle") for record in store.read_run(run).records for block in record.telemetry["blocks"]
    ]
    assert throttled.count([STOPPED]) == 1


def test_a_stopped_run_can_be_continued(stubbed, tmp_path):
    """After SIGSTOP and SIGCONT, all cells of the run are measured."""
    released = tmp_path / "released"
    stubbed.behave(beta={"open": f"until:{released}"})
    process = subprocess.Popen(
        [sys.executable, stub_run.__file__, "run", *SHAPE, "--budget", "0.001", "--results", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        wait_until(lambda: stubbed.log.exists() and "open beta" in stubbed.log.read_text())
        os.kill(process.pid, signal.SIGSTOP)
        wait_until(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        released.touch()
        os.kill(process.pid, signal.SIGCONT)
        assert process.wait(300) == 0
    finally:
        process.kill()
        process.wait()
    assert store.statuses(tmp_path / "r") == {"ok": 2}
