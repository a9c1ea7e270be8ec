"""Tensors that come in another layout than a variant's own: what the conversion there and back costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from attnbench.tensors.inputs import make_inputs

if TYPE_CHECKING:
    from attnbench.plugins.variant import Timed, Variant
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload


def convert_layout(variant: Variant, workload: Workload, inputs: Inputs) -> Timed:
    """Prepare a variant of the other layout for `inputs`; each call copies them to its layout, and the output back.

    What the variant reads is made once and written at each call, so the memory of the converted inputs is not counted.
    """
    own = make_inputs(workload.attention, str(inputs.query.device), variant.layout, inputs.seed)
    attend = variant.prepare(workload.attention, own)
    return lambda: _Converted.apply(attend, own, *inputs.leaves)  # type: ignore[no-untyped-call]


class _Converted(torch.autograd.Function):
    """Attention between two transpositions of heads and sequence."""

    @staticmethod
    def forward(ctx: Any, attend: Timed, own: Inputs, *leaves: torch.Tensor) -> torch.Tensor:
        for target, given in zip(own.leaves, leaves, strict=True):
            target.data.copy_(given.transpose(1, 2))  # past the version counter: calls may wait for their backward pass
        with torch.set_grad_enabled(any(leaf.requires_grad for leaf in leaves)):
            output = attend()
        ctx.own, ctx.output = own, output
        return output.detach().transpose(1, 2).contiguous()

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grads = torch.autograd.grad(ctx.output, ctx.own.leaves, grad_output.transpose(1, 2).contiguous())
        return None, None, *(grad.transpose(1, 2).contiguous() for grad in grads)
