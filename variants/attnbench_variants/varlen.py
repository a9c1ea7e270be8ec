"""Attention over packed sequences, with torch's varlen kernel or torch's nested tensors."""

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
    """torch.nn.attention.varlen.varlen_attn, which runs FlashAttention on packed sequences; CUDA only.

    The timed call removes the padding, because users would also have to remove it. Documents are already packed.
    """

    name = "varlen"
    layout = "BSHD"
    alignment_bytes = 16  # FlashAttention's kernels load 16 bytes at a time

    def unsupported_reason(self, workload: Workload, device: str) -> str | None:
        """Return what torch's varlen kernel lacks for the workload, or None if the workload is supported."""
        reason = ABILITIES.lacking(workload, device)
        if reason is None and "window_size" not in _parameters():
            return "needs torch 2.11 or later, whose varlen_attn supports windows (pip install -U torch)"
        if reason is None and workload.heads != workload.kv_heads and "enable_gqa" not in _parameters():
            return "needs torch 2.12 or later, whose varlen_attn supports grouped heads (pip install -U torch)"
        return reason

    def prepare_function(self, workload: Workload, inputs: Inputs) -> Callable[..., torch.Tensor]:
        """Compute where each sequence begins, and return the timed function."""
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
        }
        if w.heads != w.kv_heads:
            arguments["enable_gqa"] = True  # not known to torch 2.11
        batch = (w.batch, w.seq_q)
        return lambda *leaves: varlen_attn(*packed.pack(*leaves), **arguments).unflatten(0, batch)


class NestedSdpa(Variant):
    """scaled_dot_product_attention on jagged nested tensors, which the timed call makes from packed sequences.

    On a CPU, torch scales query and key separately in their own dtype. In half precision this is less precise than a
    plain implementation, so only float32 is supported on a CPU. If torch has no fused kernel for the workload, it
    stores the scores in the workload's dtype, so the variant has the tier `plain`.
    """

    name = "varlen-nested"
    default_on = ("cuda",)
    tier = "plain"
    layout = "BSHD"
    alignment_bytes = 16  # the fused kernels of torch load 16 bytes at a time

    def unsupported_reason(self, workload: Workload, device: str) -> str | None:
        """Return what nested tensors lack for the workload, or None if the workload is supported."""
        from attnbench_variants._visible import simplest_kind

        w = workload
        refusals = (
            (
                device == "cpu" and w.dtype != "float32",
                f"on a CPU, torch's nested tensors are less precise in {w.dtype} than the tier plain allows",
            ),
            (w.heads != w.kv_heads, "torch's nested tensors have no grouped queries: kv_heads must equal heads"),
            (w.softcap is not None, "scaled_dot_product_attention has no softcap"),
            (w.alibi, "torch's nested tensors do not support a bias"),
            (w.dropout > 0, "not all of torch's backends support dropout on nested tensors"),
            (
                simplest_kind(w) not in ("none", "padding", "document"),
                f"torch's nested tensors do not support the mask {w.mask}, only none, padding and document",
            ),
            (0 in (w.batch, w.seq_q, w.seq_k), "torch's nested tensors do not support an empty batch or sequence"),
        )
        return next((reason for applies, reason in refusals if applies), None)

    def prepare_function(self, workload: Workload, inputs: Inputs) -> Callable[..., torch.Tensor]:
        """Compute where each sequence begins, and return the timed function."""
        from torch.nested import nested_tensor_from_jagged
        from torch.nn.functional import scaled_dot_product_attention

        from attnbench_variants._packing import packing

        w, scale = workload, workload.scale
        packed = packing(w, inputs.query.device)
        query_starts, key_starts = packed.query_starts.long(), packed.key_starts.long()
        starts = query_starts, key_starts, key_starts
        longest = packed.longest_query, packed.longest_key, packed.longest_key

        def attend(*leaves: torch.Tensor) -> torch.Tensor:
            nested = (
                nested_tensor_from_jagged(_at_start(values.contiguous()), offsets, max_seqlen=length).transpose(1, 2)
                for values, offsets, length in zip(packed.pack(*leaves), starts, longest, strict=True)
            )
            output = scaled_dot_product_attention(*nested, scale=scale)
            output = output.transpose(1, 2).values().unflatten(0, (w.batch, w.seq_q))
            if output.requires_grad:
                output.register_hook(_at_start)
            return output

        return attend


def _at_start(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor, or a copy of it if it does not begin at the start of its storage.

    The backward pass of nested tensors ignores the offset of a tensor in its storage.
    """
    return tensor.clone() if tensor.storage_offset() else tensor


def _parameters() -> set[str]:
    if not installed("torch.nn.attention.varlen"):
        return set()
    from torch.nn.attention.varlen import varlen_attn

    return set(inspect.signature(varlen_attn).parameters)


@hookimpl
def attnbench_variants() -> list[Variant]:
    """Return the variants `varlen` and `varlen-nested`."""
    return [Varlen(), NestedSdpa()]
