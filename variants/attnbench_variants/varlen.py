"""Attention over packed sequences, by torch's varlen kernel and by torch's nested tensors."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from attnbench import Inputs, Variant, Workload, hookimpl
from attnbench_variants._library_support import Abilities, installed

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

ABILITIES = Abilities(
    library="torch.nn.attention.varlen",
    package="torch>=2.10",
    masks=frozenset({"none", "causal", "window", "padding", "document"}),
)


class Varlen(Variant):
    """torch.nn.attention.varlen.varlen_attn: FlashAttention on packed sequences, CUDA only.

    Padding is removed in the timed call, as users have to do; documents are packed already.
    """

    name = "varlen"
    layout = "BSHD"

    def unsupported_reason(self, workload: Workload, device: str) -> str | None:
        """Return what torch's varlen kernel lacks for the workload, or None."""
        reason = ABILITIES.lacking(workload, device)
        if reason is None and "window_size" not in _parameters():
            return "needs torch 2.11 or later, whose varlen_attn has windows (pip install -U torch)"
        return reason

    def prepare(self, workload: Workload, inputs: Inputs) -> Callable[[], torch.Tensor]:
        """Compute where each sequence begins."""
        from torch.nn.attention.varlen import varlen_attn

        from attnbench_variants._packing import packing
        from attnbench_variants._visible import simplest_kind

        w, kind = workload, simplest_kind(workload)
        packed = packing(w, inputs.query.device)
        windows = {"causal": (-1, 0), "window": (w.mask.left, w.mask.right)}
        arguments: dict[str, Any] = {
            "cu_seq_q": packed.query_starts,
            "cu_seq_k": packed.key_starts,
            "max_q": packed.longest_query,
            "max_k": packed.longest_key,
            "scale": w.effective_scale,
            "window_size": windows.get(kind, (-1, -1)),
            "enable_gqa": w.heads != w.kv_heads,
        }
        batch = (w.batch, w.seq_q)
        return lambda: varlen_attn(*packed.pack(*inputs.leaves), **arguments).unflatten(0, batch)


class NestedSdpa(Variant):
    """scaled_dot_product_attention on jagged nested tensors, made of packed sequences in the timed call.

    On a CPU torch scales query and key separately in their own dtype, which loses more digits in half precision than a
    plain implementation, so that only float32 is supported there. Without a fitting fused kernel torch stores the
    scores in the workload's dtype, so it is judged as a plain variant.
    """

    name = "varlen-nested"
    default_on = ("cuda",)
    tier = "plain"
    layout = "BSHD"

    def unsupported_reason(self, workload: Workload, device: str) -> str | None:
        """Return what nested tensors lack for the workload, or None."""
        from attnbench_variants._visible import simplest_kind

        w = workload
        refusals = (
            (
                device == "cpu" and w.dtype != "float32",
                f"dtype {w.dtype}: on a CPU torch's nested tensors lose more digits than a plain implementation may",
            ),
            (w.heads != w.kv_heads, "torch's nested tensors have no grouped queries: kv_heads must equal heads"),
            (w.softcap is not None, "scaled_dot_product_attention has no softcap"),
            (w.alibi, "torch's nested tensors do not support a bias"),
            (w.dropout > 0, "dropout on nested tensors is not offered by all of torch's backends"),
            (
                simplest_kind(w) not in ("none", "padding", "document"),
                f"torch's nested tensors do not support mask {w.mask}, only none, padding and document",
            ),
            (0 in (w.batch, w.seq_q, w.seq_k), "nested tensors do not support an empty batch or sequence"),
        )
        return next((reason for applies, reason in refusals if applies), None)

    def prepare(self, workload: Workload, inputs: Inputs) -> Callable[[], torch.Tensor]:
        """Compute where each sequence begins."""
        from torch.nested import nested_tensor_from_jagged
        from torch.nn.functional import scaled_dot_product_attention

        from attnbench_variants._packing import packing

        w, scale = workload, workload.scale
        packed = packing(w, inputs.query.device)
        query_starts, key_starts = packed.query_starts.long(), packed.key_starts.long()
        starts = query_starts, key_starts, key_starts
        longest = packed.longest_query, packed.longest_key, packed.longest_key

        def attend() -> torch.Tensor:
            nested = (
                nested_tensor_from_jagged(_at_start(values.contiguous()), offsets, max_seqlen=length).transpose(1, 2)
                for values, offsets, length in zip(packed.pack(*inputs.leaves), starts, longest, strict=True)
            )
            output = scaled_dot_product_attention(*nested, scale=scale)
            output = output.transpose(1, 2).values().unflatten(0, (w.batch, w.seq_q))
            if output.requires_grad:
                output.register_hook(_at_start)
            return output

        return attend


def _at_start(tensor: torch.Tensor) -> torch.Tensor:
    """Copy a view that begins inside its storage, because the backward pass of nested tensors loses the offset."""
    return tensor.clone() if tensor.storage_offset() else tensor


def _parameters() -> set[str]:
    if not installed("torch.nn.attention.varlen"):
        return set()
    from torch.nn.attention.varlen import varlen_attn

    return set(inspect.signature(varlen_attn).parameters)


@hookimpl
def attnbench_variants() -> list[Variant]:
    """Return `varlen` and `varlen-nested`."""
    return [Varlen(), NestedSdpa()]
