"""Cells as pytest-benchmark tests, which run in a separate pytest process.

For example, `pytest --pyargs attnbench.benchmarks --variant sdpa --seq 512` times one variant at one sequence length.

Each cell is one test. If the variant does not support the workload, the test is skipped with the reason. If the result
is wrong, the test fails. Otherwise the `benchmark` fixture times the cell, so `--benchmark-autosave`,
`--benchmark-compare-fail` and `pytest-benchmark compare` work as usual. `attnbench run` measures more carefully: it
interleaves the variants, samples until a given precision is reached, and runs each variant in a separate process.
"""
