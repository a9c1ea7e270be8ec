"""Memory-efficient attention in plain torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench import Inputs, Variant, Workload, hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


class Chunked(Variant):
    """Attention over key chunks inside query chunks, with an online softmax and a recomputing backward pass.

    Holds at most two tiles of scores, in float32, and skips tiles that the mask hides. Follows Rabe and Staats, 2021,
    arXiv:2112.05682.
    """

    name = "chunked"

    def prepare(self, workload: Workload, inputs: Inputs) -> Callable[[], torch.Tensor]:
        """Plan the tiles that the mask leaves visible."""
        from attnbench_variants._tiled_attention import TiledAttention
        from attnbench_variants._tiles import Plan

        plan = Plan(workload, inputs)
        return lambda: TiledAttention.apply(*inputs.leaves, plan)


@hookimpl
def attnbench_variants() -> list[Variant]:
    """Return `chunked`."""
    return [Chunked()]
