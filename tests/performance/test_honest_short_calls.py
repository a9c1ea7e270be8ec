"""No honest variant is accused for short calls, measured in real cells, alone and beside a busy process.

`make perf` measures CELLS cells of each kind. For more, run this file with a number and optionally `busy`:
`python tests/performance/test_honest_short_calls.py 5000 busy`.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import random
import sys
from collections import Counter
from collections.abc import Iterator
from statistics import median

import pytest
import torch

from attnbench import Workload
from attnbench.errors import MeasurementError
from attnbench.measure.anticheat.integrity import ProcessState
from attnbench.measure.sampler import Sampler
from attnbench.measure_config import MeasureConfig
from attnbench.tensors.prepared_call import prepare_call
from attnbench_variants import chunked, naive, sdpa, split_keys

CELLS = 100
REPORTED = 100  # the numbers so far are printed after so many cells
CONFIG = MeasureConfig(warm_up_min_s=0.002, warm_up_max_s=0.02)
BLOCKS, BLOCK_NS = 10, 2e6
SHORTEST_NS, LONGEST_NS = 5e3, 100e3
VARIANTS = [
    variant
    for module in (naive, sdpa, chunked, split_keys)
    for variant in module.attnbench_variants()
    if "cpu" in variant.default_on
]


class TimesOnly(ProcessState):
    """The state of the process, without the comparison after each block, which takes longer than the block."""

    def changes(self, *, seeded_calls: bool = False) -> list[str]:
        """Return no findings."""
        return []


@contextlib.contextmanager
def busy_process(wanted: bool) -> Iterator[None]:
    """Run a process that keeps one core busy, if wanted."""
    process = multiprocessing.get_context("spawn").Process(target=all, args=(itertools.repeat(True),), daemon=True)
    if wanted:
        process.start()
    try:
        yield
    finally:
        if wanted:
            process.terminate()


def drawn_workload(generator: random.Random) -> Workload:
    """Draw a workload whose calls take some microseconds on a CPU."""
    seq_k = generator.choice((8, 16, 32, 48, 64, 128, 256))
    return Workload(
        heads=generator.choice((1, 2, 4)),
        seq_q=generator.choice((1, seq_k)),
        seq_k=seq_k,
        head_dim=generator.choice((16, 32, 64)),
        mask=generator.choice(("none", "causal")),
        direction=generator.choice(("forward", "forward", "forward_backward")),
    )


def measure(cells: int, *, busy: bool, seed: int = 0) -> tuple[Counter[str], list[str]]:
    """Measure cells with calls of 5 to 100 us, and return how many were measured, and all accusations."""
    generator, state = random.Random(seed), TimesOnly()  # noqa: S311 - a seeded choice, not a secret
    seen: Counter[str] = Counter()
    accused: list[str] = []
    with busy_process(busy):
        while seen["short"] < cells:
            workload, variant = drawn_workload(generator), generator.choice(VARIANTS)
            if variant.unsupported_reason(workload.attention, "cpu") is not None:
                continue
            with state.calling(variant.calling_context()):
                torch.set_num_threads(generator.choice((1, 2)))
                inputs, call = prepare_call(variant, workload, "cpu", seen["short"])
                sampler = Sampler(call, inputs, workload, "cpu", CONFIG, process_state=state)
                try:
                    sampler.first_call()
                    if not SHORTEST_NS / 2 <= sampler.warm_up().ns_per_call <= 2 * LONGEST_NS:
                        continue
                    samples = [sample for _ in range(BLOCKS) for sample in sampler.block(BLOCK_NS).samples_ns]
                    findings = [suspicion.text for suspicion in sampler.second_look()]
                except MeasurementError as error:
                    samples, findings = [sampler._ns_per_call], [str(error)]
            seen["second looks"] += len(sampler._audit.times) > BLOCKS
            seen["further blocks"] += max(0, len(sampler._audit.times) - BLOCKS)
            seen["short" if SHORTEST_NS <= median(samples) <= LONGEST_NS else "other"] += 1
            accused += [f"{variant.name} {workload.id}: {finding}" for finding in findings]
            if sum(seen[kind] for kind in ("short", "other")) % REPORTED == 0 or findings:
                print(dict(seen), accused, flush=True)
    return seen, accused


@pytest.mark.parametrize("busy", [False, True], ids=["alone", "beside-a-busy-process"])
def test_no_honest_variant_is_accused(benchmark, busy):
    """No cell of a built-in variant with calls of 5 to 100 us is an error or suspect."""
    seen, accused = benchmark.pedantic(measure, args=(CELLS,), kwargs={"busy": busy}, rounds=1)
    benchmark.extra_info.update(seen)
    assert accused == []


if __name__ == "__main__":
    torch.manual_seed(0)
    print(*measure(int(sys.argv[1]), busy="busy" in sys.argv, seed=len(sys.argv)))
