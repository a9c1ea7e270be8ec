"""No record is lost if the disk becomes full, or if two runs compete for the same device or folder."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest

from attnbench import store
from attnbench.errors import StorageError, UsageError
from attnbench.plan.devices import Device, choose_devices
from attnbench.runner import locks
from attnbench.runner.request import plan_of
from attnbench.runner.resume import resumed
from attnbench.runner.run import execute, start

HOLDER = """
    import sys, time
    from attnbench.isolation import worker_process
    from attnbench.runner import locks
    from attnbench.plan.devices import Device, choose_devices
    worker_process.ENTRY, worker_process.PRELOADED = sys.argv[1], ()
    with locks.hold(choose_devices(["cpu:0"])):
        worker = worker_process.WorkerProcess({})
        print(worker._line(time.monotonic() + 300).decode(), flush=True)
        time.sleep(600)
"""
LEAVES_A_CHILD = """
    import os, subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], close_fds=False)
    os.write(int(sys.argv[2]), b"%d\\n" % child.pid)
    time.sleep(600)
"""


def full_after(records, monkeypatch):
    """Simulate a disk that has space for `records` records and becomes full while the next record is being written."""
    written = []

    def write(descriptor, data):
        if len(written) >= records:
            os.write(descriptor, data[:40])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(data)
        return os.write(descriptor, data)

    monkeypatch.setattr(store, "_write", write)


def test_a_disk_that_fills_up_stops_the_run_with_all_records_intact(stubbed, outcomes, monkeypatch):
    """A full disk ends the run with a message that contains the command for resuming it.

    The stored records remain readable, and resuming completes the run.
    """
    request = stubbed.request(seq=(16, 24, 32))
    catalog, plan = plan_of(request)
    run = start(request, catalog, plan)
    with monkeypatch.context() as patch:
        full_after(3, patch)
        with pytest.raises(StorageError, match=r"No space left on device.*attnbench run --resume"):
            execute(run, catalog, plan)
    reading = store.read_run(run)
    assert len(reading.records) == 3
    assert reading.torn_lines == 0
    execute(run, *resumed(run))
    assert {record.status for record in outcomes(run).values()} == {"ok"}
    assert len(outcomes(run)) == 6


def test_a_disk_that_is_too_small_is_refused_before_anything_runs(stubbed, monkeypatch):
    """If the disk may be too small for a run's records, a UsageError states the free space and the number of cells."""
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: SimpleNamespace(free=5 << 20))
    request = stubbed.request()
    with pytest.raises(UsageError, match="5 MiB are free and 2 cells may need"):
        start(request, *plan_of(request))
    assert not (request.results / "r").exists()


def test_two_processes_never_execute_one_run(stubbed):
    """A run that one process is executing can't be executed by another process at the same time."""
    request = stubbed.request()
    catalog, plan = plan_of(request)
    run = start(request, catalog, plan)
    with locks.hold_run(run), pytest.raises(UsageError, match="is being executed by another"):
        execute(run, catalog, plan)
    execute(run, catalog, plan)
    assert store.statuses(run) == {"ok": 2}


def test_two_runs_never_share_a_name(stubbed):
    """Starting a run with the name of an existing run raises UsageError."""
    request = stubbed.request()
    start(request, *plan_of(request))
    with pytest.raises(UsageError, match="run 'r' exists"):
        start(request, *plan_of(request))


def test_a_lock_is_released_when_its_process_ends_though_a_worker_lives_on(stubbed, tmp_path):
    """When a supervisor is killed, its device is free immediately, even if a child of its worker is still running."""
    script = tmp_path / "leaves_a_child.py"
    script.write_text(textwrap.dedent(LEAVES_A_CHILD))
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDER), str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    child = int(holder.stdout.readline())
    try:
        with (
            pytest.raises(UsageError, match="device cpu:0 is in use by another"),
            locks.hold(choose_devices(["cpu"])),
        ):
            pass
        holder.kill()
        holder.wait()
        os.kill(child, 0)  # raises ProcessLookupError if the child is no longer running
        with locks.hold(choose_devices(["cpu:0"])):
            pass
    finally:
        holder.kill()
        holder.stdout.close()
        os.kill(child, signal.SIGKILL)


def test_a_gpu_is_locked_by_its_uuid():
    """A GPU is locked by its UUID rather than its number, so another GPU with the same number is free."""
    with locks.hold([Device("cuda:0", "H200", "GPU-1")]):
        with (
            pytest.raises(UsageError, match="device cuda:7 is in use"),
            locks.hold([Device("cuda:7", "H200", "GPU-1")]),
        ):
            pass
        with locks.hold([Device("cuda:0", "H200", "GPU-2")]):
            pass


def test_the_whole_cpu_can_not_be_locked_while_one_core_is():
    """The whole CPU can't be locked while one of its cores is locked."""
    with locks.hold(choose_devices(["cpu:0"])):  # noqa: SIM117 - pytest.raises must not include the first lock
        with pytest.raises(UsageError, match="device cpu:0 is in use"), locks.hold(choose_devices(["cpu"])):
            pass


def test_a_run_that_never_had_its_device_leaves_no_folder(stubbed):
    """If the device is in use, the folder of a new run is removed, but the folder of an earlier run is kept."""
    request = stubbed.request()
    catalog, plan = plan_of(request)
    for starts in (False, True):
        run = start(request, catalog, plan)
        if starts:
            execute(run, catalog, plan)
        with locks.hold(choose_devices(["cpu:0"])), pytest.raises(UsageError, match="in use by another attnbench run"):
            execute(run, catalog, plan)
        assert run.exists() == starts
