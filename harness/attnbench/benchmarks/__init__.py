"""The cells as pytest-benchmark sees them: `pytest --pyargs attnbench.benchmarks --variant sdpa --seq 512`.

Each cell is a test: it is skipped with the reason where the variant can't do the workload, fails where the answer is
wrong, and is timed by the `benchmark` fixture only when it is right, so that `--benchmark-autosave`,
`--benchmark-compare-fail` and `pytest-benchmark compare` work as they do elsewhere. `attnbench run` measures more
carefully: it interleaves variants, stops on an interval, and isolates each variant in a process of its own.
"""
