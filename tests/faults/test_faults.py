"""Tests that a variant that crashes, hangs or otherwise misbehaves affects only its own cell, not the whole run."""

import contextlib
import os
import tempfile
from pathlib import Path

import psutil
import pytest

from attnbench.isolation.cleanup import FOLDER_PREFIX
from attnbench.measure_config import MeasureConfig
from attnbench.plan.catalog import read_catalog
from attnbench.runner.cell_limits import CellLimits
from attnbench.runner.request import Request, plan_of
from attnbench.runner.run import execute, start
from attnbench.store import read_manifest, read_run
from hanging import HANG, simulated
from waiting import LONG_S

PACK = Path(__file__).parent / "pack.py"
LENGTHS = (16, 17, 18, 19, 20)
EXPECTED = {
    ("raises-in-prepare", 16): ("error", "no kernel image"),
    ("segfault", 16): ("crash", "SIGSEGV"),
    ("abort", 16): ("crash", "SIGABRT"),
    ("exits", 16): ("crash", "exited with code 0"),
    ("loops", 16): ("timeout", "deadline"),
    ("loops-in-c", 16): ("timeout", "deadline"),
    ("raises-in-third-call", 16): ("error", "RuntimeError: third call"),
    ("raises-in-backward", 16): ("error", "RuntimeError: in backward"),
    ("raises-odd", 16): ("error", "no message: its __str__ raised"),
    ("recurses-to-death", 16): ("crash", "SIGSEGV"),
    ("allocates", 16): ("out_of_memory", "memory"),
    ("allocates-until-killed", 16): ("out_of_memory", "the worker held"),
    ("closes-descriptors", 16): ("crash", "closed its results pipe"),
    ("forges", 16): ("error", "wrote to the results pipe"),
    ("ignores-sigterm", 16): ("timeout", "deadline"),
    ("deletes-itself", 16): ("error", "changed during the run"),
    ("harmless", 16): ("ok", None),  # writes 1 GiB of output
    ("harmless", 17): ("ok", None),  # changes the working directory
    ("harmless", 18): ("ok", None),  # leaves child processes running
    ("wrong", 16): ("incorrect", "None"),
    ("wrong", 17): ("incorrect", "shape"),
    ("wrong", 18): ("incorrect", "float64"),
    ("wrong", 19): ("incorrect", "nan"),
    ("wrong", 20): ("incorrect", "meta"),
}
EVERY_LENGTH = ("naive", "deletes-itself")  # variants that are tried at every length
LIMITS = CellLimits(host_memory_bytes=3 << 29)
# The cells have so few blocks that no variant is accused because of its times, which a busy machine may disturb.
PROTOCOL = MeasureConfig(budget_s=0.02, min_samples=2, min_blocks=2, block_s=0.01, min_time_s=0.01, warm_up_max_s=0.1)

DELETER = """
from pathlib import Path
from torch.nn.functional import scaled_dot_product_attention
from attnbench import hookimpl, variant

@variant("deletes-itself")
def deletes_itself(query, key, value, workload):
    Path(__file__).unlink(missing_ok=True)
    return scaled_dot_product_attention(query, key, value)

@hookimpl
def attnbench_variants():
    return [deletes_itself]
"""


@pytest.fixture(scope="module")
def left_before():
    """Return the shared memory files and temporary folders that were left over before the run."""
    return leftovers()


@pytest.fixture(scope="module")
def run(tmp_path_factory, left_before, hanging_folder):
    """Run all faulty and faultless variants once for all tests, and return the run's folder and summary."""
    folder = tmp_path_factory.mktemp("faults")
    deleter = folder / "deleter.py"
    deleter.write_text(DELETER)
    request = Request(
        variants=["naive", *dict.fromkeys(name for name, _ in EXPECTED)],
        devices=["cpu:0"],
        plugins=[str(PACK), str(deleter)],
        axes={"heads": [2], "seq": list(LENGTHS), "head_dim": [8], "direction": ["forward_backward"]},
        protocol=PROTOCOL,
        results=folder / "results",
    )
    catalog, plan = plan_of(request)
    assert all(entry.reason is None for entry in catalog.plugins)
    path = start(request, catalog, plan)
    with simulated(hanging_folder):
        return path, execute(path, catalog, plan, limits=LIMITS)


@pytest.fixture(scope="module")
def records(run):
    """Return the run's records by variant and length, without those of the A/A control."""
    return {
        (record.variant, record.workload.seq_q): record for record in read_run(run[0]).records if not record.control
    }


