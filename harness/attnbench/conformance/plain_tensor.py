"""Require that a result is a plain tensor, whose values lie in its memory and need no work when they are read."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

# These methods are taken before any plugin is imported, and are called without looking them up on a tensor.
_data_ptr = torch.Tensor.data_ptr
_read = ctypes.string_at
WORDS = 16  # this many elements, spread evenly over a tensor, are read from memory


def lazy_tensor_problem(tensor: torch.Tensor) -> str | None:
    """Describe why reading a tensor may run code that delivers its values, or return None if it can't.

    A subclass, attributes that replace the methods of a single tensor, and torch's modes intercept whatever is done
    with a tensor. Without them, torch's operators read the tensor's memory. Attributes with other names are allowed,
    because libraries store notes in them.
    """
    if type(tensor) is not torch.Tensor:
        return (
            f"lazy tensor subclass: the output is a {type(tensor).__name__}, expected a plain torch.Tensor, "
            "because a subclass may delay its work until it is read"
        )
    replaced = sorted(name for name in vars(tensor) if hasattr(torch.Tensor, name))
    if replaced:
        return (
            f"lazy tensor: the output replaces Tensor.{replaced[0]} by an attribute of its own, expected a plain "
            "torch.Tensor, because such a method may delay the work until it is called: return the tensor unchanged"
        )
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor) or torch._is_functional_tensor(tensor):  # noqa: SLF001 - torch has no public name for them
        return "lazy tensor: the output is wrapped by functorch, expected a plain torch.Tensor: unwrap it"
    if tensor.is_conj() or tensor.is_neg():
        return "lazy tensor: the output's negation or conjugation is delayed: resolve it before you return the output"
    return None


def active_modes() -> int:
    """Return the number of torch's modes that are active. A mode intercepts all of torch's functions or operators."""
    return int(torch._C._len_torch_function_stack() + torch._C._len_torch_dispatch_stack())  # noqa: SLF001 - torch has no public function that counts them


def words_in_memory(tensor: torch.Tensor) -> bytes | None:
    """Return the bytes of some elements of a plain tensor, read from its memory without torch.

    Returns None for a tensor that lies on another device or has no elements.
    """
    if tensor.device.type != "cpu" or not tensor.numel():
        return None
    start, size = _data_ptr(tensor), tensor.element_size()
    return b"".join(_read(start + offset * size, size) for offset in _offsets(tensor))


def _offsets(tensor: torch.Tensor) -> Iterator[int]:
    """Yield the offsets in memory of some elements, the first and the last among them."""
    last = tensor.numel() - 1
    for index in sorted({last * step // (WORDS - 1) for step in range(WORDS)}):
        offset, rest = 0, index
        for length, stride in zip(reversed(tensor.shape), reversed(tensor.stride()), strict=True):
            rest, place = divmod(rest, length)
            offset += place * stride
        yield offset
