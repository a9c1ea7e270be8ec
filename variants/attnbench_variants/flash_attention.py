"""FlashAttention 2, 3 and 4, from the packages that its authors publish."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from attnbench import Inputs, Variant, Workload, hookimpl
from attnbench_variants._library_support import Abilities

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

VERSION_2 = Abilities(
    library="flash_attn.flash_attn_interface",
    package="flash-attn",
    masks=frozenset({"none", "causal", "window", "padding", "document"}),
    softcap=True,
    alibi=True,
    dropout=True,
)
PAGED = replace(
    VERSION_2, masks=frozenset({"none", "causal", "window", "padding"}), backward=False, alibi=False, dropout=False
)
PAGE_SIZE = 256  # keys per page; flash-attn 2 requires a multiple of 256
VERSION_3 = replace(  # built from the `hopper` folder of the flash-attention repository
    VERSION_2,
    library="flash_attn_interface",
    package="flash-attn-3",
    alibi=False,
    dropout=False,
    other_value_dim=True,
    max_capability=(9, 0),
)
VERSION_4 = replace(
    VERSION_3, library="flash_attn.cute", package="flash-attn-4", min_capability=(9, 0), max_capability=None
)


class FlashAttention(Variant):
    """flash_attn_func, or flash_attn_varlen_func for padded and packed batches, on (B, S, H, D) tensors.

    The algorithms are described in Dao, 2023, arXiv:2307.08691, and Shah et al., 2024, arXiv:2407.08608. Causal masks
    and windows are bottom-right aligned, and the output of a row that sees no key is 0. The timed call removes the
    padding, because users would also have to remove it.
    """

    layout = "BSHD"
    alignment_bytes = 16  # the kernels load 16 bytes at a time

    def __init__(self, name: str, abilities: Abilities, version: int) -> None:
        self.name = name
        self.abilities = abilities
        self.version = version
        self.packages = (abilities.package,)
        self.__doc__ = f"flash_attn_func and flash_attn_varlen_func from FlashAttention's package {abilities.package}."

    def unsupported_reason(self, workload: Workload, device: str) -> str | None:
        """Return what this version lacks for the workload, or None if the workload is supported."""
        return self.abilities.lacking(workload, device) or next(_refusals(self.version, workload, device), None)

    def prepare_function(self, workload: Workload, inputs: Inputs) -> Callable[..., torch.Tensor]:
        """Choose the library function for the workload, prepare its arguments, and return the timed function."""
        library = import_module(self.abilities.library)
        arguments = self._arguments(workload, inputs)
        if not workload.mask.is_seeded:
            return lambda *leaves: _output(library.flash_attn_func(*leaves, **arguments))

        from attnbench_variants._packing import packing

        packed = packing(workload, inputs.query.device)
        arguments |= {
            "cu_seqlens_q": packed.query_starts,
            "cu_seqlens_k": packed.key_starts,
            "max_seqlen_q": packed.longest_query,
            "max_seqlen_k": packed.longest_key,
        }
        batch = (workload.batch, workload.seq_q)
        return lambda *leaves: _output(library.flash_attn_varlen_func(*packed.pack(*leaves), **arguments)).unflatten(
            0, batch
        )

    def _arguments(self, workload: Workload, inputs: Inputs) -> dict[str, Any]:
        from attnbench_variants._visible import simplest_kind

        kind = simplest_kind(workload)
        arguments: dict[str, Any] = {
            "softmax_scale": workload.effective_scale,
            "causal": kind == "causal",
            "softcap": workload.softcap or 0.0,
        }
        if kind == "window":
            arguments["window_size"] = (workload.mask.left, workload.mask.right)
        if self.abilities.dropout:
            arguments["dropout_p"] = workload.dropout
        if self.abilities.alibi:
            arguments["alibi_slopes"] = inputs.alibi_slopes
        return arguments


class PagedFlashAttention(FlashAttention):
    """FlashAttention 2's flash_attn_with_kvcache, in which new queries attend to a paged cache of keys and values.

    The pages are consecutive views of the keys and values. `prepare` makes the page table.
    """

    def __init__(self) -> None:
        super().__init__("flash-attn-2-paged", PAGED, 2)
        self.__doc__ = PagedFlashAttention.__doc__

    def unsupported_reason(self, workload: Workload, device: str) -> str | None:
        """Return what the paged kernel lacks for the workload, or None if the workload is supported."""
        reason = super().unsupported_reason(workload, device)
        if reason is None and workload.seq_k % PAGE_SIZE:
            return f"each page holds {PAGE_SIZE} keys, so seq_k must be a multiple of {PAGE_SIZE}, not {workload.seq_k}"
        return reason

    def prepare_function(self, workload: Workload, inputs: Inputs) -> Callable[..., torch.Tensor]:
        """Make the page table and return the timed function."""
        import torch

        library = import_module(self.abilities.library)
        w, device = workload, inputs.query.device
        pages = torch.arange(w.batch * w.seq_k // PAGE_SIZE, dtype=torch.int32, device=device).view(w.batch, -1)
        arguments = self._arguments(workload, inputs) | {
            "cache_seqlens": torch.tensor(w.key_lengths, dtype=torch.int32, device=device),
            "block_table": pages,
        }

        def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            key, value = (tensor.view(-1, PAGE_SIZE, *tensor.shape[2:]) for tensor in (key, value))
            return _output(library.flash_attn_with_kvcache(query, key, value, **arguments))

        return attend


def _refusals(version: int, workload: Workload, device: str) -> Iterator[str]:
    """Yield the reasons why a version can't combine features that it supports individually.

    The library's own checks reject some combinations, and others do not compile. ALiBi with padding would run, but with
    different distances from those in attnbench.
    """
    import torch

    w = workload
    if w.alibi and w.mask.kind == "padding":
        yield "flash_attn_varlen_func measures ALiBi's distances from the end of each sequence, not from seq_k"
    if version == 2 and w.softcap is not None and w.dropout:
        yield "flash-attn 2 does not support dropout with a softcap"
    if version == 3 and w.head_dim != w.head_dim_v:
        wide = 128 < w.head_dim <= 192 and 96 < w.head_dim_v <= 128
        if not wide and w.head_dim > 64:
            yield (
                "flash-attn 3 supports a head_dim_v other than head_dim only if head_dim is at most 64, or if head_dim "
                "is 129 to 192 and head_dim_v is 97 to 128; "
                f"here head_dim is {w.head_dim} and head_dim_v is {w.head_dim_v}"
            )
    if version == 4:
        major, _ = torch.cuda.get_device_capability(device)
        of_gpus = {9: _refusals_on_hopper, 10: _refusals_on_blackwell, 11: _refusals_on_blackwell}
        if major in of_gpus:
            yield from of_gpus[major](w)


def _refusals_on_hopper(workload: Workload) -> Iterator[str]:
    """Yield the reasons why flash-attn 4 can't compile its kernels for a workload on compute capability 9."""
    w = workload
    if w.head_dim != w.head_dim_v and w.kv_heads != w.heads and w.needs_gradient:
        yield "flash-attn 4 has no backward pass on this GPU for grouped heads if head_dim_v differs from head_dim"
    if w.head_dim <= 96 and w.head_dim_v > 192:
        widths = f"a head_dim_v of {w.head_dim_v} with a head_dim of {w.head_dim}"
        yield f"flash-attn 4 does not compile on this GPU for {widths}"


