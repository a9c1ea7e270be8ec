"""torch's scaled_dot_product_attention, with the backend that torch chooses or with a pinned backend."""

from __future__ import annotations

import contextlib
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

from attnbench import Inputs, Variant, Workload, hookimpl
from attnbench_variants._library_support import imprecise_alibi, installed, lacking_gpu, missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

# Implementations of the flash backend, keyed by their names in torch. Each value holds the module that torch imports,
# the package that contains the module, and the major compute capabilities that the implementation supports.
IMPLEMENTATIONS = {
    "FA3": ("flash_attn_interface", "flash-attn-3", (9,)),
    "FA4": ("flash_attn.cute.interface", "flash-attn-4", (9, 10)),
}
# For these backends, torch would make a mask from its `causal_lower_right` bias at each call.
WITHOUT_LOWER_RIGHT = ("MATH", "CUDNN_ATTENTION")


class Sdpa(Variant):
    """torch.nn.functional.scaled_dot_product_attention, with the backend that torch chooses or with a pinned backend.

    torch's `is_causal` is top-left aligned, but a causal mask in attnbench is bottom-right aligned. If the two masks
    differ, the causal mask is passed as a boolean tensor or, on CUDA with more keys than queries, as torch's
    `causal_lower_right` bias, if the backend has a kernel for it. A pinned backend raises an error for an unsupported
    workload; torch never falls back to another backend.
    """

    def __init__(self, name: str, backend: str | None = None, implementation: str | None = None) -> None:
        self.name = name
        self.backend = backend  # the name of a member of torch.nn.attention.SDPBackend, or None to let torch choose
        self.implementation = implementation  # a key of IMPLEMENTATIONS, or None for torch's built-in kernels
        self.baseline = backend is None
        # On a GPU, all backends but MATH load 16 bytes at a time, and not all of them check the addresses.
        self.alignment_bytes = 1 if backend == "MATH" else 16
        if implementation is not None:
            self.packages = (IMPLEMENTATIONS[implementation][1],)
        if backend is not None:
            if backend == "MATH":
                self.default_on = ("cuda",)  # not on a CPU, where this backend performs the same computation as `naive`
            routed = f", routed to {implementation}" if implementation else ""
            self.__doc__ = f"torch's scaled_dot_product_attention, pinned to its backend {backend}{routed}."

    def unsupported_reason(self, workload: Workload, device: str) -> str | None:
        """Return what torch or the pinned backend lacks for the workload, or None if the workload is supported.

        On CUDA, torch's own checks decide whether a pinned backend supports the workload.
        """
        if workload.softcap is not None:
            return "scaled_dot_product_attention has no softcap"
        if self.implementation is not None and (reason := _unregistered(self.implementation)):
            return reason
        if device == "cpu":
            return self._lacking_on_cpu(workload)
        import torch

        reason = lacking_gpu() or next(self._refusals_on_cuda(workload, device), None)
        return reason or self._lacking_on_cuda(workload, torch.device(device))

    def prepare_function(self, workload: Workload, inputs: Inputs) -> Callable[..., torch.Tensor]:
        """Make the mask or bias in advance, so that a call only calls scaled_dot_product_attention."""
        from torch.nn.functional import scaled_dot_product_attention

        form = self._mask_form(workload, inputs.query.device.type)
        if form == "lower_right" and self.backend is None and not _has_lower_right_kernel(workload, inputs):
            form = "mask"
        arguments = _mask_arguments(form, workload, inputs)
        arguments["scale"] = workload.scale
        arguments["dropout_p"] = workload.dropout
        arguments["enable_gqa"] = workload.heads != workload.kv_heads
        return partial(scaled_dot_product_attention, **arguments)

    def calling_context(self) -> contextlib.AbstractContextManager[None]:
        """Pin the backend, and route torch's flash backend to the variant's implementation, which stays routed."""
        _select(self.implementation)
        return contextlib.nullcontext() if self.backend is None else _Pin(self.backend)

    def _mask_form(self, workload: Workload, device_type: str) -> str:
        """Return the form in which the mask is passed: `nothing`, `is_causal`, `lower_right` or `mask` (a tensor)."""
        from attnbench_variants._visible import simplest_kind

        w, kind = workload, simplest_kind(workload)
        if w.alibi:
            return "mask"
        if kind == "none":
            return "nothing"
        if kind == "causal-top-left" or (kind == "causal" and w.seq_q == w.seq_k):
            return "is_causal"
        if kind == "causal" and w.seq_q < w.seq_k and device_type == "cuda" and self.backend not in WITHOUT_LOWER_RIGHT:
            return "lower_right"
        return "mask"

    def _refusals_on_cuda(self, workload: Workload, device: str) -> Iterator[str]:
        """Yield reasons for refusing a workload on CUDA, in addition to those from torch's own checks."""
        if self.backend != "MATH" and (reason := imprecise_alibi(workload)):
            yield reason
        if self.implementation is not None:
            yield from _unrouted(self.implementation, workload, device)

    def _lacking_on_cpu(self, workload: Workload) -> str | None:
        if self.backend in ("EFFICIENT_ATTENTION", "CUDNN_ATTENTION") or self.implementation is not None:
            return "this backend has no kernel for the CPU: it needs a CUDA GPU"
        if self.backend == "FLASH_ATTENTION":
            if workload.dropout:
                return "torch's flash kernel for the CPU has no dropout"
            if workload.head_dim != workload.head_dim_v:
                return "torch's flash kernel for the CPU needs head_dim_v to equal head_dim"
        return None

    def _lacking_on_cuda(self, workload: Workload, device: torch.device) -> str | None:
        """Return why torch's pinned backend does not support the workload, or None if it does.

        torch checks stand-in tensors, which have the workload's shapes but use the memory of only one row.
        """
        import torch
        from torch.backends import cuda

        judges = {
            "FLASH_ATTENTION": cuda.can_use_flash_attention,
            "EFFICIENT_ATTENTION": cuda.can_use_efficient_attention,
            "CUDNN_ATTENTION": cuda.can_use_cudnn_attention,
        }
        if self.backend is None or self.backend not in judges:
            return None
        w, dtype = workload, getattr(torch, workload.dtype)

        def stand_in(heads: int, length: int, width: int) -> torch.Tensor:
            row = torch.empty(width, dtype=dtype, device=device, requires_grad=w.needs_gradient)
            return row.expand(w.batch, heads, length, width)

        form = self._mask_form(w, device.type)
        mask = None
        if form == "mask":
            mask = torch.empty(w.seq_k, dtype=dtype if w.alibi else torch.bool, device=device)
            mask = mask.expand(w.batch, w.heads, w.seq_q, w.seq_k)
        parameters = cuda.SDPAParams(
            stand_in(w.heads, w.seq_q, w.head_dim),
            stand_in(w.kv_heads, w.seq_k, w.head_dim),
            stand_in(w.kv_heads, w.seq_k, w.head_dim_v),
            mask,
            w.dropout,
            form == "is_causal",
            w.heads != w.kv_heads,
        )
        with _Pin(self.backend), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if judges[self.backend](parameters, True):
                return None
        reasons = "; ".join(str(warning.message).split(" (Triggered")[0] for warning in caught)
        return f"torch reports: {reasons}" if reasons else "torch refuses the workload but gives no reason"


