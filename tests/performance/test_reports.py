"""A report of many cells is written within a time limit, and its page is small enough to share."""

import os
import subprocess
import sys
import time

import pytest

import synthetic

SEQS = (128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 32768)
AXES = {"masks": ("none", "causal"), "directions": ("forward", "forward_backward"), "dtypes": ("float16", "bfloat16")}
VARIANTS = tuple(f"variant-{number:02}" for number in range(12))
MACHINES = {"h200": synthetic.H200, "a100": synthetic.A100}
PAGE_BYTES = 3_000_000


def write_runs(folder, cells, **axes):
    """Write runs from two machines with at least `cells` cells in total. Return the runs and the exact cell count."""
    workloads = synthetic.workloads(seqs=SEQS, **{**AXES, **axes})
    variants = (*synthetic.DEFAULT_VARIANTS, *VARIANTS)[: -(-cells // (len(MACHINES) * len(workloads)))]
    runs = [
        synthetic.make_run(folder, name=name, variants=variants, cells=workloads, machine=machine, rounds=10)
        for name, machine in MACHINES.items()
    ]
    return runs, len(MACHINES) * len(workloads) * len(variants)


@pytest.mark.parametrize(
    ("cells", "batches", "max_s"), [(5_000, range(1, 3), 30.0), (100_000, range(1, 41), 300.0)], ids=["5000", "100000"]
)
def test_a_report_is_written_in_time(tmp_path, benchmark, cells, batches, max_s):
    """On two cores, a report takes at most 30 s and 3 MB for 5,000 cells, and at most 5 minutes for 100,000 cells."""
    runs, count = write_runs(tmp_path, cells, batches=batches)
    assert count >= cells
    command = [sys.executable, "-m", "attnbench", "report", *map(str, runs), "--out", str(tmp_path / "report")]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def report():
        began = time.perf_counter()
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began

    seconds = benchmark.pedantic(report)
    page = (tmp_path / "report" / "index.html").stat().st_size
    print(f"\n{count} cells: {seconds:.1f} s, a page of {page / 1e6:.2f} MB")
    benchmark.extra_info.update(cells=count, seconds=seconds, page_bytes=page)
    assert seconds <= max_s
    assert page <= PAGE_BYTES or cells > 5_000