def _refusals_on_blackwell(workload: Workload) -> Iterator[str]:
    """Yield the reasons why flash-attn 4's own checks reject a workload on compute capability 10 or 11."""
    w, widths = workload, (workload.head_dim, workload.head_dim_v)
    if max(widths) > 128 and widths not in ((192, 128), (256, 256)):
        yield (
            "on this GPU, flash-attn 4 needs head_dim and head_dim_v to be at most 128, both 256, or 192 and 128; "
            f"here head_dim is {w.head_dim} and head_dim_v is {w.head_dim_v}"
        )
    if widths == (256, 256) and w.softcap is not None and w.needs_gradient:
        yield "flash-attn 4 has no backward pass on this GPU for a softcap with a head_dim of 256"


def _output(result: Any) -> torch.Tensor:
    """Return the output from a library call's result, which is (output, log-sum-exp) in some versions."""
    return result[0] if isinstance(result, tuple) else result


@hookimpl
def attnbench_variants() -> list[Variant]:
    """Return a variant for each of the three versions, and a variant for version 2 with a paged cache."""
    return [
        FlashAttention("flash-attn-2", VERSION_2, 2),
        PagedFlashAttention(),
        FlashAttention("flash-attn-3", VERSION_3, 3),
        FlashAttention("flash-attn-4", VERSION_4, 4),
    ]
