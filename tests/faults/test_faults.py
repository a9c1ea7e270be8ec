"""Whatever a variant does costs its own cell and nothing else."""

from pathlib import Path

import psutil
import pytest

from attnbench.measure.protocol import Protocol
from attnbench.runner.execute import Request, execute, plan_of, start
from attnbench.store import read_run

PACK = Path(__file__).parent / "pack.py"
EXPECTED = {
    "raises-in-prepare": ("error", "no kernel image"),
    "segfault": ("crash", "SIGSEGV"),
    "abort": ("crash", "SIGABRT"),
    "exits": ("crash", "exited with code 0"),
    "exits-politely": ("error", "SystemExit"),
    "loops": ("timeout", "deadline"),
    "loops-in-c": ("timeout", "deadline"),
    "raises-in-third-call": ("error", "RuntimeError: third call"),
    "raises-odd": ("error", "its text can't be had"),
    "raises-base": ("error", "KeyboardInterrupt"),
    "recurses": ("error", "RecursionError"),
    "allocates": ("out_of_memory", "memory"),
    "forks": ("crash", "SIGABRT"),
    "closes-descriptors": ("crash", "closed its results pipe"),
    "floods": ("ok", None),
    "forges": ("error", "wrote to the results pipe"),
    "ignores-sigterm": ("timeout", "deadline"),
    "changes-folder": ("ok", None),
    "deletes-itself": ("ok", None),
    "returns-none": ("incorrect", "None"),
    "wrong-shape": ("incorrect", "shape"),
    "wrong-dtype": ("incorrect", "float64"),
    "nan": ("incorrect", "nan"),
    "leaves-a-thread": ("error", "thread"),
}

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
def run(tmp_path_factory):
    """Run the pack beside an honest variant, once for all tests."""
    folder = tmp_path_factory.mktemp("faults")
    deleter = folder / "deleter.py"
    deleter.write_text(DELETER)
    request = Request(
        variants=["naive", *EXPECTED],
        devices=["cpu:0"],
        plugins=[str(PACK), str(deleter)],
        axes={"heads": [2], "seq": [16], "head_dim": [8]},
        protocol=Protocol(budget_s=0.2, min_blocks=2, block_s=0.01, min_time_s=0.01, warm_up_max_s=0.2),
        results=folder / "results",
    )
    catalog, plan = plan_of(request)
    assert all(entry.reason is None for entry in catalog.plugins)
    path = start(request, catalog, plan)
    return path, execute(path, catalog, plan, timeout_s=10.0)


@pytest.fixture(scope="module")
def records(run):
    """Give the run's records by variant, the A/A control left out."""
    return {record.variant: record for record in read_run(run[0]).records if not record.control}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_fault_is_recorded_as_what_it_is(records, name):
    """Each fault's record has the status and a reason that name it, and a time only if it is ok."""
    status, reason = EXPECTED[name]
    record = records[name]
    assert record.status == status, record.reason
    assert reason is None or reason.lower() in str(record.reason).lower()
    assert bool(record.samples_ns) == (status == "ok")


def test_the_honest_neighbour_is_measured(records):
    """The variant that shares the run with all faults is ok."""
    assert records["naive"].status == "ok"


def test_nothing_is_lost(run, records):
    """Every cell has exactly one record, and no line is torn."""
    reading = read_run(run[0])
    assert sorted(records) == sorted(["naive", *EXPECTED])
    assert len([record for record in reading.records if not record.control]) == len(records)
    assert not reading.torn_lines
    assert not reading.problems


def test_nothing_is_left_running(run):
    """No child of a worker outlives the run."""
    running = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
    assert ["/bin/sleep", "612"] not in running
    assert not [child for child in psutil.Process().children(recursive=True) if "attnbench.worker" in child.cmdline()]


def test_a_flood_is_kept_within_bounds(run, records):
    """A cell's log holds the beginning of its output, a mebibyte at most."""
    log = run[0] / records["floods"].log
    assert log.read_bytes().startswith(b"flood ")
    assert log.stat().st_size <= 1024 * 1024


def test_a_hang_leaves_the_stack_in_the_log(run, records):
    """A cell that was ended by its deadline has every thread's stack in its log."""
    assert "in spin" in (run[0] / records["loops"].log).read_text()
