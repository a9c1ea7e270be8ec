"""The input tensors of a workload, generated from a seed in the layout of a variant."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from attnbench.reference import in_bhsd
from attnbench.tensors.chunks import chunks

if TYPE_CHECKING:
    from attnbench.plugins.variant import Layout
    from attnbench.workloads.workload import Workload

HEAD_MEAN_DEVIATION = 0.5  # standard deviation of the per-head means in the `normal` distribution
# In the `outliers` distribution, this share of the values is multiplied by this factor.
OUTLIER_SHARE, OUTLIER_FACTOR = 0.001, 10.0
DRAWN = ("query", "key", "value", "grad_output")  # the tensors that contain random values


@dataclass(frozen=True)
class Inputs:
    """The input tensors of one workload.

    Shapes are given for layout `BHSD`. In layout `BSHD`, the heads and sequence axes are swapped.


    - `query` (B, Hq, Sq, D), `key` (B, Hkv, Sk, D), `value` (B, Hkv, Sk, Dv): these tensors require gradients unless
      the direction is `forward`
    - `grad_output` (B, Hq, Sq, Dv): the gradient of the output, from which the backward pass starts; None if the
      direction is `forward`
    - `key_lengths` (B,) int32: with a `padding` mask, the number of valid keys in each sequence; otherwise None
    - `document_ids` (B, Sq) int32: with a `document` mask, the document id of each position; otherwise None
    - `alibi_slopes` (Hq,) float32: with ALiBi, the slope of each head; otherwise None
    - `seed`: the seed that a variant uses for dropout
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
        """The tensors for which gradients are computed: query, key and value."""
        return self.query, self.key, self.value


def make_inputs(workload: Workload, device: str, layout: Layout = "BHSD", seed: int = 0) -> Inputs:
    """Return the inputs of `workload` on `device`.

    Their values depend on the workload, the seed and the type of the device, but not on the layout.
    """
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


def refill(inputs: Inputs, seed: int, distribution: str = "normal", names: Sequence[str] = DRAWN) -> None:
    """Overwrite the tensors named by `names` in place with new values generated from `seed`.

    The tensors keep their addresses. If a variant caches outputs by input address, the cached output becomes wrong
    and is detected. The distributions are:

    - `normal`: unit variance around a random mean per head. Outputs are checked with these values. With uniform values,
      all softmax weights would be nearly equal, so a missing key or a wrong scale would hardly change the output.
    - `uniform`: from -1 to 1
    - `integers`: whole numbers from -3 to 3. Few of their bits are set, so the device needs less power.
    - `outliers`: `normal` values of which one in a thousand is multiplied by ten, as in the activations of language
      models
    - `zeros`: only zeros, for which the device needs the least power
    """
    for name in names:
        tensor = getattr(inputs, name)
        if tensor is not None:
            generator = generator_on(tensor.device, _stream_seed(seed, name))
            _fill(in_bhsd(tensor.detach(), inputs.layout), distribution, generator)


def generator_on(device: torch.device, seed: int) -> torch.Generator:
    """Return a generator on `device` that is seeded with `seed`.

    Values are drawn where they are needed, because drawing them on the CPU and copying them would leave a GPU idle for
    minutes.
    """
    return torch.Generator(device).manual_seed(seed)


def dtype_of(workload: Workload) -> torch.dtype:
    """Return the torch dtype of the workload."""
    dtype: torch.dtype = getattr(torch, workload.dtype)
    return dtype


def alibi_slopes(heads: int) -> torch.Tensor:
    """Return the ALiBi slopes as (heads,) float32 (Press et al., 2022, arXiv:2108.12409, section 3).

    Let n be the largest power of two up to `heads`. The first n slopes are a geometric sequence from 2^(-8/n) to 2^-8.
    The remaining slopes are every second slope of the sequence for 2n heads, as in the authors' code.
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


def _fill(tensor: torch.Tensor, distribution: str, generator: torch.Generator) -> None:
    """Overwrite `tensor` (B, H, S, D) with new values, which are drawn in chunks in the order of its indices."""
    shape = (1, tensor.shape[1], 1, tensor.shape[3])
    means = torch.randn(shape, generator=generator, device=tensor.device) * HEAD_MEAN_DEVIATION
    for values, of_heads in zip(chunks(tensor), chunks(means.expand(tensor.shape)), strict=True):
        values.copy_(_DISTRIBUTIONS[distribution](of_heads, generator))


def _normal(means: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(means.shape, generator=generator, device=means.device).add_(means)


def _uniform(means: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(means.shape, generator=generator, device=means.device).mul_(2).sub_(1)


def _integers(means: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(-3, 4, means.shape, generator=generator, device=means.device, dtype=torch.float32)


def _outliers(means: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    values = _normal(means, generator)
    chosen = torch.rand(means.shape, generator=generator, device=means.device) < OUTLIER_SHARE
    return torch.where(chosen, OUTLIER_FACTOR * values, values)


# Each function returns float32 values for one chunk, whose shape and device are those of the means of its heads.
_DISTRIBUTIONS: dict[str, Callable[[torch.Tensor, torch.Generator], torch.Tensor]] = {
    "normal": _normal,
    "uniform": _uniform,
    "integers": _integers,
    "outliers": _outliers,
    "zeros": lambda means, _: torch.zeros(means.shape, device=means.device),
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
