"""Detection of a variant that changes its process: global flags, clocks, functions, threads, calls of the reference."""

from __future__ import annotations

import gc
import os
import random
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch

from attnbench import conformance, reference
from attnbench.measure.anticheat.monkeypatch import MonkeypatchDetector
from attnbench.measure.clock import patched_clocks

if TYPE_CHECKING:
    from attnbench.measure.call import ReadyCall

THREAD_SHARE = 0.01  # of a block's wall time; the idle helper threads of ordinary libraries use less
ANSWER_MODULES = (reference.__name__, conformance.__name__)  # their functions compute right answers


def read_flags() -> dict[str, Any]:
    """Return the global flags of torch and Python that change results, speed or random numbers, by name."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    return {
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "float32 matmul precision (TF32)": torch.get_float32_matmul_precision(),
        "TF32 in cuDNN": cudnn.allow_tf32,
        "float32 precision": tuple(
            getattr(backend, "fp32_precision", None)
            for backend in (torch.backends, matmul, getattr(torch.backends.mkldnn, "matmul", None))
        ),
        "oneDNN": torch.backends.mkldnn.enabled,
        "reduced-precision reductions": (
            matmul.allow_fp16_reduced_precision_reduction,
            matmul.allow_bf16_reduced_precision_reduction,
        ),
        "cuDNN": (cudnn.enabled, cudnn.benchmark, cudnn.deterministic),
        "SDPA backends": (
            torch._C._get_flash_sdp_enabled(),  # noqa: SLF001 - the public getters are untyped
            torch._C._get_mem_efficient_sdp_enabled(),  # noqa: SLF001 - the public getters are untyped
            torch._C._get_math_sdp_enabled(),  # noqa: SLF001 - the public getters are untyped
            torch._C._get_cudnn_sdp_enabled(),  # noqa: SLF001 - the public getters are untyped
        ),
        "number of threads": torch.get_num_threads(),
        "flush denormal": _flushes_denormals(),
        "thread switch interval": sys.getswitchinterval(),
        "garbage collector": (gc.isenabled(), gc.get_threshold()),
        "priority": os.getpriority(os.PRIO_PROCESS, 0) if hasattr(os, "getpriority") else None,
    }


def _flushes_denormals() -> bool:
    return bool((torch.tensor([1e-310], dtype=torch.float64) * 0.5 == 0).item())


class ProcessState:
    """The state of the process at construction, which must come before the plugin is imported.

    `changes()` then returns what is different, in words for the reason in a record.
    """

    def __init__(self) -> None:
        self._flags = read_flags()
        self._monkeypatches = MonkeypatchDetector()
        self._seed = torch.initial_seed()
        self._random_state = hash(random.getstate())
        self._threads = set(sys._current_frames())  # noqa: SLF001 - no public function lists raw threads

    def changes(self, *, seeded_calls: bool = False) -> list[str]:
        """Return a finding for each changed flag, seed, clock or function.

        `seeded_calls` permits a change of torch's global seed, which dropout needs.
        """
        now = read_flags()
        found = [f"{name} changed from {old} to {now[name]}" for name, old in self._flags.items() if now[name] != old]
        if not seeded_calls and torch.initial_seed() != self._seed:
            found.append("torch's global seed was set")
        if hash(random.getstate()) != self._random_state:
            found.append("Python's global random state was changed")
        clocks = [f"patched clock: {name}" for name in patched_clocks()]
        return [*clocks, *(f"global state: {change}" for change in found), *self._monkeypatches.replaced()]

    def thread_times(self) -> dict[str, int]:
        """Return the CPU time in ns of each Python thread started since construction, by name; -1 if unknown."""
        named = {thread.ident: thread for thread in threading.enumerate()}
        times = {}
        for ident in set(sys._current_frames()) - self._threads - {threading.get_ident()}:  # noqa: SLF001 - as above
            thread = named.get(ident)
            name = f"raw thread {ident}" if thread is None else thread.name
            times[name] = -1 if thread is None or thread.native_id is None else _cpu_time_ns(thread.native_id)
        return times

    def busy_threads(self, before: dict[str, int], wall_ns: float) -> list[str]:
        """Return a finding for each new thread that worked during a block.

        `before` is what `thread_times` returned at the start of the block, `wall_ns` ago.
        """
        return [
            f"thread: {name!r} worked beside the timed calls; a callable must do all its work before it returns"
            for name, time in self.thread_times().items()
            if time < 0 or time - before.get(name, 0) > THREAD_SHARE * wall_ns
        ]


def harness_answers_called(ready_call: ReadyCall) -> list[str]:
    """Run one call under Python's profiler; return a finding if it calls the reference or the conformance suite."""
    called: set[str] = set()

    def watch(frame: FrameType, _event: str, _argument: object) -> None:
        if str(frame.f_globals.get("__name__", "")).startswith(ANSWER_MODULES):
            called.add(f"{frame.f_globals['__name__']}.{frame.f_code.co_name}")

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        ready_call()
    finally:
        sys.setprofile(before)
    if not called:
        return []
    return [f"fall-back to the reference: the callable called {min(called)}; it must compute the answer itself"]


def _cpu_time_ns(native_id: int) -> int:
    try:
        return int(Path(f"/proc/self/task/{native_id}/schedstat").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0