class _Pin(contextlib.AbstractContextManager[None]):
    """A context manager that allows only one backend of scaled_dot_product_attention.

    It does the same as torch's sdpa_kernel in a tenth of the time, which matters to `attnbench.attention`.
    """

    def __init__(self, backend: str) -> None:
        from torch.backends import cuda

        self._backend = backend
        self._switches = {
            "FLASH_ATTENTION": (cuda.flash_sdp_enabled, cuda.enable_flash_sdp),
            "EFFICIENT_ATTENTION": (cuda.mem_efficient_sdp_enabled, cuda.enable_mem_efficient_sdp),
            "MATH": (cuda.math_sdp_enabled, cuda.enable_math_sdp),
            "CUDNN_ATTENTION": (cuda.cudnn_sdp_enabled, cuda.enable_cudnn_sdp),
        }
        self._before: list[bool] = []

    def __enter__(self) -> None:
        self._before = [enabled() for enabled, _ in self._switches.values()]
        for backend, (_, enable) in self._switches.items():
            enable(backend == self._backend)

    def __exit__(self, *_: object) -> None:
        for before, (_, enable) in zip(self._before, self._switches.values(), strict=True):
            enable(before)


def _unregistered(implementation: str) -> str | None:
    """Return why torch can't route its flash backend to `implementation`, or None if it can."""
    from torch.nn import attention

    known = getattr(attention, "list_flash_attention_impls", list)()
    if implementation not in known:
        return f"needs a version of torch that can register {implementation} (pip install -U torch)"
    module, package, _ = IMPLEMENTATIONS[implementation]
    return None if installed(module) else missing(package)


