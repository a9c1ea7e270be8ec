"""Cells as tests for pytest-benchmark: `pytest --pyargs attnbench.benchmarks --variant sdpa --seq 512`.

Each cell is one test. The test is skipped with the reason if the variant does not support the workload, and it fails if
the result is wrong. Otherwise the `benchmark` fixture times the cell, so `--benchmark-autosave`,
`--benchmark-compare-fail` and `pytest-benchmark compare` work as usual. `attnbench run` measures more carefully: it
interleaves the variants, samples until a given precision is reached, and runs each variant in a separate process.
"""
