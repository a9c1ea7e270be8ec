"""After a supervisor is killed at a random moment, its stored records remain, and resuming completes the run."""

import os
import random
import signal
import time

from attnbench import store
from attnbench.runner.request import plan_of
from attnbench.runner.resume import resumed
from attnbench.runner.run import execute, start
from attnbench.runner.run_listener import RunListener
from waiting import wait_until

LENGTHS = (16, 24, 32, 40)
RUNS, KILLS = 5, 10  # each of the 5 runs is killed and resumed 10 times


def content(run):
    """Return those fields of each cell's latest record that must be the same as in an undisturbed run."""
    return {
        key: (record.variant, record.workload, record.status, record.samples_ns[:3])
        for key, record in store.latest(run).items()
    }


def supervise(run, stored):
    """Resume a run in a child process and return the child's process id.

    The child writes the id of each stored record to the pipe `stored`.
    """
    child = os.fork()
    if child == 0:
        try:
            listener = RunListener()
            listener.record_stored = lambda record: os.write(stored, record.record_id.encode() + b"\n")
            execute(run, *resumed(run), listener=listener)
        finally:
            os._exit(0)
    return child


def test_a_killed_run_is_completed_cell_for_cell(stubbed):
    """After each of 50 kills, all reported records are stored, and resuming completes the run."""
    began = time.monotonic()
    undisturbed, _ = stubbed.run(seq=LENGTHS, name="undisturbed")
    took_s = time.monotonic() - began
    for seed in range(RUNS):
        request = stubbed.request(seq=LENGTHS, name=f"killed-{seed}")
        run = start(request, *plan_of(request))
        moments = random.Random(seed)  # noqa: S311 - the random numbers need not be secure
        for _ in range(KILLS):
            kill_and_compare(stubbed, run, moments.uniform(0.0, took_s))
        execute(run, *resumed(run))
        assert content(run) == content(undisturbed)
        cells = [record.cell_id for record in store.read_run(run).records if not record.control]
        assert len(cells) == len(set(cells)), "a cell was measured twice"
    wait_until(lambda: not stubbed.workers())


def kill_and_compare(stubbed, run, after_s):
    """Resume a run, kill its supervisor after `after_s` seconds, and check that all reported records are stored."""
    stubbed.log.unlink(missing_ok=True)
    before = set(store.latest(run))
    reading, writing = os.pipe()
    child = supervise(run, writing)
    os.close(writing)
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(reading) as reports:
        reported = set(reports.read().split())
    stored = store.read_run(run)
    assert reported <= {record.record_id for record in stored.records}
    assert not stored.problems
    assert before <= set(store.latest(run))
    done = {(record.variant, record.workload.seq_k) for record in store.latest(run).values()}
    opened = {cell[:2] for cell in stubbed.opened()} if stubbed.log.exists() else set()
    assert len({length for _, length in opened - done}) <= 1
