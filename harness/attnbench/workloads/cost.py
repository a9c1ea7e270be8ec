"""The minimal cost of a workload: floating-point operations and bytes moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnbench.workloads.mask import visible_counts

if TYPE_CHECKING:
    from attnbench.workloads.workload import Workload

DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
LSE_BYTES = 4  # the log-sum-exp of each row is stored in float32 for all dtypes


def flops(workload: Workload) -> int:
    """Return the number of floating-point operations of a workload; see `Workload.flops`."""
    w, pairs = workload, visible_counts(workload)[0]
    forward = 2 * w.heads * pairs * (w.head_dim + w.head_dim_v)
    backward = 2 * w.heads * pairs * (3 * w.head_dim + 2 * w.head_dim_v)
    attention = {"forward": forward, "backward": backward, "forward_backward": forward + backward}
    return attention[w.direction] + sum(projection.flops(w.direction) for projection in projections(w))


def moved_bytes(workload: Workload) -> int:
    """Return the number of bytes that any implementation must move; see `Workload.bytes`."""
    w, seen = workload, visible_counts(workload)[1]
    element, rows = DTYPE_BYTES[w.dtype], w.batch * w.heads * w.seq_q
    query, output = rows * w.head_dim * element, rows * w.head_dim_v * element
    key, value = (seen * w.kv_heads * width * element for width in (w.head_dim, w.head_dim_v))
    log_sum_exp = rows * LSE_BYTES
    forward = query + key + value + output
    backward = 2 * (query + key + value + output) + log_sum_exp
    attention = {"forward": forward, "backward": backward, "forward_backward": forward + log_sum_exp + backward}
    return attention[w.direction] + element * sum(projection.elements(w.direction) for projection in projections(w))


@dataclass(frozen=True)
class Projection:
    """A projection of an attention layer: the product of tokens (`rows`, `inner`) and weights (`inner`, `outer`)."""

    rows: int
    inner: int
    outer: int

    def flops(self, direction: str) -> int:
        """Return the number of floating-point operations.

        The forward pass computes one matrix product, and the backward pass computes two of the same size.
        """
        return 2 * self.rows * self.inner * self.outer * {"forward": 1, "backward": 2, "forward_backward": 3}[direction]

    def elements(self, direction: str) -> int:
        """Return the number of elements that are read or written.

        The forward pass reads the tokens and the weights, and writes their product. The backward pass reads the tokens,
        the weights and the gradient of the product, and writes the gradients of the tokens and the weights.
        """
        factors, product = self.rows * self.inner + self.inner * self.outer, self.rows * self.outer
        forward, backward = factors + product, 2 * factors + product
        return {"forward": forward, "backward": backward, "forward_backward": forward + backward}[direction]


def projections(workload: Workload) -> tuple[Projection, ...]:
    """Return the query, key, value and output projections if the workload is a layer, or an empty tuple otherwise."""
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
