"""`triton-flash` and `triton-flash-atomic`: FlashAttention-2 (Dao, 2023, arXiv:2307.08691) in Triton kernels."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

from attnbench import Variant, hookimpl
from attnbench_variants._library_support import installed, lacking_triton, missing

if TYPE_CHECKING:
    import torch

    from attnbench.plugins.variant import AttentionFunction
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload

MAX_HEAD_DIM = 256  # wider key and value tiles would not fit into a multiprocessor's shared memory
INTERPRETED = "TRITON_INTERPRET=1 makes kernels run on the CPU: unset it to run on the GPU"


class TritonFlash(Variant):
    """Fused attention, forward and backward, with all masks, grouped heads, softcap and ALiBi, but no dropout.

    All calls with the same inputs return identical outputs and gradients.
    """

    name = "triton-flash"
    traits: ClassVar[frozenset[str]] = frozenset({"repeatable"})
    atomic = False
    packages = ("triton",)
    costly_on = ("cpu",)  # because on a CPU, the kernels run in Triton's interpreter, which is slow

    def unsupported_reason(self, workload: Workload, device: str) -> str | None:
        """Return why the kernels can't run the workload, or None if they can."""
        if not installed("triton"):
            return missing("triton")
        interpreted = os.environ.get("TRITON_INTERPRET") == "1"
        if device == "cpu" and not interpreted:
            return "needs a CUDA GPU (or TRITON_INTERPRET=1 in the environment, for Triton's interpreter on the CPU)"
        if device != "cpu" and (lacking := INTERPRETED if interpreted else lacking_triton()):
            return lacking
        if workload.dropout:
            return "has no dropout"
        widest = max(workload.head_dim, workload.head_dim_v)
        if widest > MAX_HEAD_DIM:
            return f"supports a head_dim of at most {MAX_HEAD_DIM}, not {widest}: wider tiles exceed shared memory"
        return None

    def prepare_function(self, workload: Workload, inputs: Inputs) -> AttentionFunction:
        """Return the timed function. On a GPU, compile and tune the kernels with a first call.

        The first call includes the backward pass if the workload has one. The choice is remembered, so that preparing
        the same workload again tunes nothing, and the timed function launches the chosen configuration directly.
        """
        import torch

        from attnbench_variants.triton_flash.attention import FlashAttention, attend, contiguous, describe

        problem = describe(workload, inputs, atomic=self.atomic)

        def forward(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            return attend(*contiguous(query, key, value), problem)[0]

        def differentiable(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = FlashAttention.apply(query, key, value, problem)
            return output

        timed = differentiable if workload.needs_gradient else forward
        if inputs.query.is_cuda:
            output = timed(*inputs.leaves)
            if workload.needs_gradient:
                torch.autograd.grad(output, inputs.leaves, inputs.grad_output)
        return timed


class TritonFlashAtomic(TritonFlash):
    """The kernels of `triton-flash`, except that the backward pass is one pass with atomic additions.

    It multiplies five times where `triton-flash` multiplies seven times, and adds to the gradient of query in a float32
    buffer. The order of these additions is not fixed, so the gradient of query may differ from call to call in its last
    bits. Therefore this variant doesn't claim the trait `repeatable`. Clearing the buffer and converting it to the
    dtype of query are part of the backward pass.
    """

    name = "triton-flash-atomic"
    traits: ClassVar[frozenset[str]] = frozenset()
    atomic = True


@hookimpl
def attnbench_variants() -> list[Variant]:
    """Return both variants."""
    return [TritonFlash(), TritonFlashAtomic()]
