"""One call under torch's profiler, as a list of events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.profiler import profile

MEMORY = "[memory]"


@dataclass(frozen=True)
class ProfiledEvent:
    """One event of a profile: an operator, a device kernel, or an allocation (`name` is then `[memory]`).

    `bytes` is the size of an allocation, negative when memory is freed.
    """

    name: str
    start_ns: int
    device: str  # "cpu" or "cuda"
    bytes: int = 0


def profiled(action: Callable[[], Any], *, device: str, memory: bool = False) -> tuple[Any, list[ProfiledEvent]]:
    """Run `action` once under torch's profiler; return its result and the events in order of time.

    This uses the profiler on which `torch.profiler.profile` is built, because importing the latter also imports
    torch's compiler, which takes seconds.
    """
    on_cuda = device.startswith("cuda")
    with profile(use_device="cuda" if on_cuda else None, profile_memory=memory) as profiler:
        result = action()
        if on_cuda:
            torch.cuda.synchronize()
    recorded = profiler.kineto_results.events()
    events = [
        ProfiledEvent(
            event.name(),
            event.start_ns(),
            "cuda" if event.device_type() == torch._C._autograd.DeviceType.CUDA else "cpu",  # noqa: SLF001
            event.nbytes() if event.name() == MEMORY else 0,
        )
        for event in recorded
    ]
    return result, sorted(events, key=lambda event: event.start_ns)
