"""Attention tile by tile in plain torch: online softmax forward, recomputation backward.

Beyond the output it needs one tile of scores forward and two backward, however long the sequences. After Rabe and
Staats, 2021, arXiv:2112.05682 (chunks of queries and of keys, recomputed backward) and Dao, 2023, arXiv:2307.08691
(one division a row, each row's log-sum-exp kept for backward).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from attnbench_variants._tiles import Chunk, Plan, multiply

LOWEST = torch.finfo(torch.float32).min


class TiledAttention(torch.autograd.Function):
    """Attention as one differentiable step: (B, Hq, Sq, D), (B, Hkv, Sk, D), (B, Hkv, Sk, Dv) -> (B, Hq, Sq, Dv)."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, plan: Plan) -> torch.Tensor:
        """Attend chunk by chunk; keeps the inputs, the output and each row's log-sum-exp, if there is a backward."""
        output = query.new_empty((*query.shape[:3], value.shape[-1]))
        lse = query.new_empty((*query.shape[:3], 1), dtype=torch.float32) if any(ctx.needs_input_grad) else None
        keys = _Keys(key.flatten(0, 1), value.flatten(0, 1))
        buffer = plan.buffer()
        for chunk in plan.chunks:
            rows = plan.rows(query, chunk) * plan.scale
            attended, rows_lse = _attend(plan, chunk, rows, keys, buffer)
            plan.store(output, chunk, attended)
            if lse is not None:
                plan.store(lse, chunk, rows_lse)
        ctx.plan = plan
        ctx.save_for_backward(query, key, value, output, lse)
        return output

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        """Recompute each tile's weights and add up the three gradients.

        Those of keys and values are summed in float32, which for a narrower dtype takes a copy of each.
        """
        query, key, value, output, lse = ctx.saved_tensors
        plan: Plan = ctx.plan
        grad_query = query.new_empty(query.shape)
        grad_key, grad_value = (torch.zeros(t.shape, dtype=torch.float32, device=t.device) for t in (key, value))
        keys = _Keys(key.flatten(0, 1), value.flatten(0, 1))
        grads = _Keys(grad_key.flatten(0, 1), grad_value.flatten(0, 1))
        buffers = [plan.buffer() for _ in range(2 if plan.workload.softcap is None else 3)]
        for chunk in plan.chunks:
            grad_rows = plan.rows(grad_output, chunk)
            queries = _Queries(
                scaled=plan.rows(query, chunk) * plan.scale,
                grad=grad_rows,
                lse=plan.rows(lse, chunk),
                inner=(grad_rows * plan.rows(output, chunk)).sum(-1, keepdim=True),
            )
            grad_scaled = _differentiate(plan, chunk, queries, keys, grads, buffers=buffers)
            plan.store(grad_query, chunk, grad_scaled * plan.scale)
        return grad_query, grad_key.to(key.dtype), grad_value.to(value.dtype), None


@dataclass(frozen=True)
class _Queries:
    """A chunk's rows in backward, each (heads, group * rows, ...) float32.

    `inner` is the sum over all keys of each weight times its gradient: what softmax subtracts.
    """

    scaled: torch.Tensor
    grad: torch.Tensor
    lse: torch.Tensor
    inner: torch.Tensor


@dataclass(frozen=True)
class _Keys:
    """Keys and values, or their gradients, (B * Hkv, Sk, ...)."""

    key: torch.Tensor
    value: torch.Tensor


def _attend(
    plan: Plan, chunk: Chunk, query: torch.Tensor, keys: _Keys, buffer: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give a chunk's output and log-sum-exp; both are 0 where a row sees no key."""
    peak = query.new_full((*query.shape[:2], 1), LOWEST)  # finite, so that a tile without a visible key adds exact 0
    total = torch.zeros_like(peak)
    output = query.new_zeros((*query.shape[:2], keys.value.shape[-1]))
    for columns in chunk.tiles(plan.keys):
        inside = chunk.heads, columns
        scores = plan.scores(query, keys.key[inside].float(), (chunk, columns), buffer)
        new_peak = torch.maximum(peak, scores.amax(-1, keepdim=True))
        shrink = (peak - new_peak).exp_()
        weights = scores.sub_(new_peak).exp_()
        total.mul_(shrink).add_(weights.sum(-1, keepdim=True))
        if plan.workload.dropout:
            weights.mul_(plan.kept(chunk, columns))
        output.mul_(shrink).baddbmm_(weights, keys.value[inside].float())
        peak = new_peak
    blank = total == 0
    total.masked_fill_(blank, 1.0)
    return output.div_(total), total.log_().add_(peak).masked_fill_(blank, 0.0)


def _differentiate(
    plan: Plan, chunk: Chunk, queries: _Queries, keys: _Keys, grads: _Keys, *, buffers: list[torch.Tensor]
) -> torch.Tensor:
    """Add a chunk's share to the gradients of keys and values, and give that of its scaled queries."""
    grad_query = torch.zeros_like(queries.scaled)
    bend = buffers[2] if plan.workload.softcap is not None else None
    for columns in chunk.tiles(plan.keys):
        inside = chunk.heads, columns
        key, value = keys.key[inside].float(), keys.value[inside].float()
        scores = plan.scores(queries.scaled, key, (chunk, columns), buffers[0], bend=bend)
        weights = scores.sub_(queries.lse).exp_()
        grad_weights = multiply(queries.grad, value, buffers[1])
        if plan.workload.dropout:
            kept = plan.kept(chunk, columns)
            grad_weights.mul_(kept)
            grads.value[inside].baddbmm_((weights * kept).transpose(1, 2), queries.grad)
        else:
            grads.value[inside].baddbmm_(weights.transpose(1, 2), queries.grad)
        grad_scores = grad_weights.sub_(queries.inner).mul_(weights)
        if bend is not None:
            grad_scores.mul_(bend[: grad_scores.numel()].view(grad_scores.shape))
        grads.key[inside].baddbmm_(grad_scores.transpose(1, 2), queries.scaled)
        grad_query.baddbmm_(grad_scores, key)
    return grad_query
