"""A disk that becomes full ends a run with one line; what was stored stays, and the run can be resumed."""

import errno
import itertools
import os
import sys
import textwrap

from attnbench import store
from attnbench.cli import main
from attnbench.runner.resume import resumed
from attnbench.runner.run import execute

SHAPE = ["-v", "alpha,beta", "-d", "cpu:0", "--heads", "2", "--head-dim", "8", "--seq", "16,24"]
FAST = ["--budget", "0.001", "--precision", "50%", "--name", "r"]
MOST_OPERATIONS = 100
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def full_from(operation, folder):
    """Let each operation that needs space below `folder` fail in this process, from the given operation on.

    The operations are: opening a file for writing, creating a folder, renaming a file, and adding a record.
    """
    count = itertools.count()

    def fail_if_full():
        if next(count) >= operation:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def audit(event, arguments):
        writes = event in ("os.mkdir", "os.rename") or (event == "open" and (arguments[2] or 0) & WRITING)
        if writes and str(arguments[0]).startswith(str(folder)):
            fail_if_full()

    def write(descriptor, data):
        fail_if_full()
        return os.write(descriptor, data)

    sys.addaudithook(audit)
    store._write = write


def run_in_child(results, full_at=None):
    """Run `attnbench run` in a forked process whose disk is full from an operation on, and return its exit code.

    Returns the exit code and the text that the process has written to standard error.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.dup2(writing, 2)
            sys.stderr = os.fdopen(2, "w", buffering=1)
            if full_at is not None:
                full_from(full_at, results)
            sys.argv = ["attnbench", "run", *SHAPE, *FAST, "--results", str(results)]
            main()
        except SystemExit as left:
            code = left.code or 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as file:
        output = file.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), output


def test_a_disk_that_is_full_at_any_moment_costs_no_record(stubbed):
    """For each operation that needs space: if it and all later ones fail, one line says so, and resuming works.

    If the run could not start, no folder of it is left.
    """
    outcomes = []
    for operation in range(MOST_OPERATIONS):
        results = stubbed.folder / f"results-{operation}"
        code, output = run_in_child(results, operation)
        if code == 0:
            break
        run = results / "r"
        outcomes.append(check_after_full_disk(run, code, output))
    assert code == 0
    assert set(outcomes) == {"not started", "resumed"}


def check_after_full_disk(run, code, output):
    """Check what a run left behind that was ended by a full disk, resume it, and return what could be done."""
    last = output.splitlines()[-1]
    assert code in (1, 2)
    assert "No space left on device" in last
    assert "bug" not in output
    assert "Traceback" not in output
    if not run.exists():
        return "not started"
    assert f"continue with: attnbench run --resume {run}" in last
    reading = store.read_run(run)
    assert (reading.torn_lines, reading.problems) == (0, [])
    stored = {record.record_id for record in reading.records}
    execute(run, *resumed(run))
    assert store.statuses(run) == {"ok": 4}
    assert stored <= {record.record_id for record in store.read_run(run).records}
    return "resumed"


FILLED = """
    import os, shutil, sys
    from pathlib import Path
    import stub_run
    from attnbench import store
    from attnbench.cli import main
    from attnbench.isolation import worker_process
    from attnbench.machine import doctor

    worker_process.ENTRY, worker_process.PRELOADED = stub_run.WORKER, stub_run.PRELOADED
    doctor.LOAD_SECONDS = 0.01
    store.SPARE_BYTES = store.BYTES_PER_RECORD = 0  # otherwise, a run on such a small disk would be refused
    folder = Path(sys.argv[1])
    results, filler, run = folder / "results", folder / "filler", folder / "results" / "r"

    def attempt(*arguments):
        sys.argv = ["attnbench", "run", *arguments, "--results", str(results)]
        try:
            main()
        except SystemExit as left:
            return left.code or 0

    code, pages = 1, 0
    while code != 0:
        pages += 1
        filler.write_bytes(bytes(os.statvfs(folder).f_bsize * (os.statvfs(folder).f_bavail - pages)))
        code = attempt(*SHAPE)
        filler.unlink()
        if code == 0:
            print("outcome: complete")
        elif not run.exists():
            print("outcome: not started")
        else:
            reading = store.read_run(run)
            assert (reading.torn_lines, reading.problems) == (0, [])
            assert attempt("--resume", "r") == 0
            print("outcome: resumed")
        assert not run.exists() or store.statuses(run) == {"ok": 4}
        shutil.rmtree(results, ignore_errors=True)
"""


def test_a_small_file_system_that_fills_up_costs_no_record(stubbed, mounted):
    """On a real file system with room for a few pages, a run ends with one line, and can be resumed with more room."""
    done = mounted("size=256k", textwrap.dedent(FILLED).replace("*SHAPE", f"*{[*SHAPE, *FAST]}"))
    assert done.returncode == 0, done.stderr
    outcomes = [line for line in done.stdout.splitlines() if line.startswith("outcome: ")]
    assert {line.partition(": ")[2] for line in outcomes} == {"not started", "resumed", "complete"}
    assert "No space left on device" in done.stderr
    assert "bug" not in done.stderr
    assert "Traceback" not in done.stderr
