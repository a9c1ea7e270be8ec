"""One signal stops a run after the current step, and a second one stops it at once. The run can be resumed later."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import attnbench
import stub_run
from attnbench import store
from attnbench.cli import main
from attnbench.runner import request
from attnbench.runner.resume import resumed
from attnbench.runner.run import execute
from waiting import LONG_S, wait_until

# Make the terminal on standard input the controlling terminal, and run the rest of the command line.
TAKES_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
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

    def start(*prefix, **options):
        command = [*prefix, sys.executable, stub_run.__file__, "run", *SHAPE, "--seq", "16,24", "--name", "r"]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "STUB_INTERRUPTS": str(tmp_path / "interrupts"),
        }
        options = {"stderr": subprocess.PIPE, "text": True, "start_new_session": True, "env": environment, **options}
        process = subprocess.Popen([*command, "--results", str(tmp_path)], **options)
        started.append(process)
        wait_until(lambda: ("beta", 24) in opened(stubbed))
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def interrupt(process, tmp_path, number=signal.SIGINT):
    """Send a signal and wait until the run has counted it."""
    counted = tmp_path / "interrupts"

    def count():
        return len(counted.read_text().splitlines()) if counted.exists() else 0

    before = count()
    os.kill(process.pid, number)
    wait_until(lambda: count() > before)


def opened(stubbed):
    """Return the (variant, length) pairs of the cells that workers have opened so far."""
    return {cell[:2] for cell in stubbed.opened()} if stubbed.log.exists() else set()


def completed(stubbed, run):
    """Resume a run with workers that don't misbehave, and return the number of cells with each status."""
    stubbed.behave()
    execute(run, *resumed(run))
    return store.statuses(run)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_one_interrupt_finishes_the_current_step(stubbed, command, tmp_path, number):
    """After a signal, the current step finishes, the open cell is interrupted, and the exit code names the signal."""
    released = tmp_path / "released"
    stubbed.behave(beta={"24": {"open": f"until:{released}"}})
    process = command()
    interrupt(process, tmp_path, number)
    assert process.poll() is None  # the process is still waiting for the current step to finish
    released.touch()
    _, output = process.communicate(timeout=LONG_S)
    assert process.returncode == 128 + number
    run = tmp_path / "r"
    assert f"interrupted; to continue: attnbench run --resume {run}" in output
    statuses = {(r.variant, r.workload.seq_k): r.status for r in store.read_run(run).records if not r.control}
    assert statuses["alpha", 16] == statuses["beta", 16] == "ok"
    assert statuses["beta", 24] == "interrupted"
    assert not stubbed.workers()
    assert json.loads((run / "manifest.json").read_text())["summary"]["signal"] == number
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


def test_a_signal_before_the_first_cell_ends_the_command(stubbed, tmp_path, monkeypatch, capsys):
    """A SIGTERM that arrives while the run is being planned ends the command with code 143 and leaves no run."""
    monkeypatch.setattr(request, "plan_of", lambda *_: signal.raise_signal(signal.SIGTERM))
    monkeypatch.setattr(sys, "argv", ["attnbench", "run", *SHAPE, "--results", str(tmp_path / "results")])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 128 + signal.SIGTERM
    assert capsys.readouterr().err.endswith("attnbench: interrupted\n")
    assert not (tmp_path / "results").exists()


def test_a_closed_terminal_interrupts_the_run(stubbed, command, tmp_path):
    """If the terminal of a run is closed, the open cell is interrupted, and the run can be resumed."""
    released = tmp_path / "released"
    stubbed.behave(beta={"24": {"open": f"until:{released}"}})
    ours, theirs = pty.openpty()
    process = command(
        *(sys.executable, "-c", TAKES_TERMINAL), stdin=theirs, stdout=theirs, stderr=theirs, text=False
    )  # fmt: skip
    os.close(theirs)
    os.close(ours)  # the kernel sends SIGHUP to the process, and further output fails
    wait_until((tmp_path / "interrupts").exists)
    released.touch()
    process.wait(LONG_S)
    run = tmp_path / "r"
    assert store.statuses(run) == {"ok": 2, "interrupted": 2}
    assert json.loads((run / "manifest.json").read_text())["summary"]["signal"] == signal.SIGHUP
    assert process.returncode == 128 + signal.SIGHUP
    assert completed(stubbed, run) == {"ok": 4}


def test_a_run_started_with_nohup_goes_on_when_its_terminal_is_closed(stubbed, command, tmp_path):
    """If SIGHUP was ignored when the run started, it does not interrupt the run."""
    released = tmp_path / "released"
    stubbed.behave(beta={"24": {"open": f"until:{released}"}})
    process = command("nohup", stdin=subprocess.DEVNULL)
    os.kill(process.pid, signal.SIGHUP)
    released.touch()
    process.communicate(timeout=LONG_S)
    assert process.returncode == 0
    assert store.statuses(tmp_path / "r") == {"ok": 4}


def test_a_program_that_runs_cells_receives_the_signal_again(stubbed, monkeypatch):
    """After SIGTERM, `attnbench.run` ends the run, and then raises the signal for the program that called it."""
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    monkeypatch.setattr(store.RecordWriter, "append", once_terminated(store.RecordWriter.append))
    try:
        run = attnbench.run(
            ["alpha", "beta"], devices="cpu:0", seq=[16, 24], heads=2, head_dim=8, results=stubbed.folder, name="r",
            precision=0.5, budget_s=0.001, progress=False,
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]
    assert run.statuses["interrupted"] or run.statuses["ok"] < 4


def once_terminated(append):
    """Return a function like `append` that first sends a SIGTERM to this process and waits until it was counted."""
    sent = []

    def terminate(self, *records):
        if not sent:
            sent.append(signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
        append(self, *records)

    return terminate
