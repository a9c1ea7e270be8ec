"""One Ctrl-C stops a run after the current step, and a second one stops it at once. The run can be resumed later."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import stub_run
from attnbench import store
from attnbench.runner.resume import resumed
from attnbench.runner.run import execute

LONG_S = 300.0  # longer than anything takes here, even on a busy machine
SHAPE = [
    "-v",
    "alpha,beta",
    "-d",
    "cpu:0",
    "--heads",
    "2",
    "--head-dim",
    "8",
    "--budget",
    "0.001",
    "--precision",
    "50%",
]


@pytest.fixture
def command(stubbed, tmp_path):
    """Yield a function that starts a run with stand-in workers and waits until variant beta's last cell is opened."""
    started = []

    def start():
        command = [sys.executable, stub_run.__file__, "run", *SHAPE, "--seq", "16,24", "--name", "r"]
        process = subprocess.Popen(
            [*command, "--results", str(tmp_path)],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                "STUB_INTERRUPTS": str(tmp_path / "interrupts"),
            },
        )
        started.append(process)
        wait_until(lambda: ("beta", 24) in opened(stubbed))
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_until(condition):
    """Wait until the condition is true. Raises TimeoutError if it is false for very long."""
    deadline = time.monotonic() + LONG_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)


def interrupt(process, tmp_path):
    """Send a SIGINT and wait until the run has counted it."""
    counted = tmp_path / "interrupts"

    def count():
        return len(counted.read_text().splitlines()) if counted.exists() else 0

    before = count()
    os.kill(process.pid, signal.SIGINT)
    wait_until(lambda: count() > before)


def opened(stubbed):
    """Return the (variant, length) pairs of the cells that workers have opened so far."""
    return {cell[:2] for cell in stubbed.opened()} if stubbed.log.exists() else set()


def completed(stubbed, run):
    """Resume a run with workers that don't misbehave, and return the number of cells with each status."""
    stubbed.behave()
    execute(run, *resumed(run))
    return store.statuses(run)


def test_one_interrupt_finishes_the_current_step(stubbed, command, tmp_path):
    """After a SIGINT, the current step finishes, the open cell is interrupted, and the process exits with code 130."""
    released = tmp_path / "released"
    stubbed.behave(beta={"24": {"open": f"until:{released}"}})
    process = command()
    interrupt(process, tmp_path)
    assert process.poll() is None  # the process is still waiting for the current step to finish
    released.touch()
    _, output = process.communicate(timeout=LONG_S)
    assert process.returncode == 130
    run = tmp_path / "r"
    assert f"interrupted; to continue: attnbench run --resume {run}" in output
    statuses = {(r.variant, r.workload.seq_k): r.status for r in store.read_run(run).records if not r.control}
    assert statuses["alpha", 16] == statuses["beta", 16] == "ok"
    assert statuses["beta", 24] == "interrupted"
    assert not stubbed.workers()
    with (run / "records-cpu-0.jsonl").open("a") as file:
        file.write('{"torn": ')
    assert completed(stubbed, run) == {"ok": 4}
    assert store.read_run(run).torn_lines == 1


def test_two_interrupts_stop_at_once(stubbed, command, tmp_path):
    """A second SIGINT kills the workers, the open cell is recorded as interrupted, and the run can be resumed."""
    stubbed.behave(beta={"24": {"open": "hang:prepare"}})
    process = command()
    assert stubbed.workers()
    interrupt(process, tmp_path)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGINT)
    _, output = process.communicate(timeout=LONG_S)  # the hanging step would take ten minutes
    assert process.returncode == 130
    run = tmp_path / "r"
    assert "attnbench run --resume" in output
    assert store.statuses(run)["interrupted"] >= 1
    assert set(store.statuses(run)) == {"ok", "interrupted"}
    assert not stubbed.workers()
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["summary"]["interrupted"] is True
    assert completed(stubbed, run) == {"ok": 4}
    assert not list(Path("/tmp").glob(f"attnbench-worker-{process.pid}-*"))  # noqa: S108 - nothing is written to this folder
