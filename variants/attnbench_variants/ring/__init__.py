"""`ring`: context-parallel attention over processes that pass keys and values around.

Liu et al., 2023, arXiv:2310.01889. Handing the parts out and collecting the answers is timed too, because the harness
hands over whole tensors; a model that keeps its sequence split would not pay for it. Each process but the first, which
is the worker itself, computes on one thread.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from attnbench import Variant, hookimpl

if TYPE_CHECKING:
    import torch

    from attnbench.plugins.variant import Timed
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload


class Ring(Variant):
    """Ring attention on `ranks` processes, forward and backward: no mask or causal, balanced by a zig-zag split."""

    default_on = ("cuda",)  # on a CPU its processes share the cores that one process would use

    def __init__(self, name: str, ranks: int) -> None:
        self.name, self.ranks = name, ranks

    def unsupported_reason(self, workload: Workload, device: str) -> str | None:
        """Say why not: too few devices, a mask that the ring does not know, or a length that does not split."""
        import torch
        import torch.distributed as dist

        if not dist.is_available():
            return "needs a torch with torch.distributed"
        if device == "cuda" and torch.cuda.device_count() < self.ranks:
            return f"needs {self.ranks} GPUs in one worker, which sees {torch.cuda.device_count()}"
        if device == "cpu" and len(os.sched_getaffinity(0)) < self.ranks:
            return f"needs {self.ranks} cores, one a process, and there are {len(os.sched_getaffinity(0))}"
        return _unsplittable(workload, self.ranks)

    def prepare(self, workload: Workload, inputs: Inputs) -> Timed:
        """Start the other ranks, once a process; each call then hands out, computes and collects.

        Raises ValueError for what does not split: ranks with unequal parts would wait for each other for ever.
        """
        if problem := _unsplittable(workload, self.ranks):
            raise ValueError(f"{self.name} {problem}")
        import torch

        from attnbench_variants.ring.rank import BACKWARD, FORWARD, Call
        from attnbench_variants.ring.rank_group import crew_of, dtype_index

        crew = crew_of(self.ranks, inputs.query.device.type)
        query, key, value = inputs.leaves
        numbers = (
            workload.batch, workload.heads, workload.kv_heads, workload.seq_q // self.ranks, workload.head_dim,
            workload.head_dim_v, dtype_index(query.dtype), workload.mask.is_causal, workload.effective_scale,
        )  # fmt: skip

        class Attention(torch.autograd.Function):
            @staticmethod
            def forward(context: Any, *tensors: torch.Tensor) -> torch.Tensor:
                context.ticket = ticket = crew.ticket()  # as long as the graph lives the ranks keep their parts
                return crew.forward(Call(FORWARD, ticket.number, crew.oldest, *numbers), *tensors)

            @staticmethod
            def backward(context: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor, ...]:  # type: ignore[override]
                return crew.backward(Call(BACKWARD, context.ticket.number, crew.oldest, *numbers), grad_output)

        def call() -> torch.Tensor:
            output: torch.Tensor = Attention.apply(query, key, value)
            return output

        return call


def _unsplittable(workload: Workload, ranks: int) -> str | None:
    """Say what about the workload the ring can't do, or None."""
    problems = (
        (workload.mask.kind not in ("none", "causal"), f"has no mask {workload.mask}: none and causal alone"),
        (workload.softcap is not None, "has no softcap"),
        (workload.alibi, "has no ALiBi"),
        (bool(workload.dropout), "has no dropout"),
        (workload.seq_q != workload.seq_k, "needs seq_q == seq_k: both are split alike"),
        (
            not workload.seq_q or bool(workload.seq_q % (2 * ranks)),
            f"needs a length that is a multiple of {2 * ranks}: two chunks a rank",
        ),
        (not workload.batch, "needs a batch of at least 1"),
    )
    return next((problem for applies, problem in problems if applies), None)


@hookimpl
def attnbench_variants() -> list[Variant]:
    """Return the ring on two processes and on four."""
    return [Ring("ring", 2), Ring("ring-4", 4)]
