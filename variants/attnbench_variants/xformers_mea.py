"""xformers' memory_efficient_attention: its dispatcher, and each of its operators pinned."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from attnbench import Inputs, Variant, Workload, hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

TILE_ALIGNMENT = 8  # elements that a bias tensor's rows must be a multiple of


class Xformers(Variant):
    """xformers.ops.memory_efficient_attention on (batch, sequence, heads, head_dim) tensors; CUDA only.

    Masks go in as xformers' own bias classes where it has one for them. Padded and packed batches are views of one long
    sequence with a block-diagonal bias; grouped queries are its five-dimensional form, keys and values expanded.
    """

    layout = "BSHD"

    def __init__(self, name: str, operator: str | None = None) -> None:
        self.name = name
        self.operator = operator  # a module of xformers.ops.fmha, with a FwOp and perhaps a BwOp
        if operator is not None:
            self.__doc__ = f"xformers' memory_efficient_attention, pinned to its operator {operator}; CUDA only."

    def unsupported_reason(self, workload: Workload, device: str) -> str | None:
        """Say what is missing, or what each of xformers' operators says that it lacks."""
        if find_spec("xformers") is None:
            return "needs the package xformers (pip install xformers)"
        if device == "cpu":
            return "xformers has no operator for the CPU: memory_efficient_attention needs a CUDA GPU"
        import torch

        if not torch.cuda.is_available():
            return "needs a CUDA GPU, and torch sees none"
        if workload.softcap is not None:
            return "memory_efficient_attention has no softcap"
        if workload.alibi and workload.dtype != "float32":
            return f"ALiBi would go in as a bias tensor in {workload.dtype}, which rounds it away"
        return self._lacking(workload, torch.device(device))

    def prepare(self, workload: Workload, inputs: Inputs) -> Callable[[], torch.Tensor]:
        """Build the bias; the timed callable makes the one call."""
        from xformers.ops import memory_efficient_attention

        bias = make_bias(workload, inputs.query.device, inputs.alibi_slopes)
        operators = None if self.operator is None else self._operators()
        shape = (workload.batch, workload.seq_q, workload.heads, workload.head_dim_v)

        def attend() -> torch.Tensor:
            query, key, value = views(workload, *inputs.leaves)
            output = memory_efficient_attention(
                query, key, value, attn_bias=bias, p=workload.dropout, scale=workload.scale, op=operators
            )
            return output.reshape(shape)

        return attend

    def _operators(self) -> tuple[Any, Any]:
        module = import_module(f"xformers.ops.fmha.{self.operator}")
        return module.FwOp, getattr(module, "BwOp", None)

    def _lacking(self, workload: Workload, device: torch.device) -> str | None:
        """Ask the operators, with stand-ins that have the workload's shapes but only one row of memory."""
        import torch
        from xformers.ops import fmha

        w, dtype = workload, getattr(torch, workload.dtype)
        stand_ins = (
            torch.empty(width, dtype=dtype, device=device).expand(w.batch, length, heads, width)
            for length, heads, width in (
                (w.seq_q, w.heads, w.head_dim),
                (w.seq_k, w.kv_heads, w.head_dim),
                (w.seq_k, w.kv_heads, w.head_dim_v),
            )
        )
        slopes = torch.empty(w.heads, device="meta") if w.alibi else None
        bias = make_bias(w, torch.device("meta"), slopes)
        problem = fmha.Inputs(*views(w, *stand_ins), attn_bias=bias, p=w.dropout, scale=w.scale)
        forward, backward = fmha.ALL_FW_OPS, fmha.ALL_BW_OPS
        if self.operator is not None:
            forward, backward = ([each] for each in self._operators())
        return _refusal(forward, problem) or (_refusal(backward, problem) if w.needs_gradient else None)


