"""Memory-efficient attention in plain torch, computed tile by tile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench import Inputs, Variant, Workload, hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


class Chunked(Variant):
    """Attention computed in chunks of queries and keys, with an online softmax.

    Only a few tiles of float32 scores are in memory at a time, and tiles that the mask hides completely are skipped.
    The backward pass recomputes the scores. The algorithm follows Rabe and Staats, 2021, arXiv:2112.05682.
    """

    name = "chunked"

    def prepare_function(self, workload: Workload, inputs: Inputs) -> Callable[..., torch.Tensor]:
        """Plan the tiles that contain a visible key, and return the timed function."""
        from attnbench_variants._tiled_attention import TiledAttention
        from attnbench_variants._tiles import Plan

        plan = Plan(workload, inputs)
        return lambda query, key, value: TiledAttention.apply(query, key, value, plan)


@hookimpl
def attnbench_variants() -> list[Variant]:
    """Return the variant `chunked`."""
    return [Chunked()]
