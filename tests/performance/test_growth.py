"""A million records load in less than a minute with less than 4 GB of memory."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time

import psutil
import pytest

import synthetic

RECORDS_PER_RUN = 1_000
TEMPLATES = 10
MAX_S, MAX_GB = 60.0, 4.0
POLL_S = 0.02
CELLS = synthetic.workloads(batches=(1, 2, 4, 8), seqs=(128, 192, 256, 384, 512, 1024, 2048))[:112]
LOADING = """
import json, sys, time
from attnbench.analysis import load
started = time.perf_counter()
frame = load(sys.argv[1])
print(json.dumps({"rows": len(frame), "seconds": time.perf_counter() - started}))
"""


@pytest.fixture(scope="module")
def templates(tmp_path_factory):
    """Write runs of about a thousand records each, with different sample counts, and return their folders."""
    folder = tmp_path_factory.mktemp("templates")
    return [
        synthetic.make_run(folder, name=f"t{seed}", cells=CELLS, seed=seed, rounds=6 + seed)
        for seed in range(TEMPLATES)
    ]


@pytest.fixture
def runs(templates, tmp_path):
    """Yield a function that copies the templates until the given number of records exists.

    The copies are removed after the test.
    """

    def make(records):
        for number in range(records // RECORDS_PER_RUN):
            template = templates[number % TEMPLATES]
            run = tmp_path / "results" / f"r{number:04}"
            run.mkdir(parents=True)
            name = template.name.encode()
            manifest = (template / "manifest.json").read_bytes()
            (run / "manifest.json").write_bytes(manifest.replace(b'"%s"' % name, b'"%s"' % run.name.encode()))
            lines = next(template.glob("records-*.jsonl")).read_bytes().splitlines(keepends=True)
            renamed = [
                line.replace(b'"run_id":"%s"' % name, b'"run_id":"%s"' % run.name.encode()).replace(
                    b'{"record_id":"', b'{"record_id":"%04d' % number
                )
                for line in lines
            ]
            renamed = [renamed[index % len(renamed)] for index in range(RECORDS_PER_RUN)]
            (run / "records-cpu-0.jsonl").write_bytes(b"".join(renamed))
        return tmp_path / "results"

    yield make
    shutil.rmtree(tmp_path / "results", ignore_errors=True)


def peak_bytes(process):
    """Poll a process until it exits, and return how much memory it and its descendants used at peak."""
    peak = 0
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(process.pid)
            family = [parent, *parent.children(recursive=True)]
            peak = max(peak, sum(member.memory_info().rss for member in family))
        time.sleep(POLL_S)
    return peak


@pytest.mark.parametrize("records", [10_000, 100_000, 1_000_000])
def test_records_load_in_time_and_memory(runs, tmp_path, benchmark, records):
    """On two cores, up to a million records load within 60 s and 4 GB, from the record files and from the cache."""
    results = runs(records)
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def load():
        command = [sys.executable, "-c", LOADING, str(results)]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            peak = peak_bytes(process)
            return json.loads(process.stdout.read()) | {"gb": peak / 1e9}

    first = load()
    again = benchmark.pedantic(load)
    size = sum(path.stat().st_size for path in results.rglob("*.jsonl")) / 2**20
    for label, loaded in (("new", first), ("cached", again)):
        print(
            f"\n{records} records ({size:.0f} MiB), {label}: {loaded['seconds']:.1f} s, "
            f"{1e6 * loaded['seconds'] / records:.0f} us per record, {loaded['gb']:.2f} GB"
        )
        assert loaded["rows"] == records
        assert loaded["gb"] <= MAX_GB
        assert loaded["seconds"] <= MAX_S
    benchmark.extra_info.update(new=first, cached=again)
