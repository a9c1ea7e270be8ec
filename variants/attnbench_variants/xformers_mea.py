"""xformers' memory_efficient_attention, with the operator that xformers chooses or with a pinned operator."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from attnbench import Inputs, Variant, Workload, hookimpl
from attnbench_variants._library_support import imprecise_alibi, lacking_gpu, lacking_triton, missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

Arrangement = Literal["batch", "blocks", "packed"]
BIAS_ROW_ALIGNMENT = 8  # the row stride of a bias tensor must be a multiple of this many elements


class Xformers(Variant):
    """xformers.ops.memory_efficient_attention on (batch, sequence, heads, head_dim) tensors; CUDA only.

    If xformers has a bias class for a mask, the mask is passed as an instance of this class. Padded and packed batches
    are passed as one long sequence with a block-diagonal bias. The tensors are views, except if the operator or its
    backward pass does not support padded blocks. In that case, the timed call removes the padded keys. For inference,
    grouped queries are passed in the five-dimensional form, which has no backward pass.
    """

    layout = "BSHD"
    alignment_bytes = 16  # the kernels load 16 bytes at a time
    packages = ("xformers", "flash-attn", "flash-attn-3")  # xformers may call flash-attn or flash-attn-3

    def __init__(self, name: str, operator: str | None = None) -> None:
        self.name = name
        # A module in xformers.ops.fmha with an FwOp and optionally a BwOp. With None, xformers chooses the operator.
        self.operator = operator
        if operator is not None:
            self.__doc__ = f"xformers' memory_efficient_attention, pinned to its operator {operator}; CUDA only."

    def unsupported_reason(self, workload: Workload, device: str) -> str | None:
        """Return why xformers can't run the workload, or None if it can.

        If no operator supports the workload, the reason lists what each operator lacks.
        """
        if find_spec("xformers") is None:
            return missing("xformers")
        if device == "cpu":
            return "xformers has no operator for the CPU: memory_efficient_attention needs a CUDA GPU"
        import torch

        reason = lacking_gpu() or next(_refusals(workload), None)
        if self.operator == "triton_splitk":
            reason = reason or lacking_triton()
        return reason or self.lacking(workload, torch.device(device))

    def prepare_function(self, workload: Workload, inputs: Inputs) -> Callable[..., torch.Tensor]:
        """Make the bias in advance, and return the timed function, which calls memory_efficient_attention."""
        from xformers.ops import memory_efficient_attention

        arrangement = arrange(workload, self.operator)
        bias = make_bias(workload, inputs.query.device, inputs.alibi_slopes, arrangement)
        view = _viewing(workload, arrangement, inputs.query.device)
        operators = None if self.operator is None else self._operators()
        shape = (workload.batch, workload.seq_q, workload.heads, workload.head_dim_v)

        def attend(*leaves: torch.Tensor) -> torch.Tensor:
            query, key, value = grouped(workload, *view(*leaves))
            output = memory_efficient_attention(
                query, key, value, attn_bias=bias, p=workload.dropout, scale=workload.scale, op=operators
            )
            return output.reshape(shape)

        return attend

    def lacking(self, workload: Workload, device: torch.device) -> str | None:
        """Return why no operator supports the workload, or None if one does.

        The operators check stand-in tensors, which have the workload's shapes but use the memory of only one row.
        """
        import torch
        from xformers.ops import fmha

        w, dtype = workload, getattr(torch, workload.dtype)
        arrangement = arrange(w, self.operator)
        batch, seq_q, seq_k = _sizes(w, arrangement)
        stand_ins = (
            torch.empty(width, dtype=dtype, device=device).expand(batch, length, heads, width)
            for length, heads, width in (
                (seq_q, w.heads, w.head_dim),
                (seq_k, w.kv_heads, w.head_dim),
                (seq_k, w.kv_heads, w.head_dim_v),
            )
        )
        slopes = torch.empty(w.heads, device="meta") if w.alibi else None
        bias = make_bias(w, torch.device("meta" if arrangement == "batch" else device), slopes, arrangement)
        problem = fmha.Inputs(*grouped(w, *stand_ins), attn_bias=bias, p=w.dropout, scale=w.scale)
        forward, backward = fmha.ALL_FW_OPS, fmha.ALL_BW_OPS
        if self.operator is not None:
            forward, backward = ([each] for each in self._operators())
        return _refusal(forward, problem) or (_refusal(backward, problem) if w.needs_gradient else None)

    def _operators(self) -> tuple[Any, Any]:
        module = import_module(f"xformers.ops.fmha.{self.operator}")
        return module.FwOp, getattr(module, "BwOp", None)


def _refusals(workload: Workload) -> Iterator[str]:
    """Yield the reasons why memory_efficient_attention can't run the workload with any operator."""
    if 0 in (workload.batch, workload.seq_q, workload.seq_k):
        yield "memory_efficient_attention does not support an empty batch or sequence"
    if workload.softcap is not None:
        yield "memory_efficient_attention has no softcap"
    if reason := imprecise_alibi(workload):
        yield reason


