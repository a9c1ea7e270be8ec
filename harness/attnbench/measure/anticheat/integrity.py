"""What a variant may not touch: global flags, clocks, functions and threads of the process that measures it."""

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

THREAD_SHARE = 0.01  # of a block's wall time: what idle helper threads of honest libraries stay under
ANSWERS = (reference.__name__, conformance.__name__)  # modules that hold right answers


def read_flags() -> dict[str, Any]:
    """Read torch's global flags that change what is computed, how fast, or how random."""
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
    """The state of the process before a plugin came in; make it before the plugin is imported.

    `changes()` then names what is different, in words fit for a record's reason.
    """

    def __init__(self) -> None:
        self._flags = read_flags()
        self._monkeypatches = MonkeypatchDetector()
        self._seed = torch.initial_seed()
        self._random_state = hash(random.getstate())
        self._threads = set(sys._current_frames())  # noqa: SLF001 - the only view that has raw threads too

    def changes(self, *, seeded_calls: bool = False) -> list[str]:
        """Name each flag, seed, clock or function that is not as it was; `seeded_calls` allows for dropout's."""
        now = read_flags()
        found = [f"{name} changed from {old} to {now[name]}" for name, old in self._flags.items() if now[name] != old]
        if not seeded_calls and torch.initial_seed() != self._seed:
            found.append("torch's global seed was set")
        if hash(random.getstate()) != self._random_state:
            found.append("Python's global random state was changed")
        clocks = [f"patched clock: {name}" for name in patched_clocks()]
        return [*clocks, *(f"global state: {one}" for one in found), *self._monkeypatches.replaced()]

    def thread_times(self) -> dict[str, int]:
        """Give ns of CPU time of each Python thread that came up since, by name; -1 where the system does not tell."""
        named = {thread.ident: thread for thread in threading.enumerate()}
        times = {}
        for ident in set(sys._current_frames()) - self._threads - {threading.get_ident()}:  # noqa: SLF001 - as above
            thread = named.get(ident)
            name = f"raw thread {ident}" if thread is None else thread.name
            times[name] = -1 if thread is None or thread.native_id is None else _cpu_time_ns(thread.native_id)
        return times

    def busy_threads(self, before: dict[str, int], wall_ns: float) -> list[str]:
        """Name the new Python threads that worked since `before` (of `thread_times`), `wall_ns` ago."""
        return [
            f"thread: {name!r} worked beside the timed calls; a callable must do all its work before it returns"
            for name, time in self.thread_times().items()
            if time < 0 or time - before.get(name, 0) > THREAD_SHARE * wall_ns
        ]


def harness_answers_called(ready: ReadyCall) -> list[str]:
    """Run one call under Python's profiler and name the harness's own answers that it asked for."""
    asked: set[str] = set()

    def watch(frame: FrameType, _event: str, _argument: object) -> None:
        if str(frame.f_globals.get("__name__", "")).startswith(ANSWERS):
            asked.add(f"{frame.f_globals['__name__']}.{frame.f_code.co_name}")

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        ready()
    finally:
        sys.setprofile(before)
    if not asked:
        return []
    return [f"fall-back to the reference: the callable called {min(asked)}; it must compute its answer by itself"]


def _cpu_time_ns(native_id: int) -> int:
    try:
        return int(Path(f"/proc/self/task/{native_id}/schedstat").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0