def leftovers():
    """Return the paths of shared memory files that no process uses, and of this process's temporary worker folders."""
    shared = {str(path) for path in Path("/dev/shm").iterdir()}  # noqa: S108 - nothing is written to this folder
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            used = maps.read_text(errors="replace")
            shared = {name for name in shared if name not in used}
    return {*shared, *map(str, Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}{os.getpid()}-*"))}


@pytest.mark.parametrize("cell", EXPECTED, ids=lambda cell: f"{cell[0]}-{cell[1]}")
def test_a_fault_is_recorded_with_its_status_and_reason(records, cell):
    """The record of each fault has the expected status and reason, and has samples only if the status is ok."""
    status, reason = EXPECTED[cell]
    record = records[cell]
    assert record.status == status, record.reason
    assert reason is None or reason.lower() in str(record.reason).lower()
    assert bool(record.samples_ns) == (status == "ok")


def test_variants_without_faults_are_measured(records):
    """In the same run, a variant without faults has the status ok at every length."""
    assert {length: records["naive", length].reason for length in LENGTHS} == dict.fromkeys(LENGTHS)
    assert {records["naive", length].status for length in LENGTHS} == {"ok"}


def test_a_deleted_plugin_fails_in_all_further_cells(records):
    """If a plugin deletes its file, its open cell fails, and so do all further cells, in an old or a new worker."""
    for length in LENGTHS:
        record = records["deletes-itself", length]
        assert record.status == "error"
        assert "changed during the run" in record.reason or "No such file or directory" in record.reason


def test_no_record_is_lost(run, records):
    """Every cell has exactly one record, and no line of the record files is incomplete."""
    reading = read_run(run[0])
    tried = {cell for cell, record in records.items() if record.status != "unsupported"}
    assert tried == {*EXPECTED, *((name, length) for name in EVERY_LENGTH for length in LENGTHS)}
    assert len(records) == len(read_manifest(run[0])["plan"])
    assert len([record for record in reading.records if not record.control]) == len(records)
    assert not reading.torn_lines
    assert not reading.problems


def test_nothing_is_left_running(run):
    """After the run, no fork server, zombie or child of a worker is left, not even a child in a new session."""
    running = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
    assert ["/bin/sleep", "612"] not in running
    children = psutil.Process().children(recursive=True)
    assert not [child for child in children if child.status() == psutil.STATUS_ZOMBIE]
    assert not [child for child in children if "attnbench.isolation.forkserver_main" in child.cmdline()]


def test_no_file_is_left(run, left_before):
    """The run leaves no shared memory file and no temporary folder behind."""
    assert leftovers() <= left_before


def test_the_log_of_a_flood_is_limited(run, records):
    """The log of a cell contains at most the first MiB of the cell's output."""
    log = run[0] / records["harmless", 16].log
    assert log.read_bytes().startswith(b"flood ")
    assert log.stat().st_size <= 1024 * 1024


def test_a_hang_leaves_the_stack_in_the_log(run, records):
    """The log of a cell that exceeded its deadline contains a stack trace that shows where the variant hung."""
    assert "in spin" in (run[0] / records["loops", 16].log).read_text()


BARE = """
from attnbench import hookimpl, variant

@variant({name!r})
def named(query, key, value, workload):
    return query

@hookimpl
def attnbench_variants():
    return [named]
"""
UNLOADABLE = {
    "sleeps": (HANG, f"no reply within {LONG_S:g} s"),
    "raises": ("raise RuntimeError('at import')", "RuntimeError: at import"),
    "exits": ("import os; os._exit(0)", "import ended the process"),
    "up": (BARE.format(name="../../up"), "variant '../../up'"),
    "html": (BARE.format(name="<script>alert(1)</script>"), "variant '<script>alert(1)</script>'"),
    "control": (BARE.format(name="\x1b[31mred\x07"), r"variant '\x1b[31mred\x07'"),
    "unicode": (BARE.format(name="\u202e\u00e9"), r"variant '\u202e"),
}


@pytest.mark.usefixtures("simulated_deadlines")
def test_an_error_at_import_affects_its_plugin_only(tmp_path):
    """A plugin that fails at import or has a hostile variant name is listed with a reason; other plugins still load."""
    paths = {name: tmp_path / f"{name}.py" for name in UNLOADABLE}
    for name, (text, _) in UNLOADABLE.items():
        paths[name].write_text(text, encoding="utf-8")
    good = tmp_path / "good.py"
    good.write_text(BARE.format(name="good"))
    catalog = read_catalog([*map(str, paths.values()), str(good)])
    reasons = {entry.source.name: entry.reason for entry in catalog.plugins}
    for name, (_, reason) in UNLOADABLE.items():
        assert reason in reasons[name]
        assert reasons[name].isprintable()
    assert {"good", "naive"} <= set(catalog.variants)
