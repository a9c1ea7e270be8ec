"""torch's flex_attention, compiled by torch.compile."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from attnbench import Inputs, Variant, Workload, hookimpl
from attnbench_variants._library_support import lacking_triton

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch.nn.attention.flex_attention import BlockMask

MIN_HEAD_DIM_ON_CUDA = 16
BLOCK = 128  # queries and keys per block of a block mask, torch's default
MAX_RECOMPILATIONS = 1 << 16  # effectively no limit: no run needs this many recompilations


class Flex(Variant):
    """torch.nn.attention.flex_attention, compiled into kernels that include the mask, softcap and ALiBi.

    flex_attention is described in Dong et al., 2024, arXiv:2412.05496. `prepare` makes the block mask and compiles the
    kernel.
    """

    name = "flex"
    packages = ("triton",)  # flex_attention needs triton to compile kernels for a GPU
    default_on = ("cuda",)  # not on a CPU, where compiling for a workload takes half a minute
    costly_on = ("cpu", "cuda")  # because the kernel is recompiled for each shape and mask

    def unsupported_reason(self, workload: Workload, device: str) -> str | None:
        """Return what flex_attention lacks for the workload, or None if the workload is supported."""
        w, on_cpu = workload, device == "cpu"
        refusals = (
            (w.dropout > 0, "flex_attention has no dropout"),
            (on_cpu and w.needs_gradient, "flex_attention has no backward pass on the CPU"),
            (0 in (w.batch, w.seq_q, w.seq_k), "flex_attention does not support an empty batch or sequence"),
            (
                not on_cpu and min(w.head_dim, w.head_dim_v) < MIN_HEAD_DIM_ON_CUDA,
                f"flex_attention supports a head_dim of {MIN_HEAD_DIM_ON_CUDA} or more on CUDA",
            ),
        )
        reason = next((reason for applies, reason in refusals if applies), None)
        return reason if reason or on_cpu else lacking_triton()

    def prepare_function(self, workload: Workload, inputs: Inputs) -> Callable[..., torch.Tensor]:
        """Make the block mask, compile the kernel with a first call, and return the timed function."""
        from attnbench_variants._visible import sees_everything

        w = workload
        arguments: dict[str, Any] = {
            "score_mod": score_function(w, inputs),
            "block_mask": None if sees_everything(w) else make_block_mask(w, inputs),
            "scale": w.effective_scale,
            "enable_gqa": w.heads != w.kv_heads,
        }
        compiled = _compiled()

        def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            return compiled(query, key, value, **arguments)

        attend(*inputs.leaves)
        return attend


def make_block_mask(workload: Workload, inputs: Inputs) -> BlockMask:
    """Return the same BlockMask as torch's create_block_mask, which would need 10 bytes for each query and key.

    Because the keys that a row sees are one range, only the ends of these ranges are compared with the ends of each
    block of keys. This needs about 4 bytes for each query and block of keys.
    """
    import torch
    from torch.nn.attention.flex_attention import BlockMask
    from torch.nn.functional import pad

    from attnbench_variants._visible import ranges

    w, device = workload, inputs.query.device
    starts = torch.arange(0, w.seq_k, BLOCK, device=device)
    partial, full = [], []
    for each in ranges(w, device):
        # Rows that fill up the last block see no key, and there are no keys after seq_k, so that a block which is
        # not entirely within the workload is never full.
        low, high = (pad(ends, (0, -w.seq_q % BLOCK)).view(-1, BLOCK, 1) for ends in (each.low, each.high))
        seen = ((low < high) & (low < starts + BLOCK) & (high > starts)).any(1)
        full.append(((low <= starts) & (high >= starts + BLOCK)).all(1))
        partial.append(seen & ~full[-1])
    return BlockMask.from_kv_blocks(
        *_ordered(torch.stack(partial)[:, None]),
        *_ordered(torch.stack(full)[:, None]),
        BLOCK_SIZE=BLOCK,
        mask_mod=mask_function(w, inputs),
        seq_lengths=(w.seq_q, w.seq_k),
    )


def _ordered(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the number of True elements in each row of `blocks`, and the columns with the True elements first.

    Both are int32. `blocks` is (..., rows, columns) bool.
    """
    import torch

    columns = blocks.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    return blocks.sum(-1, dtype=torch.int32), columns.to(torch.int32)


def mask_function(workload: Workload, inputs: Inputs) -> Callable[..., torch.Tensor]:
    """Return the `mask_mod` for the workload's mask.

    It maps indices of batch, head, query and key to a bool tensor that is True where the query sees the key.
    """
    mask, offset = workload.mask, workload.seq_k - workload.seq_q
    left, right, prefix = mask.left, mask.right, mask.prefix
    lengths, documents = inputs.key_lengths, inputs.document_ids

    functions = {
        "causal": lambda _b, _h, q, k: k <= q + offset,
        "causal-top-left": lambda _b, _h, q, k: k <= q,
        "window": lambda _b, _h, q, k: (k >= q + offset - left) & (k <= q + offset + right),
        "prefix": lambda _b, _h, q, k: (k <= q + offset) | (k < prefix),
        "padding": lambda b, _h, _q, k: k < lengths[b],
        "document": lambda b, _h, q, k: documents[b, q] == documents[b, k],
    }
    return functions[mask.kind]


def score_function(workload: Workload, inputs: Inputs) -> Callable[..., torch.Tensor] | None:
    """Return a `score_mod` that applies softcap and ALiBi, or None if the workload has neither."""
    import torch

    cap, slopes, offset = workload.softcap, inputs.alibi_slopes, workload.seq_k - workload.seq_q
    if cap is None and slopes is None:
        return None

    def change(
        score: torch.Tensor, _b: torch.Tensor, h: torch.Tensor, q: torch.Tensor, k: torch.Tensor
    ) -> torch.Tensor:
        if cap is not None:
            score = cap * torch.tanh(score / cap)
        if slopes is not None:
            score = score - slopes[h] * (q + offset - k).abs()
        return score

    return change


@lru_cache(maxsize=1)
def _compiled() -> Callable[..., torch.Tensor]:
    """Return the compiled flex_attention, which all workloads share.

    It is recompiled for each new shape or function. At the default limit of recompilations, torch would fall back to
    uncompiled code, which stores all scores. The limit is raised to avoid this, and `fullgraph` turns any remaining
    fallback into an error.
    """
    import torch
    from torch.nn.attention.flex_attention import flex_attention

    config = torch._dynamo.config  # noqa: SLF001 - torch has no public name for this module
    config.recompile_limit = config.accumulated_recompile_limit = MAX_RECOMPILATIONS
    return torch.compile(flex_attention, dynamic=False, fullgraph=True)


@hookimpl
def attnbench_variants() -> list[Variant]:
    """Return the variant `flex`."""
    return [Flex()]
