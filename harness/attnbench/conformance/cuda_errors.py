"""CUDA errors, after which a process can no longer rely on its GPU.

After most CUDA errors, such as an illegal address, every further call of CUDA in the process fails with the same error.
A kernel's error is reported by a later call, often one that waits for the GPU. This module does not import torch, so
that a process that does not use torch need not load it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from attnbench.errors import CUDA_ERROR_TEXTS, describe

REPORTED_LATE = (
    "CUDA reports the error of a kernel at a later call, so an earlier call may have caused it, and the process can no "
    "longer rely on the GPU"
)


def cuda_error(error: BaseException) -> str | None:
    """Return the CUDA error that caused an exception, or None if there was none.

    If torch's allocator found too little memory, that is not a CUDA error: the process can continue.
    """
    return next((describe(cause) for cause in _causes(error) if _is_cuda_error(cause)), None)


def gpu_failure() -> str | None:
    """Return the error with which CUDA refuses to work on in this process, or None if it works or was never used.

    Waits for all work on the current GPU, so that errors of kernels that are still running are found, too.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    try:
        torch.cuda.synchronize()
    except Exception as error:  # noqa: BLE001 - any exception means that the GPU can't be used
        return describe(error)
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and the exceptions that caused it or were handled when it was raised."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _is_cuda_error(error: BaseException) -> bool:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return False
    if torch is not None and isinstance(error, getattr(torch, "AcceleratorError", ())):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in CUDA_ERROR_TEXTS)
