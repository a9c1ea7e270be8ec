"""Tile-by-tile attention in plain torch, with an online softmax and a backward pass that recomputes the scores.

Only a few tiles of scores are in memory at a time, however long the sequences are. Besides the inputs and the output,
only four bytes per row are saved for the backward pass. The chunks of queries and keys, and the recomputation in the
backward pass, follow Rabe and Staats, 2021, arXiv:2112.05682. Dividing each row of the output only once, after its last
tile, and saving its log-sum-exp for the backward pass follow Dao, 2023, arXiv:2307.08691.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch

from attnbench_variants._tiles import Chunk, Plan, multiply

LOWEST_FLOAT32 = torch.finfo(torch.float32).min


class TiledAttention(torch.autograd.Function):
    """Differentiable attention, computed tile by tile.

    The query is (B, Hq, Sq, D), the key (B, Hkv, Sk, D), the value (B, Hkv, Sk, Dv) and the output (B, Hq, Sq, Dv).
    """

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, plan: Plan) -> torch.Tensor:
        """Compute the output chunk by chunk. Save inputs, output and each row's log-sum-exp for the backward pass."""
        output = query.new_empty((*query.shape[:3], value.shape[-1]))
        lse = query.new_empty((*query.shape[:3], 1), dtype=torch.float32) if any(ctx.needs_input_grad) else None
        keys = _Keys(key.flatten(0, 1), value.flatten(0, 1))
        buffer = plan.buffer()
        for chunk in plan.chunks:
            attended, rows_lse = _attend(plan, chunk, plan.rows(query, chunk) * plan.scale, keys, buffer)
            plan.store(output, chunk, attended)
            if lse is not None:
                plan.store(lse, chunk, rows_lse)
        ctx.plan = plan
        ctx.save_for_backward(query, key, value, output, lse)
        return output

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        """Recompute the weights of each tile, and return the gradients of query, key and value, summed in float32.

        Float32 gradients are summed in place in one pass. Half-precision gradients are computed in two passes, so that
        only one tile of float32 sums is needed at a time: the first pass loops over the keys for the gradient of the
        queries, and the second loops over the queries for the gradients of the keys and values.
        """
        *inputs, output, lse = ctx.saved_tensors
        plan: Plan = ctx.plan
        grad_query = inputs[0].new_empty(inputs[0].shape)
        grad_key, grad_value = (torch.zeros_like(t, memory_format=torch.contiguous_format) for t in inputs[1:])
        keys, grads = (_Keys(*(t.flatten(0, 1) for t in pair)) for pair in (inputs[1:], (grad_key, grad_value)))
        buffers = [plan.buffer() for _ in range(2 if plan.workload.softcap is None else 3)]
        in_one_pass = grad_key.dtype == torch.float32

        def queries(chunk: Chunk) -> _Queries:
            return _Queries.of(plan, chunk, inputs[0], output, lse, grad_output)

        for chunk in plan.chunks:
            rows = queries(chunk)
            grad_scaled = torch.zeros_like(rows.scaled)
            for columns in chunk.tiles(plan.keys):
                tile = _Tile.of(plan, (chunk, columns), rows, keys, buffers)
                grad_scaled.baddbmm_(tile.grad_scores, tile.key)
                if in_one_pass:
                    tile.add_to(grads.key[chunk.heads, columns], grads.value[chunk.heads, columns], rows)
            plan.store(grad_query, chunk, grad_scaled * plan.scale)
        for heads, chunks in () if in_one_pass else groupby(plan.chunks, lambda chunk: chunk.heads):
            _differentiate_keys(plan, list(chunks), keys, grads.part(heads), queries, buffers=buffers)
        return grad_query, grad_key, grad_value, None


@dataclass(frozen=True)
class _Keys:
    """Keys and values, or their gradients, as (B * Hkv, Sk, ...) tensors."""

    key: torch.Tensor
    value: torch.Tensor

    def part(self, heads: slice) -> _Keys:
        """Return the keys and values of the given heads."""
        return _Keys(self.key[heads], self.value[heads])


@dataclass(frozen=True)
class _Queries:
    """The query rows of one chunk in the backward pass; all tensors are (heads, group * rows, ...) float32.

    `inner` is the term that the derivative of softmax subtracts: each row's sum of weight * grad_weight over all keys.
    """

    scaled: torch.Tensor
    grad: torch.Tensor
    lse: torch.Tensor
    inner: torch.Tensor

    @classmethod
    def of(cls, plan: Plan, chunk: Chunk, query: torch.Tensor, *results: torch.Tensor) -> _Queries:
        """Select the chunk's rows from the query and from `results` (output, log-sum-exp and grad_output)."""
        output, lse, grad = (plan.rows(tensor, chunk) for tensor in results)
        return cls(plan.rows(query, chunk) * plan.scale, grad, lse, (grad * output).sum(-1, keepdim=True))


