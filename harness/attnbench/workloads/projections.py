"""The projections of an attention layer: what they multiply, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnbench.workloads.workload import Workload


@dataclass(frozen=True)
class Projection:
    """A product of `rows` tokens of width `inner` with weights (`outer`, `inner`)."""

    rows: int
    inner: int
    outer: int

    def flops(self, direction: str) -> int:
        """Floating-point operations: one product forward, two (by tokens and by weights) backward."""
        return 2 * self.rows * self.inner * self.outer * {"forward": 1, "backward": 2, "forward_backward": 3}[direction]

    def elements(self, direction: str) -> int:
        """Elements moved: both factors and the product forward; these, and both factors' gradients, backward."""
        factors, product = self.rows * self.inner + self.inner * self.outer, self.rows * self.outer
        forward, backward = factors + product, 2 * factors + product
        return {"forward": forward, "backward": backward, "forward_backward": forward + backward}[direction]


def of(workload: Workload) -> tuple[Projection, ...]:
    """Give the projections to query, key and value and of the output; none where the workload is no layer."""
    w = workload
    if not w.embed_dim:
        return ()
    queries, keys = w.batch * w.seq_q, w.batch * w.seq_k
    return (
        Projection(queries, w.embed_dim, w.heads * w.head_dim),
        Projection(keys, w.embed_dim, w.kv_heads * w.head_dim),
        Projection(keys, w.embed_dim, w.kv_heads * w.head_dim_v),
        Projection(queries, w.heads * w.head_dim_v, w.embed_dim),
    )
