"""What the plugin contract demands of a call besides a right answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from attnbench.tensors.inputs import dtype_of

if TYPE_CHECKING:
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload

TENSORS = ("query", "key", "value", "grad_output", "key_lengths", "document_ids", "alibi_slopes")
BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
WORDS = 1 << 22  # elements that are summed at a time


def output_shape(workload: Workload, layout: str) -> tuple[int, ...]:
    """Give the shape that the output must have in `layout`."""
    w = workload
    if layout == "BHSD":
        return w.batch, w.heads, w.seq_q, w.head_dim_v
    return w.batch, w.seq_q, w.heads, w.head_dim_v


def output_problem(output: Any, workload: Workload, inputs: Inputs, *, graph: bool = True) -> str | None:
    """Say in which way `output` breaks the contract in kind, shape, dtype, device or storage, or None.

    `graph`: whether it must still hang together with its inputs for autograd, where the direction needs that.
    """
    if not isinstance(output, torch.Tensor):
        return f"the callable returned {type(output).__name__}: expected one tensor, the output"
    shape = output_shape(workload, inputs.layout)
    problems = (
        (tuple(output.shape) != shape, f"shape is {tuple(output.shape)}, expected {shape} (layout {inputs.layout})"),
        (output.dtype != dtype_of(workload), f"dtype is {output.dtype}, expected {dtype_of(workload)}"),
        (output.device != inputs.query.device, f"device is {output.device}, expected {inputs.query.device}"),
        (output.layout != torch.strided, f"tensor layout is {output.layout}, expected a dense (strided) tensor"),
        (
            graph and workload.needs_gradient and not output.requires_grad and output.numel() > 0,
            "graph is missing: it is detached from its inputs, so autograd can't reach query, key and value",
        ),
    )
    problem = next((f"the output's {text}" for applies, text in problems if applies), None)
    if problem is None and storages(output) & storages(*(getattr(inputs, name) for name in TENSORS)):
        return "the output lies in the storage of an input: return a fresh tensor at each call"
    return problem


def gradients_problem(gradients: tuple[torch.Tensor | None, ...] | None, inputs: Inputs) -> str | None:
    """Say which gradient is missing or has the wrong shape or dtype, or None."""
    for name, leaf, gradient in zip(("query", "key", "value"), inputs.leaves, gradients or (), strict=False):
        if gradient is None:
            return f"the gradient of {name} is missing: the output does not depend on it for autograd"
        if gradient.shape != leaf.shape or gradient.dtype != leaf.dtype:
            return (
                f"the gradient of {name} is {gradient.dtype} {tuple(gradient.shape)}, "
                f"expected {leaf.dtype} {tuple(leaf.shape)}"
            )
    return None


def storages(*tensors: torch.Tensor | None) -> set[int]:
    """Give the addresses of the storages of non-empty tensors."""
    return {tensor.untyped_storage().data_ptr() for tensor in tensors if tensor is not None and tensor.numel()}


@dataclass(frozen=True)
class Snapshot:
    """A fingerprint of the inputs, so that a variant which writes to them is found out without a copy of them."""

    prints: dict[str, tuple[Any, ...]]

    @classmethod
    def take(cls, inputs: Inputs) -> Snapshot:
        """Fingerprint every tensor of the inputs: address, shape, strides and a position-dependent sum of its bits."""
        tensors = ((name, getattr(inputs, name)) for name in TENSORS)
        return cls({name: _fingerprint(tensor) for name, tensor in tensors if tensor is not None})

    def problem(self, inputs: Inputs) -> str | None:
        """Say which input was changed since, or None."""
        for name, before in self.prints.items():
            after = _fingerprint(getattr(inputs, name))
            if after[:-1] != before[:-1]:
                return f"inputs.{name} was resized or re-strided by the call: leave inputs as they are"
            if after != before:
                return f"inputs.{name} was written to: leave inputs as they are, and write to a fresh tensor"
        return None


def _fingerprint(tensor: torch.Tensor) -> tuple[Any, ...]:
    tensor = tensor.detach()
    where = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
    if not tensor.numel():
        return (*where, 0)
    bits = tensor.view(BITS[tensor.element_size()]).unsqueeze(-1).flatten(1)
    columns = max(1, WORDS // bits.shape[1])
    total = 0
    for start in range(0, bits.shape[0], columns):
        block = bits[start : start + columns].to(torch.int64)
        places = torch.arange(block.numel(), device=block.device).view_as(block)
        total = (total * 31 + int((block * (2 * places + 1)).sum())) % (1 << 61)
    return (*where, total)
