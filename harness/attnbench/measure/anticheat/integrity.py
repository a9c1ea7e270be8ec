"""Detect implausible times, and variants that tamper with their process (flags, clocks, threads)."""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import threading
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from statistics import median
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch

from attnbench import conformance, reference
from attnbench.conformance.plain_tensor import active_modes
from attnbench.measure.anticheat.monkeypatch import MonkeypatchDetector
from attnbench.measure.clock import patched_clocks
from attnbench.messages import CLOCK_TOLERANCE, Suspicion

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from attnbench.measure.call import ReadyCall
    from attnbench.measure.sampler import WarmUp


# A thread counts as busy if its CPU time exceeds this share of a block's wall time. Idle helper threads of common
# libraries use less.
THREAD_SHARE = 0.01
# Modules with functions that compute correct answers. A variant must not call these functions.
ANSWER_MODULES = (reference.__name__, conformance.__name__)
TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
PINNED_FLAG = "SDPA backends"  # the only flag that a variant's calling_context may change


def read_flags() -> dict[str, Any]:
    """Return the global flags of torch and Python that affect results or speed, keyed by name."""
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
        PINNED_FLAG: (
            torch._C._get_flash_sdp_enabled(),  # noqa: SLF001 - the public getters are untyped
            torch._C._get_mem_efficient_sdp_enabled(),  # noqa: SLF001 - the public getters are untyped
            torch._C._get_math_sdp_enabled(),  # noqa: SLF001 - the public getters are untyped
            torch._C._get_cudnn_sdp_enabled(),  # noqa: SLF001 - the public getters are untyped
        ),
        "number of threads": torch.get_num_threads(),
        "flush denormal": _flushes_denormals(),
        "number of active modes of torch": active_modes(),
        "profile and trace functions": (sys.getprofile(), sys.gettrace()),
        "running interval timers": [timer for timer in TIMERS if any(signal.getitimer(timer))],
        "thread switch interval": sys.getswitchinterval(),
        "garbage collector": (gc.isenabled(), gc.get_threshold()),
        "priority": os.getpriority(os.PRIO_PROCESS, 0) if hasattr(os, "getpriority") else None,
    }


def _flushes_denormals() -> bool:
    return bool((torch.tensor([1e-310], dtype=torch.float64) * 0.5 == 0).item())


class ProcessState:
    """A snapshot of the process's state, taken at construction.

    Create this object before a plugin is imported. Later, `changes()` describes each difference from the snapshot.
    """

    def __init__(self) -> None:
        self._flags = read_flags()
        self._monkeypatches = MonkeypatchDetector()
        self._seed = torch.initial_seed()
        self._random_state = hash(random.getstate())
        self._threads = set(sys._current_frames())  # noqa: SLF001 - no public function lists raw threads

    def changes(self, *, seeded_calls: bool = False) -> list[str]:
        """Return a finding for each changed flag, seed, clock or function.

        If `seeded_calls` is true, torch's global seed may change, because calls with dropout set it.
        """
        now = read_flags()
        found = [f"{name} changed from {old} to {now[name]}" for name, old in self._flags.items() if now[name] != old]
        if not seeded_calls and torch.initial_seed() != self._seed:
            found.append("torch's global seed was set")
        if hash(random.getstate()) != self._random_state:
            found.append("Python's global random state was changed")
        clocks = [f"patched clock: {name}" for name in patched_clocks()]
        return [*clocks, *(f"global state: {change}" for change in found), *self._monkeypatches.replaced()]

    @contextmanager
    def calling(self, calling_context: AbstractContextManager[Any]) -> Iterator[None]:
        """Enter a variant's calling context, and accept its choice of SDPA backends as unchanged until it is left."""
        before = self._flags
        with calling_context:
            self._flags = before | {PINNED_FLAG: read_flags()[PINNED_FLAG]}
            try:
                yield
            finally:
                self._flags = before

    def thread_times(self) -> dict[str, int]:
        """Return the CPU time in ns of each Python thread started since construction, keyed by the thread's name.

        The time is -1 if the thread has no known native ID, for example because it was started without `threading`.
        """
        named = {thread.ident: thread for thread in threading.enumerate()}
        times = {}
        for ident in set(sys._current_frames()) - self._threads - {threading.get_ident()}:  # noqa: SLF001 - no public function lists raw threads
            thread = named.get(ident)
            name = f"raw thread {ident}" if thread is None else thread.name
            times[name] = -1 if thread is None or thread.native_id is None else _cpu_time_ns(thread.native_id)
        return times

    def busy_threads(self, before: dict[str, int], wall_ns: float) -> list[str]:
        """Return a finding for each thread that was started since construction and worked during a block.

        `before` is the result of `thread_times` at the start of the block, and `wall_ns` is the duration of the block.
        """
        return [
            f"thread: {name!r} worked while calls were timed; a callable must do all its work before it returns"
            for name, time in self.thread_times().items()
            if time < 0 or time - before.get(name, 0) > THREAD_SHARE * wall_ns
        ]


