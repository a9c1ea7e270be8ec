"""Textbook attention, which computes all scores at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench import Inputs, Variant, Workload, hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


class Naive(Variant):
    """Softmax(scale * Q K^T) V, step by step (Vaswani et al., 2017, arXiv:1706.03762, equation 1).

    The whole score matrix, (B, Hq, Sq, Sk) in the workload's dtype, is held in memory.
    """

    name = "naive"
    tier = "plain"

    def prepare_function(self, workload: Workload, inputs: Inputs) -> Callable[..., torch.Tensor]:
        """Make the mask, the bias and the dropout mask in advance, so that only the arithmetic is timed."""
        import torch

        from attnbench_variants import _visible

        device = inputs.query.device
        rows, keys = slice(0, workload.seq_q), slice(0, workload.seq_k)
        group = workload.heads // workload.kv_heads
        scale, softcap = workload.effective_scale, workload.softcap
        hidden = _visible.hidden(workload, device)
        blank_rows = hidden is not None and _visible.has_blank_rows(workload)
        bias = None
        if inputs.alibi_slopes is not None:
            bias = -inputs.alibi_slopes[:, None, None] * _visible.distances(rows, keys, workload, device)
            bias = bias.to(inputs.query.dtype)
        kept = _kept(workload, inputs) if workload.dropout else None

        def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            if group > 1:  # query heads h * group to h * group + group - 1 share key head h
                key, value = key.repeat_interleave(group, dim=1), value.repeat_interleave(group, dim=1)
            scores = query @ key.transpose(-2, -1) * scale
            if softcap is not None:
                scores = softcap * torch.tanh(scores / softcap)
            if bias is not None:
                scores = scores + bias
            if hidden is not None:
                scores = scores.masked_fill(hidden, float("-inf"))
            weights = torch.softmax(scores, dim=-1)
            if blank_rows:  # softmax returns NaN for rows without a visible key, but their output is defined as 0
                weights = weights.masked_fill(hidden, 0.0)
            if kept is not None:
                weights = weights * kept / (1.0 - workload.dropout)
            return weights @ value

        return attend


def _kept(workload: Workload, inputs: Inputs) -> torch.Tensor:
    """Return a (B, Hq, Sq, Sk) bool tensor that is True for each weight that dropout keeps."""
    import torch

    from attnbench_variants import _dropout

    device, w = inputs.query.device, workload
    rows = torch.arange(w.batch * w.heads * w.seq_q, device=device).view(w.batch, w.heads, w.seq_q, 1)
    return _dropout.keep(w.dropout, inputs.seed, rows, torch.arange(w.seq_k, device=device))


@hookimpl
def attnbench_variants() -> list[Variant]:
    """Return the variant `naive`."""
    return [Naive()]
