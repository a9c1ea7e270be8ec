"""Conversion of tensors to a variant's layout and back, for workloads that specify a different layout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from attnbench.tensors.inputs import make_inputs

if TYPE_CHECKING:
    from attnbench.plugins.variant import Timed, Variant
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload


def convert_layout(variant: Variant, workload: Workload, inputs: Inputs) -> Timed:
    """Prepare a variant whose layout differs from that of `inputs`, and return the callable to time.

    Each call converts the inputs to the variant's layout, and the output back to the layout of the inputs. The
    converted inputs are allocated only once, in this function, so the measured memory of a call does not include them.
    """
    converted = make_inputs(workload.attention, str(inputs.query.device), variant.layout, inputs.seed)
    attend = variant.prepare(workload.attention, converted)
    return lambda: _Converted.apply(attend, converted, *inputs.leaves)  # type: ignore[no-untyped-call]


class _Converted(torch.autograd.Function):
    """Attention between two layout conversions, each of which swaps the heads and sequence axes."""

    @staticmethod
    def forward(ctx: Any, attend: Timed, converted: Inputs, *leaves: torch.Tensor) -> torch.Tensor:
        for target, leaf in zip(converted.leaves, leaves, strict=True):
            # Write to `.data`, which does not increase the version counter. Otherwise autograd would raise an error for
            # earlier calls whose backward pass has not run yet.
            target.data.copy_(leaf.transpose(1, 2))
        with torch.set_grad_enabled(any(leaf.requires_grad for leaf in leaves)):
            output = attend()
        ctx.converted, ctx.output = converted, output
        return output.detach().transpose(1, 2).contiguous()

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grads = torch.autograd.grad(ctx.output, ctx.converted.leaves, grad_output.transpose(1, 2).contiguous())
        return None, None, *(grad.transpose(1, 2).contiguous() for grad in grads)