def arrange(workload: Workload, operator: str | None) -> Arrangement:
    """Return the arrangement in which the batch is passed to xformers.

    - `batch`: unchanged
    - `blocks`: as blocks of one long sequence
    - `packed`: as blocks of one long sequence from which the padded keys are removed
    """
    w = workload
    if w.alibi:
        return "batch"
    if w.mask.kind == "padding":
        return "packed" if w.needs_gradient or operator == "cutlass" else "blocks"
    if w.mask.kind == "document" or (operator == "triton_splitk" and _is_causal(w) and w.seq_q <= w.seq_k):
        return "blocks"
    return "batch"


def _is_causal(workload: Workload) -> bool:
    """Return whether no query sees a later key.

    A two-sided window counts as causal if there is a single query, because the query is at the last position and has no
    later key. With more queries, xformers' triton_splitk accepts a two-sided window as well, but it uses the last
    query's window for every query.
    """
    from attnbench_variants._visible import simplest_kind

    kind, mask = simplest_kind(workload), workload.mask
    return kind == "causal" or (kind == "window" and (mask.right == 0 or workload.seq_q == 1))


def _sizes(workload: Workload, arrangement: Arrangement) -> tuple[int, int, int]:
    """Return the batch size and the numbers of queries and keys after the batch has been arranged."""
    w = workload
    keys = {"batch": w.seq_k, "blocks": w.batch * w.seq_k, "packed": sum(w.key_lengths)}[arrangement]
    return (w.batch, w.seq_q, keys) if arrangement == "batch" else (1, w.batch * w.seq_q, keys)


def _viewing(
    workload: Workload, arrangement: Arrangement, device: torch.device
) -> Callable[..., tuple[torch.Tensor, ...]]:
    """Return a function that converts query, key and value from (B, S, H, X) to the arrangement."""
    from attnbench_variants._packing import packing

    if arrangement == "batch":
        return lambda *leaves: leaves
    if arrangement == "blocks":
        return lambda *leaves: tuple(tensor.flatten(0, 1)[None] for tensor in leaves)
    packed = packing(workload, device)
    return lambda *leaves: tuple(tensor[None] for tensor in packed.pack(*leaves))


