"""Detach CUPTI, the CUDA library that the profiler uses, from this process after a profile.

Once torch's profiler has recorded kernels, CUPTI stays attached to the process and slows down later calls (PyTorch's
issue 144455 reports 10% to 20%), unless the environment variable TEARDOWN_CUPTI is 1. In this case, the profiler
(kineto, CuptiActivityApi.cpp) starts a thread at the end of a profile, and CUPTI is finalised during the next calls of
the CUDA API, after which the thread ends.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from attnbench.device_names import device_type

Result = TypeVar("Result")

# Before this version of CUDA, finalising CUPTI could crash a process that uses CUDA graphs (PyTorch's pull request
# 146604).
FINALISES_SINCE = (12, 6)
FINALISE_S = 5.0  # CUPTI counts as attached if the thread has not ended after this time
POLL_S = 0.01
TASKS = Path("/proc/self/task")


def profile_and_detach(profile: Callable[[], Result], device: str) -> tuple[Result, bool]:
    """Call `profile`, which uses torch's profiler, and then detach CUPTI.

    Returns the result of `profile`, and whether calls on `device` are as fast as before. This is True on a CPU. On
    CUDA, it is True only if the thread that finalises CUPTI was seen to start and to end.
    """
    if device_type(device) != "cuda":
        return profile(), True
    finalises = _cuda_version() >= FINALISES_SINCE
    os.environ["TEARDOWN_CUPTI"] = "1" if finalises else "0"
    os.environ.pop("DISABLE_CUPTI_LAZY_REINIT", None)  # with this variable, CUPTI would be attached again at once
    before = _threads()
    result = profile()
    finalising = _threads() - before
    return result, finalises and bool(finalising) and _ended(finalising)


def _ended(threads: set[str]) -> bool:
    """Call the CUDA API until the threads have ended, and return whether they have ended within FINALISE_S."""
    deadline = time.monotonic() + FINALISE_S
    while time.monotonic() < deadline:
        torch.cuda.synchronize()
        if not threads & _threads():
            return True
        time.sleep(POLL_S)
    return False


def _threads() -> set[str]:
    """Return the ids of this process's threads, including those that are not Python threads."""
    return {path.name for path in TASKS.glob("*")}


def _cuda_version() -> tuple[int, ...]:
    return tuple(int(part) for part in (torch.version.cuda or "0").split(".")[:2])
