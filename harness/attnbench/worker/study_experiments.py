"""Computations for studies that don't time anything: `python -m attnbench.worker.study_experiments NAME`.

The computations run in a separate process because they need torch, which the supervisor does not import. Their
options are read from stdin as a JSON object, and their rows are written to stdout as a JSON list.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch

from attnbench.reference import attention


def scaling_factor(
    head_dims: Sequence[int] = (16, 32, 64, 128, 256, 512, 1024), keys: int = 256, queries: int = 256, seed: int = 0
) -> list[dict[str, Any]]:
    """Compare the softmax of scores with and without the factor 1/sqrt(head_dim), for several values of head_dim.

    The elements of query and key have a standard normal distribution, as assumed in Vaswani et al., 2017,
    arXiv:1706.03762, section 3.2.1, footnote 4. Returns two rows for each head_dim, one with and one without the
    factor:

    - `head_dim`, `scaled`: the head_dim, and whether the scores are multiplied by the factor
    - `variance`: the variance of the scores
    - `entropy`: the entropy of the weights in nats, averaged over the queries
    - `most_entropy`: the largest possible entropy, log(keys)
    - `gradient_norm`: the Frobenius norm of softmax's Jacobian, averaged over the queries
    """
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for head_dim in head_dims:
        query = torch.randn((queries, head_dim), generator=generator, dtype=torch.float64)
        key = torch.randn((keys, head_dim), generator=generator, dtype=torch.float64)
        for scaled in (True, False):
            scores = (query @ key.mT) * (head_dim**-0.5 if scaled else 1.0)
            weights = scores.softmax(-1)
            rows.append(
                {
                    "head_dim": head_dim,
                    "scaled": scaled,
                    "variance": scores.var().item(),
                    "entropy": torch.special.entr(weights).sum(-1).mean().item(),
                    "most_entropy": math.log(keys),
                    "gradient_norm": _jacobian_norm(weights).mean().item(),
                }
            )
    return rows


def _jacobian_norm(weights: torch.Tensor) -> torch.Tensor:
    """Return the Frobenius norm of softmax's Jacobian, diag(w) - w w^T, for each row w of the weights."""
    squares = weights.square()
    return (squares.sum(-1) - 2 * (squares * weights).sum(-1) + squares.sum(-1).square()).clamp(min=0).sqrt()


def attention_weights(sentence: str, head_dim: int = 64, seed: int = 0) -> list[dict[str, Any]]:
    """Return the attention weights of a sentence, without a mask and with the causal mask.

    No trained model is involved. Each distinct word gets a random embedding, to which the sinusoidal encoding of the
    word's position is added (Vaswani et al., 2017, arXiv:1706.03762, section 3.5). Both query and key are this sum
    multiplied by 0.5, which prevents a single weight from dominating.

    Returns one row per mask, with `mask`, `words` and `weights` (words x words).
    """
    words = sentence.split()
    generator = torch.Generator().manual_seed(seed)
    vocabulary = {word: torch.randn(head_dim, generator=generator) for word in dict.fromkeys(words)}
    embedded = torch.stack([vocabulary[word] for word in words]).double() + _positions(len(words), head_dim)
    embedded *= 0.5
    everything = torch.ones((len(words), len(words)), dtype=torch.bool)
    return [
        {
            "mask": mask,
            "words": words,
            "weights": attention(embedded, embedded, embedded, visible, scale=head_dim**-0.5).weights.tolist(),
        }
        for mask, visible in (("none", everything), ("causal", everything.tril()))
    ]


def steps(
    sentence: str = "the cat sat on the mat", width: int = 8, head_dim: int = 4, heads: int = 3, seed: int = 4
) -> list[dict[str, Any]]:
    """Return the matrix that each attention step computes for a sentence, from the embeddings to the output.

    The last matrices are the causal weights of several heads. Embeddings and projections are random. Identical words
    have identical embeddings, and positions are not encoded.

    Returns one row per matrix, with `step`, `title`, `words` and `matrix`. The matrix is a list of rows and has the
    shape words x width, words x head_dim or words x words.
    """
    words = sentence.split()
    generator = torch.Generator().manual_seed(seed)
    vocabulary = {word: torch.randn(width, generator=generator) for word in dict.fromkeys(words)}
    embeddings = torch.stack([vocabulary[word] for word in words])

    def project() -> torch.Tensor:
        projected: torch.Tensor = embeddings @ (torch.randn(width, head_dim, generator=generator) / width**0.5)
        return projected

    query, key, value = project(), project(), project()
    scores = query @ key.T
    weights = (scores / head_dim**0.5).softmax(-1)
    hidden = torch.ones(len(words), len(words), dtype=torch.bool).triu(1)
    matrices = [
        ("embeddings", "embeddings X", embeddings),
        ("query", "query Q = X Wq", query),
        ("key", "key K = X Wk", key),
        ("value", "value V = X Wv", value),
        ("scores", "scores Q Kᵀ", scores),
        ("scaled", "scaled scores Q Kᵀ / √D", scores / head_dim**0.5),
        ("weights", "weights: softmax of each row", weights),
        ("output", "output: weights times V", weights @ value),
    ]
    for head in range(heads):
        weights_of_head = (project() @ project().T / head_dim**0.5).masked_fill(hidden, float("-inf")).softmax(-1)
        matrices.append(("heads", f"causal weights of head {head}", weights_of_head))
    return [
        {"step": step, "title": title, "words": words, "matrix": matrix.tolist()} for step, title, matrix in matrices
    ]


def _positions(length: int, width: int) -> torch.Tensor:
    position = torch.arange(length, dtype=torch.float64)[:, None]
    angle = position * 10000 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    return torch.stack((angle.sin(), angle.cos()), -1).reshape(length, width)


EXPERIMENTS: dict[str, Callable[..., list[dict[str, Any]]]] = {
    "scaling-factor": scaling_factor,
    "weights": attention_weights,
    "steps": steps,
}


def main() -> None:
    """Run the experiment named on the command line with options from stdin, and write its rows to stdout."""
    rows = EXPERIMENTS[sys.argv[1]](**json.load(sys.stdin))
    json.dump(rows, sys.stdout, allow_nan=False)


if __name__ == "__main__":
    main()
