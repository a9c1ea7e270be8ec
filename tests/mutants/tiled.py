"""The base class of all mutants: a correct tiled variant with a hand-written backward pass.

Every step is a separate method, so that a mutant can override a single step. Tiles are small, so that even a short
sequence has several tiles and usually ends with a partial one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from attnbench import Variant

if TYPE_CHECKING:
    from attnbench import Inputs, Workload


class Tiled(Variant):
    """The FlashAttention-2 algorithm (Dao, 2023, arXiv:2307.08691, section 3) in plain torch, for the BHSD layout."""

    name = "tiled"
    tile = 48
    device: torch.device | str = "cpu"  # of the inputs

    def prepare(self, workload: Workload, inputs: Inputs):
        """Return a callable that computes attention with a custom autograd function."""
        self.device = inputs.query.device
        return lambda: _Attention.apply(*inputs.leaves, self, workload, inputs)

    def prepare_lse(self, workload: Workload, inputs: Inputs):
        """Return a callable that returns the output and each row's log-sum-exp."""
        self.device = inputs.query.device

        def call() -> tuple[torch.Tensor, torch.Tensor]:
            leaves = (inputs.query.float(), self.repeat(inputs.key, workload), self.repeat(inputs.value, workload))
            output, lse = self.attend(workload, inputs, *leaves)
            return output.detach().to(inputs.query.dtype), lse[..., 0].detach()

        return call

    def tiles(self, length: int) -> Iterator[torch.Tensor]:
        """Yield the positions from 0 to length - 1, one tile at a time."""
        return iter(torch.arange(length, device=self.device).split(self.tile)) if length else iter(())

    def scale(self, workload: Workload) -> float:
        """Return the factor by which the query-key products are multiplied."""
        return workload.effective_scale

    def repeat(self, heads: torch.Tensor, workload: Workload) -> torch.Tensor:
        """Convert heads to float32 and repeat each for its group's query heads: (B, Hkv, S, D) -> (B, Hq, S, D)."""
        return heads.float().repeat_interleave(workload.heads // workload.kv_heads, 1)

    def sum_groups(self, gradient: torch.Tensor, workload: Workload) -> torch.Tensor:
        """Sum gradients over the query heads of each group: (B, Hq, S, D) -> (B, Hkv, S, D)."""
        return gradient.unflatten(1, (workload.kv_heads, -1)).sum(2)

    def offset(self, workload: Workload) -> int:
        """Return the index of the key that query 0 is aligned with."""
        return 0 if workload.mask.kind == "causal-top-left" else workload.seq_k - workload.seq_q

    def visible(self, workload: Workload, inputs: Inputs, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Return whether each key (column) is visible to each query (row), as a bool tensor (B or 1, 1, R, C)."""
        mask, position, column = workload.mask, rows[:, None] + self.offset(workload), columns[None, :]
        if mask.kind == "padding":
            return (column < inputs.key_lengths[:, None, None]).expand(-1, len(rows), -1)[:, None]
        if mask.kind == "document":
            documents = inputs.document_ids
            return (documents[:, rows][:, :, None] == documents[:, columns][:, None, :])[:, None]
        if mask.kind == "window":
            seen = self.in_window(position, column, mask.left, mask.right)
        elif mask.kind == "none":
            seen = torch.ones(len(rows), len(columns), dtype=torch.bool, device=self.device)
        else:
            seen = (column <= position) | (column < mask.prefix)
        return seen[None, None]

    def in_window(self, position: torch.Tensor, column: torch.Tensor, left: int, right: int) -> torch.Tensor:
        """Return whether each column is in the window around each position. Both ends of the window are included."""
        return (column >= position - left) & (column <= position + right)

    def alibi(self, workload: Workload, inputs: Inputs, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Return the ALiBi bias: (1, Hq, R, C)."""
        distance = (rows[:, None] + workload.seq_k - workload.seq_q - columns[None, :]).abs()
        return -inputs.alibi_slopes[None, :, None, None] * distance

    def cap(self, scores: torch.Tensor, softcap: float) -> torch.Tensor:
        """Apply the softcap to the scaled scores."""
        return softcap * torch.tanh(scores / softcap)

    def cap_slope(self, scores: torch.Tensor, softcap: float) -> torch.Tensor:
        """Return the derivative of `cap` at the scaled scores."""
        return 1 - torch.tanh(scores / softcap).square()

    def scores(
        self, workload: Workload, inputs: Inputs, query: torch.Tensor, key: torch.Tensor,
        rows: torch.Tensor, columns: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """Return the masked scores: (B, Hq, R, C)."""
        scores = query @ key.mT * self.scale(workload)
        if workload.softcap is not None:
            scores = self.cap(scores, workload.softcap)
        if workload.alibi:
            scores = scores + self.alibi(workload, inputs, rows, columns)
        return scores.masked_fill(~self.visible(workload, inputs, rows, columns), -math.inf)

    def kept(
        self, workload: Workload, inputs: Inputs, rows: torch.Tensor, columns: torch.Tensor
    ) -> torch.Tensor | float:
        """Return each weight's dropout factor (0 or 1 / (1 - p)) for a tile, or a single 1.0 if there is no dropout.

        p is the dropout rate. The forward and backward passes use the same factors.
        """
        if not workload.dropout:
            return 1.0
        shape = (workload.batch, workload.heads, len(rows), len(columns))
        place = int(rows[0]) * (workload.seq_k + 1) + int(columns[0])
        generator = torch.Generator("cpu").manual_seed((inputs.seed * 1_000_003 + place) % (1 << 62))
        drawn = torch.rand(shape, generator=generator, device="cpu").to(self.device)
        return (drawn >= workload.dropout) / (1 - workload.dropout)

    def forward_tile(
        self, workload: Workload, inputs: Inputs, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
        rows: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """Return the output (B, Hq, R, Dv) and the log-sum-exp (B, Hq, R, 1) of one tile of queries."""
        state = self.start(query, value)
        for columns in self.tiles(workload.seq_k):
            scores = self.scores(workload, inputs, query, key[:, :, columns], rows, columns)
            kept = self.kept(workload, inputs, rows, columns)
            state = self.accumulate(state, scores, value[:, :, columns], kept)
        return self.finish(state, value)

    def start(self, query: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the initial running maximum, sum of weights and weighted sum of values."""
        shape = query.shape[:-1]
        return (
            query.new_full((*shape, 1), -math.inf),
            query.new_zeros((*shape, 1)),
            query.new_zeros((*shape, value.shape[-1])),
        )

    def accumulate(
        self, state: tuple[torch.Tensor, ...], scores: torch.Tensor, value: torch.Tensor, kept: torch.Tensor | float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Update the running maximum, sum of weights and weighted sum of values with one tile of keys."""
        top, total, summed = state
        new_top = torch.maximum(top, scores.amax(-1, keepdim=True))
        finite_top = new_top.masked_fill(new_top == -math.inf, 0.0)
        rescale = torch.exp(top - finite_top)
        weights = torch.exp(scores - finite_top)
        total = total * rescale + weights.sum(-1, keepdim=True)
        return new_top, total, summed * rescale + (weights * kept) @ value

    def finish(self, state: tuple[torch.Tensor, ...], value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the output and the log-sum-exp, which are 0 and -inf for rows without a visible key."""
        top, total, summed = state
        blind = total == 0
        return summed / total.masked_fill(blind, 1.0), (top + torch.log(total)).masked_fill(blind, -math.inf)

    def attend(
        self, workload: Workload, inputs: Inputs, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the output (B, Hq, Sq, Dv) and the log-sum-exp (B, Hq, Sq, 1), both in float32."""
        output = query.new_empty((*query.shape[:-1], value.shape[-1]))
        lse = query.new_empty((*query.shape[:-1], 1))
        for rows in self.tiles(workload.seq_q):
            tile = self.forward_tile(workload, inputs, query[:, :, rows], key, value, rows)
            output[:, :, rows], lse[:, :, rows] = tile
        return output, lse

    def delta(self, grad_output: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """Return delta, the row sums of grad_output * output: (..., R, 1)."""
        return (grad_output * output).sum(-1, keepdim=True)

    def backward_weights(self, scores: torch.Tensor, lse: torch.Tensor) -> torch.Tensor:
        """Recompute the weights from the scores and the log-sum-exp."""
        return torch.exp(scores - lse.masked_fill(lse == -math.inf, 0.0))

    def grad_output_of(self, grad_output: torch.Tensor) -> torch.Tensor:
        """Convert the incoming gradient, which may have any strides, to float32."""
        return grad_output.float()

    def differentiate(
        self, workload: Workload, inputs: Inputs, grad_output: torch.Tensor, leaves: tuple[torch.Tensor, ...],
        output: torch.Tensor, lse: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
        """Return dQ, dK and dV, recomputing the weights tile by tile."""
        query, key, value = leaves
        gradients = [torch.zeros_like(leaf) for leaf in leaves]
        delta = self.delta(grad_output, output)
        for rows in self.tiles(workload.seq_q):
            for columns in self.tiles(workload.seq_k):
                tiles = (query[:, :, rows], key[:, :, columns], value[:, :, columns])
                scores = self.scores(workload, inputs, tiles[0], tiles[1], rows, columns)
                weights = self.backward_weights(scores, lse[:, :, rows])
                kept = self.backward_kept(workload, inputs, rows, columns)
                tile_grad = grad_output[:, :, rows]
                gradients[2][:, :, columns] += self.value_weights(weights, kept).mT @ tile_grad
                of_scores = weights * (tile_grad @ tiles[2].mT * kept - delta[:, :, rows])
                of_scores = self.through_cap(workload, of_scores, tiles) * self.scale(workload)
                gradients[0][:, :, rows] += self.query_gradient(of_scores, tiles[1], workload)
                gradients[1][:, :, columns] += of_scores.mT @ tiles[0]
        return gradients[0], gradients[1], gradients[2]

    def backward_kept(
        self, workload: Workload, inputs: Inputs, rows: torch.Tensor, columns: torch.Tensor
    ) -> torch.Tensor | float:
        """Return the dropout factors of a tile for the backward pass."""
        return self.kept(workload, inputs, rows, columns)

    def value_weights(self, weights: torch.Tensor, kept: torch.Tensor | float) -> torch.Tensor:
        """Return the weights by which grad_output is multiplied to compute dV."""
        return weights * kept

    def through_cap(self, workload: Workload, of_scores: torch.Tensor, tiles: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Propagate the gradient of the capped scores back through the softcap."""
        if workload.softcap is None:
            return of_scores
        return of_scores * self.cap_slope(tiles[0] @ tiles[1].mT * self.scale(workload), workload.softcap)

    def query_gradient(self, of_scores: torch.Tensor, key: torch.Tensor, workload: Workload) -> torch.Tensor:
        """Return a key tile's contribution to dQ."""
        return of_scores @ key


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value, tiled, workload, inputs):
        leaves = (query.float(), tiled.repeat(key, workload), tiled.repeat(value, workload))
        output, lse = tiled.attend(workload, inputs, *leaves)
        ctx.save_for_backward(query, key, value, output, lse)
        ctx.context = tiled, workload, inputs
        return output.to(query.dtype)

    @staticmethod
    def backward(ctx, grad_output):
        query, key, value, output, lse = ctx.saved_tensors
        tiled, workload, inputs = ctx.context
        leaves = (query.float(), tiled.repeat(key, workload), tiled.repeat(value, workload))
        of_query, of_key, of_value = tiled.differentiate(
            workload, inputs, tiled.grad_output_of(grad_output), leaves, output, lse
        )
        grouped = (of_query, tiled.sum_groups(of_key, workload), tiled.sum_groups(of_value, workload))
        return *(gradient.to(query.dtype) for gradient in grouped), None, None, None
