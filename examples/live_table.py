"""An observer as a plugin: appends each record to a CSV file as soon as it is stored, to be watched with `tail -f`.

`LIVE_TABLE=live.csv attnbench run -p examples/live_table.py`. An experiment tracker is fed in just this way: start
its run where `attnbench_run_started` is, log where `attnbench_record_stored` is. Observers run in a process of their
own, so that neither a slow nor a broken one touches a measurement.
"""

import csv
import os
import statistics
from pathlib import Path

from attnbench import Workload, hookimpl

COLUMNS = ("variant", "workload", "device", "status", "median_ms", "reason")


def table():
    """Give the file's path, asked for anew so that a test or a user may move it."""
    return Path(os.environ.get("LIVE_TABLE", "live.csv"))


def append(row):
    """Write one line and close the file, so that whoever watches sees whole lines."""
    with table().open("a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerow(row)


@hookimpl
def attnbench_run_started():  # a hook may leave out the arguments that it does not need
    """Start the table with its head."""
    table().unlink(missing_ok=True)
    append(COLUMNS)


@hookimpl
def attnbench_record_stored(record):
    """Append one record; times are there only if the answer was right."""
    samples = record["samples_ns"]
    median = f"{statistics.median(samples) / 1e6:.4f}" if samples else ""
    workload = Workload.from_json(record["workload"]).id
    append((record["variant"], workload, record["device"], record["status"], median, record["reason"] or ""))