def _unrouted(implementation: str, workload: Workload, device: str) -> Iterator[str]:
    """Yield the reasons why torch would not route the workload to `implementation` on this GPU."""
    import torch

    if workload.dropout:
        yield f"torch does not route workloads with dropout to {implementation}"
    majors, (major, minor) = IMPLEMENTATIONS[implementation][2], torch.cuda.get_device_capability(device)
    if major not in majors:
        wanted = " or ".join(f"{each}.x" for each in majors)
        yield f"torch routes to {implementation} only on compute capability {wanted}, but this GPU has {major}.{minor}"


def _select(implementation: str | None) -> None:
    """Route torch's flash backend to `implementation`, unless it is already routed there.

    Raises RuntimeError if torch 2.10 should restore its own kernels, which only later versions can.
    """
    import torch
    from torch.nn import attention

    if not hasattr(attention, "current_flash_attention_impl"):
        return
    current = attention.current_flash_attention_impl()
    if implementation == current:
        return
    if implementation is None and not hasattr(attention, "restore_flash_attention_impl"):
        raise RuntimeError(
            f"torch {torch.__version__} can't replace {current} by its own flash kernels in the same process: "
            "start a new process, or update torch to 2.11 or later"
        )
    if implementation is None:
        attention.restore_flash_attention_impl()
    else:
        attention.activate_flash_attention_impl(implementation)


def _has_lower_right_kernel(workload: Workload, inputs: Inputs) -> bool:
    """Return whether torch has a kernel for its `causal_lower_right` bias, or would make a mask at each call.

    torch makes the same checks at each call (`CausalBias._dispatch` in torch/nn/attention/bias.py).
    """
    from torch.backends import cuda

    grouped = workload.heads != workload.kv_heads
    parameters = cuda.SDPAParams(*inputs.leaves, None, workload.dropout, False, grouped)
    return cuda.can_use_flash_attention(parameters) or cuda.can_use_efficient_attention(parameters)


def _mask_arguments(form: str, workload: Workload, inputs: Inputs) -> dict[str, Any]:
    """Return the arguments of scaled_dot_product_attention for the mask, passed as `form`, and for ALiBi's bias."""
    from attnbench_variants import _visible

    device, slopes = inputs.query.device, inputs.alibi_slopes
    if form == "nothing":
        return {}
    if form == "is_causal":
        return {"is_causal": True}
    if form == "lower_right":
        # Imported only when needed, because this module imports torch's compiler, which takes seconds.
        from torch.nn.attention.bias import causal_lower_right

        return {"attn_mask": causal_lower_right(workload.seq_q, workload.seq_k)}
    hidden = _visible.hidden(workload, device)
    if slopes is None:
        return {"attn_mask": None if hidden is None else ~hidden}
    rows, keys = slice(0, workload.seq_q), slice(0, workload.seq_k)
    bias = -slopes[:, None, None] * _visible.distances(rows, keys, workload, device)
    bias = bias[None] if hidden is None else bias.masked_fill(hidden, float("-inf"))
    return {"attn_mask": bias}


@hookimpl
def attnbench_variants() -> list[Variant]:
    """Return `sdpa`, a variant for each pinned backend, and a variant for each implementation of the flash backend."""
    return [
        Sdpa("sdpa"),
        Sdpa("sdpa-math", "MATH"),
        Sdpa("sdpa-flash", "FLASH_ATTENTION"),
        Sdpa("sdpa-efficient", "EFFICIENT_ATTENTION"),
        Sdpa("sdpa-cudnn", "CUDNN_ATTENTION"),
        Sdpa("sdpa-fa3", "FLASH_ATTENTION", "FA3"),
        Sdpa("sdpa-fa4", "FLASH_ATTENTION", "FA4"),
    ]
