"""Compare the sampler's median with the mean of calls that run back to back, and exit with status 1 if they differ.

The calls run for two seconds, which shows whether short blocks run at a higher clock than sustained load. Then a
profiler is attached and closed, and the calls run once more, which shows whether the profiler makes later calls slower.
"""

import sys
import time

import torch
from agreement import compare, median_ns, prepared

LENGTH = {"cuda": 2048, "cpu": 128}
SECONDS, TOLERANCE = 2.0, 0.02
SLICES = 4  # the calls are timed in this many equal parts, to show a drift


def mean_ns(call, device, calls):
    """Make `calls` calls without waiting in between, and return the mean time of a call in ns."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    begun = time.perf_counter_ns()
    for _ in range(calls):
        call()
    wait()
    return (time.perf_counter_ns() - begun) / calls


def main(device):
    """Print the comparisons. Return 1 if the times differ by more than 2%, and 0 otherwise."""
    workload, inputs, call = prepared(LENGTH[device], device)
    ours = median_ns(call, inputs, workload, device, "hot")
    calls = max(1, int(SECONDS * 1e9 / ours / SLICES))
    parts = [mean_ns(call, device, calls) for _ in range(SLICES)]
    print(f"means of {SLICES} times {calls} calls: {', '.join(f'{part / 1e3:.2f}' for part in parts)} us")
    failed = compare("the sampler's median against back-to-back calls", ours, sum(parts) / SLICES, TOLERANCE)
    with torch.profiler.profile():
        call()
    failed |= compare("calls after a profiler against before", mean_ns(call, device, calls), parts[-1], TOLERANCE)
    return 1 if failed and device == "cuda" else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
