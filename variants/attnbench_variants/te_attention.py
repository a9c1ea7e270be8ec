"""NVIDIA Transformer Engine's DotProductAttention."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from attnbench import Inputs, Variant, Workload, hookimpl
from attnbench_variants._library_support import Abilities

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

FIRST_VERSION_WITH_SOFTCAP = (2, 20)
ABILITIES = Abilities(
    library="transformer_engine.pytorch",
    package="transformer-engine[pytorch]",
    masks=frozenset({"none", "causal", "causal-top-left", "window", "padding", "document"}),
    softcap=True,
    alibi=True,
    dropout=True,
    other_value_dim=True,
)


class TransformerEngine(Variant):
    """transformer_engine.pytorch.DotProductAttention, which chooses its backend itself, on (B, S, H, D) tensors."""

    name = "transformer-engine"
    # Transformer Engine may call flash-attn or flash-attn-3, so their versions are recorded, too.
    packages = ("transformer-engine", "transformer-engine-torch", "flash-attn", "flash-attn-3")
    layout = "BSHD"
    alignment_bytes = 16  # the kernels of flash-attn and cuDNN load 16 bytes at a time

    def unsupported_reason(self, workload: Workload, device: str) -> str | None:
        """Return what Transformer Engine lacks for the workload, or None if the workload is supported."""
        return ABILITIES.lacking(workload, device) or next(_refusals(workload), None)

    def prepare_function(self, workload: Workload, inputs: Inputs) -> Callable[..., torch.Tensor]:
        """Make the module and its arguments, and return the timed function."""
        from transformer_engine.pytorch import DotProductAttention

        from attnbench_variants._packing import packing

        w = workload
        document = w.mask.kind == "document"
        module = DotProductAttention(
            num_attention_heads=w.heads,
            kv_channels=w.head_dim if w.head_dim == w.head_dim_v else (w.head_dim, w.head_dim_v),
            num_gqa_groups=w.kv_heads,
            attention_dropout=w.dropout,
            qkv_format="thd" if document else "bshd",
            attention_type="self" if w.seq_q == w.seq_k else "cross",
            softmax_scale=w.effective_scale,
            **_mask_arguments(w),
            **({} if w.softcap is None else {"softcap": w.softcap}),
        )
        arguments: dict[str, Any] = {}
        if inputs.alibi_slopes is not None:
            arguments |= {"core_attention_bias_type": "alibi", "alibi_slopes": inputs.alibi_slopes}
        packed = packing(w, inputs.query.device) if w.mask.is_seeded else None
        if packed is not None:
            arguments |= {
                "cu_seqlens_q": packed.query_starts,
                "cu_seqlens_kv": packed.key_starts,
                "max_seqlen_q": packed.longest_query if document else w.seq_q,
                "max_seqlen_kv": packed.longest_key if document else w.seq_k,
            }
        shape = (w.batch, w.seq_q, w.heads, w.head_dim_v)

        def attend(*leaves: torch.Tensor) -> torch.Tensor:
            leaves = packed.pack(*leaves) if document and packed else leaves
            return module(*leaves, **arguments).reshape(shape)

        return attend


def _refusals(workload: Workload) -> Iterator[str]:
    """Yield reasons for refusing ALiBi without a causal mask, and softcap if the installed version lacks it."""
    from attnbench_variants._visible import simplest_kind

    if workload.alibi and simplest_kind(workload) != "causal":
        yield "Transformer Engine's ALiBi uses signed distances, which equal the absolute ones only under a causal mask"
    if workload.softcap is not None:
        installed_version = tuple(int(part) for part in version("transformer-engine").split(".")[:2])
        if installed_version < FIRST_VERSION_WITH_SOFTCAP:
            since = ".".join(map(str, FIRST_VERSION_WITH_SOFTCAP))
            yield f"Transformer Engine before {since} has no softcap (pip install -U transformer-engine[pytorch])"


def _mask_arguments(workload: Workload) -> dict[str, Any]:
    """Return the arguments for the mask: `attn_mask_type` and, for a window, `window_size`."""
    from attnbench_variants._visible import simplest_kind

    kind, mask = simplest_kind(workload), workload.mask
    if kind == "window":
        causal = mask.right == 0
        return {
            "attn_mask_type": "causal_bottom_right" if causal else "no_mask",
            "window_size": (mask.left, mask.right),
        }
    names = {"none": "no_mask", "causal": "causal_bottom_right", "causal-top-left": "causal"}
    return {"attn_mask_type": names.get(kind, "padding")}


@hookimpl
def attnbench_variants() -> list[Variant]:
    """Return the variant `transformer-engine`."""
    return [TransformerEngine()]
