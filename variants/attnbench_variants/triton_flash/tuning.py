"""The choice of the fastest configuration of a kernel for a workload, which is made once and remembered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import triton
from triton import knobs
from triton.errors import TritonError
from triton.testing import do_bench

from attnbench_variants.triton_flash.configurations import Gpu, Options, Shape, configurations

MAX_TUNED_ROWS = 131_072  # tuning computes at most this many rows, so that it ends soon for very long sequences too
MAX_REMEMBERED = 512  # the number of workloads whose configurations are remembered
LONG_MILLISECONDS = 50.0  # a launch that takes longer is timed only once


@dataclass(slots=True)
class Launch:
    """Everything that a launch of a kernel needs, except its configuration.

    - `tile`: BLOCK_M or BLOCK_N, the constant that holds the number of rows or keys of one program
    - `length`: the number of query rows or keys in a sequence
    - `heads`: the number of heads in all sequences; each has its own programs
    - `sums`: the tensor of zeros to which the kernel adds, or None if it only writes
    """

    name: str
    kernel: Any
    tile: str
    length: int
    heads: int
    arguments: tuple[Any, ...]
    constants: dict[str, int | bool]
    sums: torch.Tensor | None = None

    def run(self, options: Options, share: float = 1.0) -> Any:
        """Launch the programs, or the first `share` of them, and return the compiled kernel."""
        programs = -(-self.length // options[self.tile]) * self.heads
        if options.get("AHEAD"):
            triton.set_allocator(_allocate)  # Triton forgets the allocator in other threads, and autograd has some
        return self.kernel[(max(1, round(programs * share)),)](*self.arguments, **self.constants, **options)


@lru_cache(maxsize=MAX_REMEMBERED)
def remembered(*properties: Any) -> dict[str, Options]:  # noqa: ARG001 - the cache reads them
    """Return the chosen options of each kernel for a workload with these properties: at first none.

    The properties must include everything that a kernel's time may depend on, so that the choice for one workload does
    not depend on the workloads that were tuned earlier.
    """
    return {}


def launch(chosen: dict[str, Options], shape: Shape, work: Launch) -> None:
    """Launch a kernel with the options in `chosen`. The first launch for a workload makes the choice."""
    if work.name not in chosen:
        chosen[work.name] = _choose(shape, work)
        if work.sums is not None:
            work.sums.zero_()  # because the launches that made the choice have added to it
    work.run(chosen[work.name])


def _choose(shape: Shape, work: Launch) -> Options:
    """Return the options of the fastest configuration. In Triton's interpreter, nothing is timed.

    A configuration that does not compile is skipped, and one whose registers spill is not timed, unless all do.
    """
    if knobs.runtime.interpret:
        return _interpreted(shape, work.name)
    offered = [each.options(work.name) for each in configurations(work.name, shape, _gpu())]
    if len(offered) == 1:
        return offered[0]
    share = min(1.0, MAX_TUNED_ROWS / (work.length * work.heads))
    compiled, failure = [], None
    for options in offered:
        try:
            compiled.append((bool(work.run(options, share).n_spills), options))
        except TritonError as error:
            failure = error
    if not compiled:
        raise failure or RuntimeError(f"{work.name} has no configuration for {shape}")
    spilling = min(spills for spills, _ in compiled)
    best, best_time = compiled[0][1], float("inf")
    for spills, options in compiled:
        if spills == spilling and (time := _milliseconds(lambda options=options: work.run(options, share))) < best_time:
            best, best_time = options, time
    return best


def _interpreted(shape: Shape, kernel: str) -> Options:
    """Return options for Triton's interpreter, whose tiles are so short that even short sequences have several."""
    options = {"BLOCK_M": 64, "BLOCK_N": 32}
    return {**options, "AHEAD": shape.may_run_ahead} if kernel == "forward" else options


def _milliseconds(run: Callable[[], Any]) -> float:
    """Return how long a launch takes on the current CUDA device: the median of at least 25 ms of launches."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    end.synchronize()
    once = float(start.elapsed_time(end))
    return once if once > LONG_MILLISECONDS else float(do_bench(run, warmup=5, rep=25, return_mode="median"))


def _gpu() -> Gpu:
    """Return the properties of the current CUDA device on which the choice of configurations depends."""
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return Gpu((properties.major, properties.minor), properties.shared_memory_per_block_optin)


def _allocate(size: int, _alignment: int, _stream: int | None) -> torch.Tensor:
    """Return the memory in which a kernel builds its tensor descriptors.

    Kernels are launched on torch's current stream, and torch aligns its memory to 512 bytes, which is enough.
    """
    return torch.empty(size, device="cuda", dtype=torch.int8)