def grouped(
    workload: Workload, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return query, key and value in a form that suits grouped heads; without grouped heads, they are unchanged.

    For inference, they become (B, S, Hkv, group, X). No backward pass supports five dimensions, so for training, each
    key and value is repeated for its group of query heads. Users would also have to repeat them.
    """
    if workload.kv_heads == workload.heads:
        return query, key, value
    group = workload.heads // workload.kv_heads
    key, value = (tensor[:, :, :, None].expand(-1, -1, -1, group, -1) for tensor in (key, value))
    if not _has_five_dimensions(workload):
        return query, key.flatten(2, 3), value.flatten(2, 3)
    return query.unflatten(2, (workload.kv_heads, group)), key, value


def _has_five_dimensions(workload: Workload) -> bool:
    return workload.kv_heads != workload.heads and not workload.needs_gradient


def make_bias(workload: Workload, device: torch.device, slopes: torch.Tensor | None, arrangement: Arrangement) -> Any:
    """Return `attn_bias` for the workload's mask and ALiBi: an instance of a bias class, a tensor, or None."""
    from attnbench_variants._visible import sees_everything

    if arrangement != "batch":
        return _block_bias(workload, device, arrangement)
    if slopes is not None or workload.mask.kind == "prefix":
        return _tensor_bias(workload, device, slopes)
    return None if sees_everything(workload) else _aligned_bias(workload)


def _block_bias(workload: Workload, device: torch.device, arrangement: Arrangement) -> Any:
    """Return the block-diagonal bias for a batch that is passed as one long sequence."""
    from xformers.ops.fmha import attn_bias as biases

    w, mask = workload, workload.mask
    if mask.kind == "document":
        lengths = [length for sequence in range(w.batch) for length in w.document_lengths(sequence)]
        return biases.BlockDiagonalMask.from_seqlens(lengths, device=device)
    queries = [w.seq_q] * w.batch
    if arrangement == "packed":
        return biases.BlockDiagonalMask.from_seqlens(queries, list(w.key_lengths), device=device)
    blocks = {"q_seqlen": queries, "kv_padding": w.seq_k, "kv_seqlen": list(w.key_lengths)}
    if mask.kind == "padding":
        return biases.BlockDiagonalPaddedKeysMask.from_seqlens(**blocks, device=device)
    if mask.kind != "window":
        return biases.BlockDiagonalCausalWithOffsetPaddedKeysMask.from_seqlens(**blocks, device=device)
    local = biases.BlockDiagonalCausalLocalAttentionPaddedKeysMask
    return local.from_seqlens_local(**blocks, window_size=mask.left + 1).to(device)


def _aligned_bias(workload: Workload) -> Any:
    """Return the bias for a causal or window mask; window sizes in xformers include the diagonal."""
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
    """Return a dense bias whose row stride is a multiple of BIAS_ROW_ALIGNMENT.

    It is (B, Hq, Sq, Sk), or (B, Hkv, group, Sq, Sk) if the operator gets grouped queries in five dimensions.
    """
    import torch

    from attnbench_variants import _visible

    w = workload
    padded = -(-w.seq_k // BIAS_ROW_ALIGNMENT) * BIAS_ROW_ALIGNMENT
    bias = torch.zeros((w.batch, w.heads, w.seq_q, padded), dtype=getattr(torch, w.dtype), device=device)
    bias = bias[..., : w.seq_k]
    if slopes is not None:
        distances = _visible.distances(slice(0, w.seq_q), slice(0, w.seq_k), w, device)
        bias.copy_(-slopes[:, None, None] * distances)
    hidden = _visible.hidden(w, device)
    if hidden is not None:
        bias.masked_fill_(hidden, float("-inf"))
    return bias.unflatten(1, (w.kv_heads, -1)) if _has_five_dimensions(w) else bias


def _refusal(operators: list[Any], problem: Any) -> str | None:
    """Return the reasons why no operator supports `problem`, or None if one does."""
    if operators == [None]:
        return "this operator has no backward pass"
    reasons = {operator.NAME: operator.not_supported_reasons(problem) for operator in operators}
    if not all(reasons.values()):
        return None
    return "; ".join(f"{name}: {', '.join(found)}" for name, found in reasons.items())


@hookimpl
def attnbench_variants() -> list[Variant]:
    """Return `xformers` and a variant for each operator that can be pinned."""
    return [
        Xformers("xformers"),
        Xformers("xformers-cutlass", "cutlass"),
        Xformers("xformers-flash", "flash"),
        Xformers("xformers-flash3", "flash3"),
        Xformers("xformers-triton-splitk", "triton_splitk"),
    ]
