"""`ring`: context-parallel attention over processes that pass keys and values around in a ring.

The algorithm follows Liu et al., 2023, arXiv:2310.01889. The harness holds whole tensors, so the measured time includes
scattering the inputs and gathering the outputs. A model that keeps its sequences split would not spend this time. The
first process of the ring is attnbench's worker; each of the other processes computes on one thread.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from attnbench import Variant, hookimpl

if TYPE_CHECKING:
    import torch

    from attnbench.plugins.variant import AttentionFunction
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload


class Ring(Variant):
    """Ring attention on `ranks` processes, forward and backward, with no mask or a causal mask.

    A zig-zag split gives all processes the same work under a causal mask.
    """

    default_on = ("cuda",)  # not on a CPU, where a single process can use all cores without a ring

    def __init__(self, name: str, ranks: int) -> None:
        self.name, self.ranks = name, ranks

    def unsupported_reason(self, workload: Workload, device: str) -> str | None:
        """Return why the ring can't run the workload, or None if it can.

        Possible reasons are too few devices, unsupported features, and a length that can't be split evenly.
        """
        import torch
        import torch.distributed as dist

        if not dist.is_available():
            return "needs a build of torch with torch.distributed"
        if device == "cuda" and torch.cuda.device_count() < self.ranks:
            return f"needs {self.ranks} GPUs, but the worker has {torch.cuda.device_count()}"
        if device == "cpu" and len(os.sched_getaffinity(0)) < self.ranks:
            return f"needs {self.ranks} cores, one for each process, but the worker has {len(os.sched_getaffinity(0))}"
        return _unsplittable(workload, self.ranks)

    def prepare_function(self, workload: Workload, inputs: Inputs) -> AttentionFunction:
        """Start the other ranks, unless this process has already started them, and return the timed function.

        Raises ValueError if the ring can't compute the workload. Without this check, ranks with unequal parts would
        wait for each other forever.
        """
        if problem := _unsplittable(workload, self.ranks):
            raise ValueError(f"{self.name} {problem}")
        import torch

        from attnbench_variants.ring.rank import BACKWARD, FORWARD, Call
        from attnbench_variants.ring.rank_group import dtype_index, rank_group_of

        group = rank_group_of(self.ranks, inputs.query.device.type)
        numbers = (
            workload.batch, workload.heads, workload.kv_heads, workload.seq_q // self.ranks, workload.head_dim,
            workload.head_dim_v, dtype_index(inputs.query.dtype), workload.mask.is_causal, workload.effective_scale,
        )  # fmt: skip

        class Attention(torch.autograd.Function):
            @staticmethod
            def forward(context: Any, *tensors: torch.Tensor) -> torch.Tensor:
                # The ranks keep this call's tensors for as long as the autograd graph holds the ticket.
                context.ticket = ticket = group.ticket()
                return group.forward(Call(FORWARD, ticket.number, group.oldest, *numbers), *tensors)

            @staticmethod
            def backward(context: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor, ...]:  # type: ignore[override]
                return group.backward(Call(BACKWARD, context.ticket.number, group.oldest, *numbers), grad_output)

        def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = Attention.apply(query, key, value)
            return output

        return attend


def _unsplittable(workload: Workload, ranks: int) -> str | None:
    """Return why the ring can't compute the workload, or None if it can."""
    problems = (
        (workload.mask.kind not in ("none", "causal"), f"supports only the masks none and causal, not {workload.mask}"),
        (workload.softcap is not None, "has no softcap"),
        (workload.alibi, "has no ALiBi"),
        (bool(workload.dropout), "has no dropout"),
        (workload.seq_q != workload.seq_k, "needs seq_q == seq_k, because queries and keys are split in the same way"),
        (
            not workload.seq_q or bool(workload.seq_q % (2 * ranks)),
            f"needs a sequence length that is a multiple of {2 * ranks}, so that each rank gets two chunks",
        ),
        (not workload.batch, "needs a batch size of at least 1"),
    )
    return next((problem for applies, problem in problems if applies), None)


@hookimpl
def attnbench_variants() -> list[Variant]:
    """Return the variants `ring`, with two processes, and `ring-4`, with four."""
    return [Ring("ring", 2), Ring("ring-4", 4)]
