"""The zig-zag split of a sequence over ranks, which gives all ranks the same work under a causal mask.

For N ranks, the sequence is split into 2N chunks. Rank r holds chunk r, which is early and sees few keys, and chunk
2N - 1 - r, which is late and sees many. Llama 3 was trained with this split (Grattafiori et al., 2024,
arXiv:2407.21783, section 3.3.2).
"""

from __future__ import annotations

import torch


def chunks_of(rank: int, ranks: int) -> tuple[int, int]:
    """Return the indices of the two chunks that `rank` holds, the earlier chunk first."""
    return rank, 2 * ranks - 1 - rank


def scattered(whole: torch.Tensor, ranks: int) -> list[torch.Tensor]:
    """Split a (B, H, S, D) tensor into one contiguous (B, H, S / ranks, D) tensor for each rank.

    S must be a multiple of 2 * ranks.
    """
    chunks = whole.chunk(2 * ranks, dim=2)
    return [torch.cat([chunks[index] for index in chunks_of(rank, ranks)], dim=2) for rank in range(ranks)]


def gathered(parts: list[torch.Tensor]) -> torch.Tensor:
    """Join the parts of all ranks into a (B, H, S, D) tensor, as the inverse of `scattered`."""
    ranks = len(parts)
    chunks: list[torch.Tensor] = [parts[0]] * (2 * ranks)
    for rank, part in enumerate(parts):
        for index, chunk in zip(chunks_of(rank, ranks), part.chunk(2, dim=2), strict=True):
            chunks[index] = chunk
    return torch.cat(chunks, dim=2)