def views(
    workload: Workload, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """View (B, S, H, X) tensors as xformers wants them for the workload's mask and heads."""
    if workload.mask.is_seeded and not workload.alibi:  # one long sequence, which a block-diagonal bias cuts up
        query, key, value = (tensor.flatten(0, 1)[None] for tensor in (query, key, value))
    if workload.kv_heads == workload.heads:
        return query, key, value
    group = workload.heads // workload.kv_heads
    key, value = (tensor[:, :, :, None].expand(-1, -1, -1, group, -1) for tensor in (key, value))
    return query.unflatten(2, (workload.kv_heads, group)), key, value


def make_bias(workload: Workload, device: torch.device, slopes: torch.Tensor | None) -> Any:
    """Give `attn_bias` for the workload's mask and ALiBi: one of xformers' classes, a tensor, or None."""
    from xformers.ops.fmha import attn_bias as biases

    from attnbench_variants._visible import sees_everything

    w, mask = workload, workload.mask
    if slopes is not None or mask.kind == "prefix":
        return _tensor_bias(w, device, slopes)
    if mask.kind == "document":
        lengths = [length for sequence in range(w.batch) for length in w.document_lengths(sequence)]
        return biases.BlockDiagonalMask.from_seqlens(lengths, device=device)
    if mask.kind == "padding":
        return biases.BlockDiagonalPaddedKeysMask.from_seqlens(
            [w.seq_q] * w.batch, w.seq_k, list(w.key_lengths), device=device
        )
    return None if sees_everything(w) else _aligned_bias(w)


def _aligned_bias(workload: Workload) -> Any:
    """Give the bias class of a causal or window mask; xformers' local masks count the diagonal into their size."""
    from xformers.ops.fmha import attn_bias as biases

    mask = workload.mask
    if mask.kind == "window" and mask.right:
        return biases.LocalAttentionFromBottomRightMask(mask.left, mask.right)
    if mask.kind == "window":
        return biases.LowerTriangularFromBottomRightLocalAttentionMask(mask.left + 1)
    if mask.kind == "causal" and workload.seq_q != workload.seq_k:
        return biases.LowerTriangularFromBottomRightMask()
    return biases.LowerTriangularMask()


def _tensor_bias(workload: Workload, device: torch.device, slopes: torch.Tensor | None) -> torch.Tensor:
    """Make a dense bias (B, Hq, Sq, Sk), or (B, Hkv, group, Sq, Sk) for grouped queries, with aligned rows."""
    import torch

    from attnbench_variants import _visible

    w = workload
    padded = -(-w.seq_k // TILE_ALIGNMENT) * TILE_ALIGNMENT
    bias = torch.zeros((w.batch, w.heads, w.seq_q, padded), dtype=getattr(torch, w.dtype), device=device)
    bias = bias[..., : w.seq_k]
    if slopes is not None:
        distances = _visible.distances(slice(0, w.seq_q), slice(0, w.seq_k), w, device)
        bias.copy_(-slopes[:, None, None] * distances)
    hidden = _visible.hidden(w, device)
    if hidden is not None:
        bias.masked_fill_(hidden, float("-inf"))
    return bias if w.heads == w.kv_heads else bias.unflatten(1, (w.kv_heads, -1))


def _refusal(operators: list[Any], problem: Any) -> str | None:
    """Give the operators' reasons why none of them can do `problem`, or None where one can."""
    if operators == [None]:
        return "this operator has no backward pass"
    reasons = {operator.NAME: operator.not_supported_reasons(problem) for operator in operators}
    if not all(reasons.values()):
        return None
    return "; ".join(f"{name}: {', '.join(said)}" for name, said in reasons.items())


@hookimpl
def attnbench_variants() -> list[Variant]:
    """Offer `xformers` and its pinned operators."""
    return [
        Xformers("xformers"),
        Xformers("xformers-cutlass", "cutlass"),
        Xformers("xformers-flash", "flash"),
        Xformers("xformers-flash3", "flash3"),
        Xformers("xformers-triton-splitk", "triton_splitk"),
    ]