@dataclass(frozen=True)
class _Tile:
    """One tile's weights and score gradients in the backward pass.

    `key` is (heads, keys, D); `weights` and `grad_scores` are (heads, group * rows, keys).
    """

    key: torch.Tensor
    weights: torch.Tensor
    grad_scores: torch.Tensor

    @classmethod
    def of(
        cls,
        plan: Plan,
        place: tuple[Chunk, slice],
        rows: _Queries,
        keys: _Keys,
        buffers: list[torch.Tensor],
    ) -> _Tile:
        """Recompute a tile's weights, apply dropout to them, and compute the score gradients.

        `place` holds the chunk and the keys of the tile.
        """
        chunk, columns = place
        inside = chunk.heads, columns
        key, value = keys.key[inside].float(), keys.value[inside].float()
        cap_slope = buffers[2] if plan.workload.softcap is not None else None
        weights = plan.scores(rows.scaled, key, place, buffers[0], cap_slope=cap_slope).sub_(rows.lse).exp_()
        grad_weights = multiply(rows.grad, value, buffers[1])
        kept = plan.kept(chunk, columns) if plan.workload.dropout else None
        if kept is not None:
            grad_weights.mul_(kept)
        grad_scores = grad_weights.sub_(rows.inner).mul_(weights)
        if cap_slope is not None:
            grad_scores.mul_(cap_slope[: grad_scores.numel()].view(grad_scores.shape))
        return cls(key, weights if kept is None else weights.mul_(kept), grad_scores)

    def add_to(self, grad_key: torch.Tensor, grad_value: torch.Tensor, rows: _Queries) -> None:
        """Add the tile's contribution to `grad_key` and `grad_value`, which are (heads, keys, ...) float32."""
        grad_value.baddbmm_(self.weights.transpose(1, 2), rows.grad)
        grad_key.baddbmm_(self.grad_scores.transpose(1, 2), rows.scaled)


def _attend(
    plan: Plan, chunk: Chunk, query: torch.Tensor, keys: _Keys, buffer: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the output and the log-sum-exp of a chunk; both are 0 in rows that see no key."""
    output = query.new_zeros((*query.shape[:2], keys.value.shape[-1]))
    peak = total = query.new_zeros((*query.shape[:2], 1))
    for number, columns in enumerate(chunk.tiles(plan.keys)):
        inside = chunk.heads, columns
        weights = plan.scores(query, keys.key[inside].float(), (chunk, columns), buffer)
        # Keep the peak finite, so that hidden keys add exactly 0. Otherwise, -inf - -inf would be NaN.
        new_peak = weights.amax(-1, keepdim=True).clamp_(min=LOWEST_FLOAT32)
        if number:
            new_peak = torch.maximum(peak, new_peak)
            shrink = (peak - new_peak).exp_()
            total.mul_(shrink)
            output.mul_(shrink)
        weights.sub_(new_peak).exp_()
        total = total + weights.sum(-1, keepdim=True)
        if plan.workload.dropout:
            weights.mul_(plan.kept(chunk, columns))
        output.baddbmm_(weights, keys.value[inside].float())
        peak = new_peak
    blank = total == 0
    total.masked_fill_(blank, 1.0)
    return output.div_(total), total.log_().add_(peak).masked_fill_(blank, 0.0)


def _differentiate_keys(
    plan: Plan,
    chunks: list[Chunk],
    keys: _Keys,
    grads: _Keys,
    queries: Callable[[Chunk], _Queries],
    *,
    buffers: list[torch.Tensor],
) -> None:
    """Add the key and value gradients of some heads to `grads`.

    `chunks` holds all query chunks of these heads. The gradients of each slice of keys are summed over all chunks.
    """
    for start in range(0, grads.key.shape[1], plan.keys):
        columns = slice(start, min(start + plan.keys, grads.key.shape[1]))
        sums = [grad[:, columns].float() for grad in (grads.key, grads.value)]
        for chunk in chunks:
            seen = slice(max(columns.start, chunk.start), min(columns.stop, chunk.stop))
            if seen.start < seen.stop:
                rows = queries(chunk)
                tile = _Tile.of(plan, (chunk, seen), rows, keys, buffers)
                inside = slice(seen.start - start, seen.stop - start)
                tile.add_to(*(total[:, inside] for total in sums), rows)
        for grad, total in zip((grads.key, grads.value), sums, strict=True):
            grad[:, columns] = total
