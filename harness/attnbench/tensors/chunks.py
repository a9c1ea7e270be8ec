"""Split tensors into chunks of bounded size, so that work on large tensors needs little memory of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

# The maximum number of elements in a chunk, by device type. On a CPU a chunk fits in the cache; on a GPU, each chunk
# costs the launch of a kernel.
CHUNK_ELEMENTS = {"cpu": 1 << 18, "cuda": 1 << 22}


def chunks(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield views of bounded size that together contain each element once, in the order of the tensor's indices.

    The shapes of the chunks depend on the tensor's shape and device type, but not on its strides. A chunk may lack
    leading dimensions of the tensor. An empty tensor has no chunks.
    """
    size = CHUNK_ELEMENTS.get(tensor.device.type, CHUNK_ELEMENTS["cuda"])
    if not tensor.numel():
        return
    if tensor.numel() <= size:
        yield tensor
        return
    rows = size // (tensor.numel() // len(tensor))
    for start in range(0, len(tensor), max(1, rows)):
        if rows:
            yield tensor[start : start + rows]
        else:
            yield from chunks(tensor[start])


def all_finite(*tensors: torch.Tensor) -> torch.Tensor:
    """Return whether no element is NaN or infinite, as a bool tensor without dimensions on the tensors' device.

    The host does not wait for the result. Unlike `isfinite`, this needs no memory of the size of the tensors.
    """
    ends = [end for tensor in tensors for chunk in chunks(tensor.detach()) for end in torch.aminmax(chunk)]
    return torch.stack(ends).isfinite().all() if ends else torch.tensor(True)
