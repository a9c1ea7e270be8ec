"""A run in a place that lacks space, permissions or locks either works, or ends with one line and leaves nothing."""

import errno
import fcntl
import os
import pwd
import sys
import tempfile
import textwrap

import pytest

from attnbench import store
from attnbench.cli import main
from attnbench.errors import UsageError
from attnbench.plan.devices import choose_devices
from attnbench.runner import locks
from attnbench.runner.request import plan_of
from attnbench.runner.run import execute, start

SHAPE = ["-v", "alpha,beta", "-d", "cpu:0", "--heads", "2", "--head-dim", "8", "--seq", "16,24"]
FAST = ["--budget", "0.001", "--precision", "50%", "--name", "r"]
NO_SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path, monkeypatch):
    """Use a temporary folder that the runs of other tests don't use."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))


@pytest.fixture
def command(stubbed, monkeypatch, capfd):
    """Return a function that runs `attnbench run` on four cells, and returns its exit code and its standard error."""

    def run(*arguments):
        given = arguments or (*SHAPE, *FAST, "--results", str(stubbed.folder / "results"))
        monkeypatch.setattr(sys, "argv", ["attnbench", "run", *map(str, given)])
        with pytest.raises(SystemExit) as left:
            main()
        return left.value.code or 0, capfd.readouterr().err

    return run


def refusing(monkeypatch, number):
    """Make each request for a file lock fail with this error number."""

    def flock(_descriptor, operation):
        if operation != fcntl.LOCK_UN:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


def without_hard_links(monkeypatch):
    """Make each attempt to create a hard link fail, as on file systems that have none."""

    def link(*_, **__):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)


@pytest.mark.parametrize("missing", ["hard links", "home", "user"])
def test_a_run_needs_neither_hard_links_nor_a_home_nor_a_name(command, stubbed, monkeypatch, missing):
    """A run succeeds without hard links, with a home folder that can't be written, and for a user without a name."""
    blocked = stubbed.folder / "a file"
    blocked.touch()
    if missing == "hard links":
        without_hard_links(monkeypatch)
    if missing == "home":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", str(blocked / "home"))  # below a file, no user can create a folder
    if missing == "user":
        for name in ("XDG_CACHE_HOME", "HOME", "LOGNAME", "USER", "LNAME", "USERNAME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    code, output = command()
    assert code == 0, output
    assert store.statuses(stubbed.folder / "results" / "r") == {"ok": 4}


def test_devices_are_locked_elsewhere_if_the_home_can_not_be_written(stubbed, monkeypatch):
    """If the cache folder can't be written, the locks of devices are in the temporary folder, and still exclude."""
    blocked = stubbed.folder / "a file"
    blocked.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    with locks.hold(choose_devices(["cpu:0"])):  # noqa: SIM117 - pytest.raises must not include the first lock
        with pytest.raises(UsageError, match="device cpu:0 is in use"), locks.hold(choose_devices(["cpu:0"])):
            pass


def test_a_run_is_locked_elsewhere_if_its_file_system_has_no_locks(stubbed, monkeypatch):
    """If the file system of the results has no locks, one process of this machine still executes a run at a time."""
    request = stubbed.request()
    catalog, plan = plan_of(request)
    run = start(request, catalog, plan)
    flock = fcntl.flock

    def only_elsewhere(descriptor, operation):
        if os.path.realpath(f"/proc/self/fd/{descriptor}").startswith(str(request.results)):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", only_elsewhere)
    with locks.hold_run(run), pytest.raises(UsageError, match="is being executed by another"):
        execute(run, catalog, plan)
    execute(run, catalog, plan)
    assert store.statuses(run) == {"ok": 2}


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS], ids=errno.errorcode.get)
def test_a_machine_without_locks_is_refused(command, stubbed, monkeypatch, number):
    """If no folder has locks, one line says so and names the remedy, and no run is left behind."""
    refusing(monkeypatch, number)
    without_hard_links(monkeypatch)
    code, output = command()
    assert (code, output.count("\n")) == (1, 2)  # the second line is the number of cells
    assert "no folder for the locks of devices and runs can be used" in output
    assert "set XDG_CACHE_HOME" in output
    assert not list((stubbed.folder / "results").iterdir())


def test_a_user_without_a_temporary_folder_is_told(command, stubbed, monkeypatch):
    """If a worker has no temporary folder, one line names TMPDIR, and no run is left behind."""

    def mkdtemp(*_, **__):
        raise NO_SPACE

    catalog_is_known(command)
    monkeypatch.setattr("tempfile.mkdtemp", mkdtemp)
    code, output = command()
    assert code == 1
    assert "a worker has no temporary folder" in output
    assert "set TMPDIR" in output
    assert not (stubbed.folder / "results" / "r").exists()


def catalog_is_known(command):
    """Describe the plugins, so that a later command reads their descriptions from the cache."""
    assert command(*SHAPE, "--dry-run")[0] == 0


READ_ONLY = """
    import subprocess, sys
    from pathlib import Path
    import stub_run
    from attnbench.cli import main
    from attnbench.isolation import worker_process
    from attnbench.machine import doctor

    worker_process.ENTRY, worker_process.PRELOADED = stub_run.WORKER, stub_run.PRELOADED
    doctor.LOAD_SECONDS = 0.01
    disk = Path(sys.argv[1])
    results = disk / "results"

    def attempt(*arguments):
        sys.argv = ["attnbench", *arguments, "--results", str(results)]
        try:
            main()
        except SystemExit as left:
            sys.stderr.write(f"code: {left.code or 0}\\n")

    attempt("run", *SHAPE)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for arguments in (["run", *SHAPE, "--name", "s"], ["run", "--resume", "r"], ["report"]):
        attempt(*arguments)
    attempt("report", "--out", REPORT)
    attempt("list", "runs")
    assert [path.name for path in results.iterdir()] == ["r"]
"""


def test_a_read_only_results_folder_can_be_reported_but_not_extended(stubbed, mounted):
    """On a read-only file system, runs and reports are refused in one line; a report can be written elsewhere."""
    report = stubbed.folder / "report"
    script = textwrap.dedent(READ_ONLY).replace("*SHAPE", f"*{[*SHAPE, *FAST]}").replace("REPORT", repr(str(report)))
    done = mounted("size=64m", script)
    assert done.returncode == 0, done.stderr
    ends = done.stderr.split("code: ")
    started, resumed, reported, _ = [text.splitlines()[-1] for text in ends[1:5]]
    assert "results' can't be written: " in started
    assert "run 'r'" in resumed or "can't be written: " in resumed
    assert "report' can't be written" in reported
    assert [text[0] for text in ends[1:]] == list("021200")
    assert (report / "index.html").exists()
    assert "bug" not in done.stderr
