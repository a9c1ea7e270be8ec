"""Memory-efficient attention, a torch port of the listing by Rabe and Staats.

Source: Rabe and Staats, 2021, arXiv:2112.05682, figure 1. The outer loop is over chunks of queries and the inner loop
over chunks of keys. Each chunk of keys is checkpointed, so that the backward pass recomputes it. The results of all
chunks of keys are merged at the end. This port is a baseline for comparison and follows the listing without
optimisations: nothing is done in place, and masked chunks are not skipped.
"""

import torch
from torch.utils.checkpoint import checkpoint

QUERY_CHUNK, KEY_CHUNK = 1024, 4096  # the default chunk sizes in Rabe and Staats' paper


def rabe_staats_attention(query, key, value, *, causal=False, query_chunk=QUERY_CHUNK, key_chunk=KEY_CHUNK):
    """Return the attention output. All tensors have the shape (B, S, H, D)."""
    chunks = []
    for start in range(0, query.shape[1], query_chunk):
        rows = query[:, start : start + query_chunk]
        chunks.append(_attend_rows(rows, key, value, start if causal else None, key_chunk))
    return torch.cat(chunks, dim=1)


def _attend_rows(query, key, value, first_row, key_chunk):
    query = query / query.shape[-1] ** 0.5
    values, weights, peaks = [], [], []
    for start in range(0, key.shape[1], key_chunk):
        keys, chunk_values = key[:, start : start + key_chunk], value[:, start : start + key_chunk]
        hidden = None
        if first_row is not None:
            row = torch.arange(first_row, first_row + query.shape[1])[:, None]
            hidden = (torch.arange(start, start + keys.shape[1]) > row)[None, :, None]
        part = checkpoint(_summarise, query, keys, chunk_values, hidden, use_reentrant=False)
        for results, result in zip((values, weights, peaks), part, strict=True):
            results.append(result)
    values, weights, peaks = torch.stack(values), torch.stack(weights), torch.stack(peaks)
    scale = torch.exp(peaks - peaks.amax(0, keepdim=True))
    return (values * scale).sum(0) / (weights * scale[..., 0]).sum(0)[..., None]


def _summarise(query, key, value, hidden):
    scores = torch.einsum("bqhd,bkhd->bqhk", query, key)
    if hidden is not None:
        scores = torch.where(hidden, torch.finfo(scores.dtype).min, scores)
    peak = scores.amax(-1, keepdim=True).detach()
    weights = torch.exp(scores - peak)
    return torch.einsum("bvhd,bqhv->bqhd", value, weights), weights.sum(-1), peak
