"""FlashInfer's kernels for ragged prefill and for decoding from a paged key-value cache."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from attnbench import Inputs, Variant, Workload, hookimpl
from attnbench_variants._library_support import Abilities

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

WORKSPACE_BYTES = 128 << 20  # the size that FlashInfer's documentation recommends
PAGE_SIZE = 16  # keys per page
TENSOR_CORE_GROUP = 4  # with at least this many query heads per key head, decoding is faster on tensor cores
ABILITIES = Abilities(
    library="flashinfer",
    package="flashinfer-python",
    masks=frozenset({"none", "causal", "causal-top-left", "window", "prefix", "padding", "document"}),
    backward=False,
    softcap=True,
    other_value_dim=True,
    min_head_dim=64,
    head_dim_step=64,
)


class FlashInfer(Variant):
    """FlashInfer's batch wrappers (Ye et al., 2025, arXiv:2501.01005); `prepare` plans their kernels.

    The decode wrapper is used if every sequence has a single query that sees all keys of the sequence, and head_dim_v
    equals head_dim. It reads keys and values as pages, which are views of the tensors. All other workloads use the
    ragged prefill wrapper. Prefix masks, top-left causal masks and windows that extend to the right are passed as
    custom masks.
    """

    name = "flashinfer"
    packages = (ABILITIES.package,)
    layout = "BSHD"
    alignment_bytes = 16  # the kernels load 16 bytes at a time

    def unsupported_reason(self, workload: Workload, device: str) -> str | None:
        """Return what FlashInfer lacks for the workload, or None if the workload is supported."""
        return ABILITIES.lacking(workload, device)

    def prepare_function(self, workload: Workload, inputs: Inputs) -> Callable[..., torch.Tensor]:
        """Plan the kernels for the workload and return the timed function."""
        from attnbench_variants._visible import simplest_kind

        one_query = workload.seq_q == 1 and workload.head_dim == workload.head_dim_v
        if one_query and simplest_kind(workload) in ("none", "padding"):
            return _decode(workload, inputs)
        return _prefill(workload, inputs)


def _prefill(workload: Workload, inputs: Inputs) -> Callable[..., torch.Tensor]:
    import flashinfer

    from attnbench_variants import _visible
    from attnbench_variants._packing import packing

    w, device = workload, inputs.query.device
    packed = packing(w, device)
    kind, mask = _visible.simplest_kind(w), w.mask
    left_window = kind == "window" and mask.right == 0
    causal = kind == "causal" or left_window
    custom = None
    if kind not in ("none", "padding", "document") and not causal:
        custom = ~_visible.hidden(w, device).expand(w.batch, -1, -1, -1).flatten()  # type: ignore[union-attr]
    wrapper = flashinfer.BatchPrefillWithRaggedKVCacheWrapper(_workspace(device), kv_layout="NHD")
    wrapper.plan(
        packed.query_starts,
        packed.key_starts,
        num_qo_heads=w.heads,
        num_kv_heads=w.kv_heads,
        head_dim_qk=w.head_dim,
        head_dim_vo=w.head_dim_v,
        custom_mask=custom,
        causal=causal,
        window_left=mask.left if left_window else -1,
        **_common(w, inputs),
    )
    batch = (w.batch, w.seq_q)
    return lambda *leaves: wrapper.run(*packed.pack(*leaves)).unflatten(0, batch)


def _decode(workload: Workload, inputs: Inputs) -> Callable[..., torch.Tensor]:
    import flashinfer
    import torch

    w, device = workload, inputs.query.device
    size = math.gcd(w.seq_k, PAGE_SIZE)
    pages = [-(-length // size) for length in w.key_lengths]
    first = [number * w.seq_k // size for number in range(w.batch)]
    starts = torch.tensor([0, *pages], dtype=torch.int32, device=device).cumsum(0, dtype=torch.int32)
    indices = torch.cat([torch.arange(begin, begin + count) for begin, count in zip(first, pages, strict=True)])
    last = [length - (count - 1) * size for length, count in zip(w.key_lengths, pages, strict=True)]
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(
        _workspace(device), kv_layout="NHD", use_tensor_cores=w.heads // w.kv_heads >= TENSOR_CORE_GROUP
    )
    wrapper.plan(
        starts,
        indices.to(device, torch.int32),
        torch.tensor(last, dtype=torch.int32, device=device),
        num_qo_heads=w.heads,
        num_kv_heads=w.kv_heads,
        head_dim=w.head_dim,
        page_size=size,
        **_common(w, inputs),
    )

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        key, value = (tensor.view(-1, size, w.kv_heads, w.head_dim) for tensor in (key, value))
        return wrapper.run(query[:, 0], (key, value))[:, None]

    return attend


def _common(workload: Workload, inputs: Inputs) -> dict[str, Any]:
    return {
        "logits_soft_cap": workload.softcap,
        "sm_scale": workload.effective_scale,
        "q_data_type": inputs.query.dtype,
        "kv_data_type": inputs.key.dtype,
    }


def _workspace(device: torch.device) -> torch.Tensor:
    import torch

    return torch.zeros(WORKSPACE_BYTES, dtype=torch.uint8, device=device)


@hookimpl
def attnbench_variants() -> list[Variant]:
    """Return the variant `flashinfer`."""
    return [FlashInfer()]
