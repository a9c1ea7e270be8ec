"""Seeded tensors of a workload, in a variant's layout."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from attnbench.plugins.variant import Layout
    from attnbench.workloads.workload import Workload

HEAD_MEAN_SPREAD = 0.5  # standard deviation of the per-head means
OUTLIER_SHARE, OUTLIER_SIZE = 0.001, 10.0


@dataclass(frozen=True)
class Inputs:
    """The tensors of one workload. Shapes below are for layout `BHSD`; `BSHD` swaps heads and sequence.

    - `query` (B, Hq, Sq, D), `key` (B, Hkv, Sk, D), `value` (B, Hkv, Sk, Dv): require grad unless forward only
    - `grad_output` (B, Hq, Sq, Dv): what the harness differentiates the output against; None if forward only
    - `key_lengths` (B,) int32: under a `padding` mask, the keys that count in each sequence; else None
    - `document_ids` (B, Sq) int32: under a `document` mask, the document of each position; else None
    - `alibi_slopes` (Hq,) float32: under ALiBi; else None
    - `seed`: what a variant seeds its dropout with
    """

    layout: Layout
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    grad_output: torch.Tensor | None = None
    key_lengths: torch.Tensor | None = None
    document_ids: torch.Tensor | None = None
    alibi_slopes: torch.Tensor | None = None
    seed: int = 0

    @property
    def leaves(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Query, key and value: what gradients are taken for."""
        return self.query, self.key, self.value


def make_inputs(workload: Workload, device: str, layout: Layout = "BHSD", seed: int = 0) -> Inputs:
    """Make the seeded inputs of `workload` on `device`; the same values in each layout and on each device."""
    inputs = Inputs(
        layout=layout,
        **{
            name: torch.empty(shape, dtype=dtype_of(workload), device=device)
            for name, shape in _shapes(workload, layout)
        },
        key_lengths=_key_lengths(workload, device),
        document_ids=_document_ids(workload, device),
        alibi_slopes=alibi_slopes(workload.heads).to(device) if workload.alibi else None,
        seed=seed,
    )
    refill(inputs, seed, workload.distribution)
    if workload.needs_gradient:
        for leaf in inputs.leaves:
            leaf.requires_grad_(True)
    return inputs


def refill(inputs: Inputs, seed: int, distribution: str = "normal") -> None:
    """Overwrite the tensors in place with fresh seeded values; addresses stay, so stale answers show.

    - `normal`: unit variance around a mean per head. What answers are judged on: uniform inputs hide a dropped key or
      a wrong scale, because softmax then averages nearly equal weights.
    - `uniform`: from -1 to 1
    - `integers`: whole numbers from -3 to 3, whose few set bits cost less power
    - `outliers`: `normal`, one value in a thousand ten times as large, as in the activations of language models
    - `zeros`: the least power that a device can draw
    """
    for name in ("query", "key", "value", "grad_output"):
        tensor = getattr(inputs, name)
        if tensor is not None:
            with torch.no_grad():
                tensor.copy_(_drawn(distribution, tensor, inputs.layout, _stream_seed(seed, name)))


def dtype_of(workload: Workload) -> torch.dtype:
    """Give the workload's dtype as torch's."""
    dtype: torch.dtype = getattr(torch, workload.dtype)
    return dtype


def alibi_slopes(heads: int) -> torch.Tensor:
    """Slopes (heads,) of ALiBi (Press et al., 2022, arXiv:2108.12409, section 3), float32.

    A geometric sequence from 2^(-8/n) for n the power of two not above `heads`; the rest is taken, every second
    one, from the sequence for 2n, as the authors' code does.
    """
    power = 1 << (heads.bit_length() - 1)
    slopes = [2 ** (-8 * (index + 1) / power) for index in range(power)]
    slopes += [2 ** (-4 * (2 * index + 1) / power) for index in range(heads - power)]
    return torch.tensor(slopes, dtype=torch.float32)


def _shapes(workload: Workload, layout: Layout) -> list[tuple[str, tuple[int, int, int, int]]]:
    w = workload
    sizes = [
        ("query", w.heads, w.seq_q, w.head_dim),
        ("key", w.kv_heads, w.seq_k, w.head_dim),
        ("value", w.kv_heads, w.seq_k, w.head_dim_v),
    ]
    if w.needs_gradient:
        sizes.append(("grad_output", w.heads, w.seq_q, w.head_dim_v))
    if layout == "BHSD":
        return [(name, (w.batch, heads, length, width)) for name, heads, length, width in sizes]
    return [(name, (w.batch, length, heads, width)) for name, heads, length, width in sizes]


def _drawn(distribution: str, tensor: torch.Tensor, layout: Layout, seed: int) -> torch.Tensor:
    """Draw on the CPU in BHSD order, so that layouts and devices get the same values."""
    generator = torch.Generator().manual_seed(seed)
    batch, first, second, width = tensor.shape
    shape = (batch, first, second, width) if layout == "BHSD" else (batch, second, first, width)
    values = _DISTRIBUTIONS[distribution](shape, generator).to(tensor.dtype)
    return values if layout == "BHSD" else values.transpose(1, 2)


def _normal(shape: Sequence[int], generator: torch.Generator) -> torch.Tensor:
    means = torch.randn((1, shape[1], 1, shape[3]), generator=generator) * HEAD_MEAN_SPREAD
    return torch.randn(shape, generator=generator).add_(means)


def _outliers(shape: Sequence[int], generator: torch.Generator) -> torch.Tensor:
    values = _normal(shape, generator)
    return torch.where(torch.rand(shape, generator=generator) < OUTLIER_SHARE, OUTLIER_SIZE * values, values)


_DISTRIBUTIONS: dict[str, Callable[[Sequence[int], torch.Generator], torch.Tensor]] = {
    "normal": _normal,
    "uniform": lambda shape, generator: torch.rand(shape, generator=generator).mul_(2).sub_(1),
    "integers": lambda shape, generator: torch.randint(-3, 4, shape, generator=generator, dtype=torch.float32),
    "outliers": _outliers,
    "zeros": lambda shape, _: torch.zeros(shape),
}


def _stream_seed(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:7], "big")


def _key_lengths(workload: Workload, device: str) -> torch.Tensor | None:
    if workload.mask.kind != "padding":
        return None
    return torch.tensor(workload.key_lengths, dtype=torch.int32, device=device)


def _document_ids(workload: Workload, device: str) -> torch.Tensor | None:
    if workload.mask.kind != "document":
        return None
    rows = []
    for sequence in range(workload.batch):
        lengths = torch.tensor(workload.document_lengths(sequence))
        rows.append(torch.repeat_interleave(torch.arange(len(lengths), dtype=torch.int32), lengths))
    return torch.stack(rows).to(device) if rows else torch.empty((0, workload.seq_q), dtype=torch.int32, device=device)