def harness_answers_called(ready_call: ReadyCall) -> list[str]:
    """Run one call under Python's profiler, and return a finding if it uses the reference or the conformance suite."""
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


SIDE_STREAM_GAP = 0.10  # work on a side stream is suspected if wall time exceeds event time by more than this share
SLOW_WARM_UP_RATIO = 2.0  # a warm-up is suspicious if its calls take more than this many times as long as timed calls
SLEEPING_CPU_SHARE = 0.25  # a warm-up is assumed to have slept if its share of CPU time is less than this


def patched_clock(wall_ns: float, shortest_ns: float, longest_ns: float) -> str | None:
    """Return a finding if the block's wall time lies outside the bounds measured by the system's monotonic clock."""
    if shortest_ns * (1 - CLOCK_TOLERANCE) <= wall_ns <= longest_ns * (1 + CLOCK_TOLERANCE):
        return None
    return (
        f"patched clock: the block took {wall_ns / 1e6:.3f} ms by the sampler's clock, but "
        f"{shortest_ns / 1e6:.3f} to {longest_ns / 1e6:.3f} ms by the system's clock"
    )


def slow_warm_up(warm_up: WarmUp, samples: Sequence[float]) -> str | None:
    """Return a finding if calls slept during the warm-up and were far faster when timed.

    The warm-up times determine how many calls are made later, so slow warm-up calls would reduce the number of samples.
    A warm-up is not judged if the kernel does not count how long threads waited for a core, because on a busy machine
    waiting would look like sleep.
    """
    if warm_up.cpu_share is None or warm_up.cpu_share >= SLEEPING_CPU_SHARE:
        return None
    if median(samples) * SLOW_WARM_UP_RATIO >= warm_up.ns_per_call:
        return None
    return (
        f"slow warm-up: calls took {warm_up.ns_per_call / 1e3:.1f} us while warming up, but "
        f"{median(samples) / 1e3:.1f} us when timed; a callable must not sleep"
    )


def side_stream(device_ns: float, synchronised_ns: float, launch_floor_ns: float, waited_ns: float) -> Suspicion | None:
    """Return a suspicion if a call took much longer by wall time than by events on the current stream.

    `synchronised_ns` is the wall time of the call, including the wait until all devices are synchronised. `waited_ns`
    is the longest time for which threads may have waited for a core meanwhile, which prolongs the wall time only.
    """
    if synchronised_ns - device_ns <= launch_floor_ns + waited_ns + SIDE_STREAM_GAP * device_ns:
        return None
    finding = (
        f"a call took {device_ns / 1e3:.1f} us by device events, but {synchronised_ns / 1e3:.1f} us of wall time until "
        f"all devices were synchronised, of which launching explains {launch_floor_ns / 1e3:.1f} us, and waiting for a "
        f"core at most {waited_ns / 1e3:.1f} us"
    )
    return Suspicion("side_stream", finding)
