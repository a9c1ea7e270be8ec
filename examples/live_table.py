"""An observer as a plugin: append each record to a CSV file when it is stored, to be watched with `tail -f`.

`LIVE_TABLE=live.csv attnbench run -p examples/live_table.py`. An experiment tracker works in the same way: start its
run in `attnbench_run_started` and log in `attnbench_record_stored`. Observers run in a separate process, so a slow or
broken one does not affect any measurement.
"""

import csv
import os
import statistics
from pathlib import Path

from attnbench import Workload, hookimpl

COLUMNS = ("variant", "workload", "device", "status", "median_ms", "reason")


def table():
    """Return the file's path, from the environment variable LIVE_TABLE."""
    return Path(os.environ.get("LIVE_TABLE", "live.csv"))


def append(row):
    """Write one line and close the file, so that readers only see whole lines."""
    with table().open("a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerow(row)


@hookimpl
def attnbench_run_started():  # a hook may leave out the arguments that it does not need
    """Start a new table with its header."""
    table().unlink(missing_ok=True)
    append(COLUMNS)


@hookimpl
def attnbench_record_stored(record):
    """Append one record; it has times only if its result was correct."""
    samples = record["samples_ns"]
    median = f"{statistics.median(samples) / 1e6:.4f}" if samples else ""
    workload = Workload.from_json(record["workload"]).id
    append((record["variant"], workload, record["device"], record["status"], median, record["reason"] or ""))
