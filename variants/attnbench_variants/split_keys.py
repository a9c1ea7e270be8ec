"""Decoding with keys split into parts that are processed in parallel, so that one query can use a whole device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench import Inputs, Variant, Workload, hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

MAX_QUERIES = 64  # per sequence
MAX_PARTS = 32
MIN_KEYS_PER_PART = 256  # with smaller parts, splitting costs more time than it saves


class SplitKeys(Variant):
    """Attention that processes equal parts of the keys in parallel and merges the results, in plain torch and float32.

    The algorithm follows Flash-Decoding (Dao et al., 2023, pytorch.org/blog/flash-decoding). All scores are in memory
    at once, which is affordable because there are few queries.
    """

    name = "chunked-splitkv"

    def unsupported_reason(self, workload: Workload, device: str) -> str | None:  # noqa: ARG002 - the same on all devices
        """Return why the workload can't be computed as decoding, or None if it can."""
        if workload.seq_q > MAX_QUERIES:
            return f"is made for decoding, with at most {MAX_QUERIES} queries per sequence, not {workload.seq_q}"
        if workload.dropout:
            return "is made for decoding and has no dropout"
        return None

    def prepare_function(self, workload: Workload, inputs: Inputs) -> Callable[..., torch.Tensor]:
        """Make the mask and the bias, split them into the same parts as the keys, and return the timed function."""
        from attnbench_variants import _visible

        w, device = workload, inputs.query.device
        parts = _parts(w.seq_k)
        hidden = _visible.hidden(w, device)
        if hidden is not None:  # the result has the shape (B or 1, 1, parts, 1, Sq, keys per part)
            hidden = _cut(hidden[:, :, None], parts)
        bias = None
        if inputs.alibi_slopes is not None:
            distances = _visible.distances(slice(0, w.seq_q), slice(0, w.seq_k), w, device)
            slopes = inputs.alibi_slopes.view(1, w.kv_heads, -1, 1, 1)
            bias = _cut(-slopes * distances, parts)
        return lambda *leaves: _attend(w, *leaves, parts=parts, hidden=hidden, bias=bias)


def _attend(
    workload: Workload,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    parts: int,
    hidden: torch.Tensor | None,
    bias: torch.Tensor | None,
) -> torch.Tensor:
    """Attend to each part of the keys, and merge the results.

    Intermediate tensors are (B, Hkv, parts, group, Sq, ...).
    """
    import torch

    w = workload
    group = w.heads // w.kv_heads
    dtype = query.dtype
    query = (query.float() * w.effective_scale).unflatten(1, (w.kv_heads, group)).flatten(2, 3)
    key, value = (tensor.float().unflatten(2, (parts, -1)) for tensor in (key, value))
    scores = (query[:, :, None] @ key.mT).unflatten(3, (group, w.seq_q))
    if w.softcap is not None:
        scores = w.softcap * torch.tanh(scores / w.softcap)
    if bias is not None:
        scores = scores + bias
    if hidden is not None:
        scores = scores.masked_fill(hidden, float("-inf"))
    lowest = torch.finfo(scores.dtype).min  # finite, so that parts of the keys that are entirely hidden add exactly 0
    peak = scores.detach().amax(-1, keepdim=True).clamp(min=lowest) if w.seq_k else scores.new_zeros(())
    weights = torch.exp(scores - peak)
    output = (weights.flatten(3, 4) @ value).unflatten(3, (group, w.seq_q))
    share = torch.exp(peak - peak.amax(2, keepdim=True)) if w.seq_k else peak
    total = (share * weights.sum(-1, keepdim=True)).sum(2)
    merged = (share * output).sum(2) / total.masked_fill(total == 0, 1.0)
    return merged.flatten(1, 2).to(dtype)


def _parts(keys: int) -> int:
    """Return the largest number of equal parts, up to MAX_PARTS, that have at least MIN_KEYS_PER_PART keys each."""
    most = max(1, min(MAX_PARTS, keys // MIN_KEYS_PER_PART))
    return next(parts for parts in range(most, 0, -1) if keys % parts == 0)


def _cut(tensor: torch.Tensor, parts: int) -> torch.Tensor:
    """Reshape (..., group, Sq, Sk) to (..., parts, group, Sq, Sk / parts)."""
    return tensor.unflatten(-1, (parts, -1 if tensor.shape[-1] else 0)).movedim(-2, -4)


@hookimpl
def attnbench_variants() -> list[Variant]:
    """Return the variant `chunked-splitkv`."""
    return [SplitKeys()]
