"""Cells as tests of pytest-benchmark: `pytest --pyargs attnbench.benchmarks --variant sdpa --seq 512`.

Each cell is one test. It is skipped with the reason if the variant does not support the workload, fails if the answer
is wrong, and is timed by the `benchmark` fixture if the answer is right, so `--benchmark-autosave`,
`--benchmark-compare-fail` and `pytest-benchmark compare` work as usual. `attnbench run` measures more carefully: it
interleaves variants, stops at a given precision, and runs each variant in a separate process.
"""
