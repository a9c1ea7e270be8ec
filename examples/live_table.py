"""An observer that appends each record to a CSV file as soon as it is stored.

To use it: `LIVE_TABLE=live.csv attnbench run -p examples/live_table.py`, and in another terminal `tail -f live.csv`. A
plugin for an experiment tracker works the same way: it starts the tracker's run in `attnbench_run_started` and logs
records to that run in `attnbench_record_stored`. Observers run in a separate process, so a slow or broken observer does
not affect any measurement.
"""

import csv
import os
import statistics
from pathlib import Path

from attnbench import Workload, hookimpl

COLUMNS = ("variant", "workload", "device", "status", "median_ms", "reason")


def table():
    """Return the path of the CSV file, which can be set with the environment variable LIVE_TABLE."""
    return Path(os.environ.get("LIVE_TABLE", "live.csv"))


def append(row):
    """Append one line and close the file, so that other programs read only complete lines."""
    with table().open("a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerow(row)


@hookimpl
def attnbench_run_started():  # hook implementations may omit arguments that they don't use
    """Replace the file with a new one that contains only the header."""
    table().unlink(missing_ok=True)
    append(COLUMNS)


@hookimpl
def attnbench_record_stored(record):
    """Append one record. A record has samples only if the result was correct, so the median may be empty."""
    samples = record["samples_ns"]
    median = f"{statistics.median(samples) / 1e6:.4f}" if samples else ""
    workload = Workload.from_json(record["workload"]).id
    append((record["variant"], workload, record["device"], record["status"], median, record["reason"] or ""))
