"""A full disk, two sweeps in one place, and who holds a device: nothing that is stored is ever lost."""

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
    from attnbench.isolation import process
    from attnbench.runner import locks
    from attnbench.plan.devices import Device, choose_devices
    process.ENTRY, process.IMPORTED = sys.argv[1], ()
    with locks.hold(choose_devices(["cpu:0"])):
        worker = process.WorkerProcess({})
        print(worker._line(time.monotonic() + 60).decode(), flush=True)
        time.sleep(600)
"""
STRAYING = """
    import os, subprocess, sys, time
    stray = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], close_fds=False)
    os.write(int(sys.argv[2]), b"%d\\n" % stray.pid)
    time.sleep(600)
"""


def full_after(records, monkeypatch):
    """Let the disk be full in the middle of a record, once that many are stored."""
    written = []

    def write(descriptor, data):
        if len(written) >= records:
            os.write(descriptor, data[:40])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(data)
        return os.write(descriptor, data)

    monkeypatch.setattr(store, "_write", write)


def test_a_disk_that_fills_up_stops_the_run_with_all_records_intact(stubbed, outcomes, monkeypatch):
    """ENOSPC ends the run with what to do next; what was stored reads whole, and resuming completes the run."""
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


def test_too_small_a_disk_is_told_before_anything_runs(stubbed, monkeypatch):
    """A run whose records could not be stored is bad usage that names both sizes."""
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: SimpleNamespace(free=5 << 20))
    request = stubbed.request()
    with pytest.raises(UsageError, match="5 MiB are free and 2 cells may need"):
        start(request, *plan_of(request))
    assert not (request.results / "r").exists()


def test_two_sweeps_of_one_run_never_mix(stubbed):
    """While one process works on a run's folder, another that resumes it is refused, on whatever device."""
    request = stubbed.request()
    catalog, plan = plan_of(request)
    run = start(request, catalog, plan)
    with locks.hold_run(run), pytest.raises(UsageError, match="is worked on by another"):
        execute(run, catalog, plan)
    execute(run, catalog, plan)
    assert store.statuses(run) == {"ok": 2}


def test_two_runs_of_one_name_never_mix(stubbed):
    """A second run under a name that exists is refused before it writes."""
    request = stubbed.request()
    start(request, *plan_of(request))
    with pytest.raises(UsageError, match="run 'r' exists"):
        start(request, *plan_of(request))


def test_a_lock_goes_with_its_holder_and_not_with_its_workers(stubbed, tmp_path):
    """When a holder is killed its device is free at once, though what its worker has started lives on."""
    script = tmp_path / "straying.py"
    script.write_text(textwrap.dedent(STRAYING))
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDER), str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    stray = int(holder.stdout.readline())
    try:
        with (
            pytest.raises(UsageError, match="device cpu:0 is measured by another"),
            locks.hold(choose_devices(["cpu"])),
        ):
            pass
        holder.kill()
        holder.wait()
        os.kill(stray, 0)  # it lives
        with locks.hold(choose_devices(["cpu:0"])):
            pass
    finally:
        holder.kill()
        holder.stdout.close()
        os.kill(stray, signal.SIGKILL)


def test_locks_are_by_uuid():
    """A GPU is known by its UUID, whatever number it has: the same one is refused, another is free."""
    with locks.hold([Device("cuda:0", "H200", "GPU-1")]):
        with (
            pytest.raises(UsageError, match="device cuda:7 is measured"),
            locks.hold([Device("cuda:7", "H200", "GPU-1")]),
        ):
            pass
        with locks.hold([Device("cuda:0", "H200", "GPU-2")]):
            pass


def test_the_whole_cpu_holds_its_slots():
    """While a slot is held the whole CPU is not to be had."""
    with locks.hold(choose_devices(["cpu:0"])):  # noqa: SIM117 - one is held while the other is tried
        with pytest.raises(UsageError, match="device cpu:0 is measured"), locks.hold(choose_devices(["cpu"])):
            pass


def test_a_run_that_never_got_its_device_leaves_no_folder(stubbed):
    """Where another run measures on the device a new run's folder goes again; one that had begun stays."""
    request = stubbed.request()
    catalog, plan = plan_of(request)
    for begins in (False, True):
        run = start(request, catalog, plan)
        if begins:
            execute(run, catalog, plan)
        with locks.hold(choose_devices(["cpu:0"])), pytest.raises(UsageError, match="measured by another run"):
            execute(run, catalog, plan)
        assert run.exists() == begins
