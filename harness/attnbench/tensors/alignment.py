"""The alignment of tensors that a variant's kernels need on a GPU, and copies of tensors that lack it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from attnbench.plugins.variant import Variant


def needed_alignment(variant: Variant, device_type: str) -> int:
    """Return the alignment in bytes that a variant declares: its `alignment_bytes` on a GPU, and 1 on a CPU."""
    return variant.alignment_bytes if device_type == "cuda" else 1


def is_aligned(tensor: torch.Tensor, alignment_bytes: int) -> bool:
    """Return whether a tensor's first element starts at a multiple of `alignment_bytes`.

    If the elements of a row (the last axis) are contiguous, each row must also be as aligned as in a contiguous tensor.
    Otherwise a kernel that loads whole vectors must read the strides anyway.
    """
    if alignment_bytes == 1 or not tensor.numel():
        return True
    if tensor.data_ptr() % alignment_bytes:
        return False
    if tensor.stride(-1) != 1:
        return True
    size = tensor.element_size()
    of_rows = math.gcd(alignment_bytes, tensor.shape[-1] * size)
    rows = zip(tensor.shape[:-1], tensor.stride()[:-1], strict=True)
    return not any(length > 1 and stride * size % of_rows for length, stride in rows)


def aligned(tensor: torch.Tensor, alignment_bytes: int) -> torch.Tensor:
    """Return the tensor itself if it is aligned, and a contiguous copy of it otherwise.

    Gradients flow through the copy. torch allocates the memory of GPU tensors at multiples of 512 bytes.
    """
    return tensor if is_aligned(tensor, alignment_bytes) else tensor.clone(memory_format=torch.contiguous_format)


def aligned_for(variant: Variant, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the tensors, with each one that is not aligned as the variant declares replaced by a contiguous copy."""
    return tuple(aligned(tensor, needed_alignment(variant, tensor.device.type)) for tensor in tensors)
