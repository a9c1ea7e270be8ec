"""A differentiable attention function that calls the Triton kernels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
import triton

from attnbench_variants.triton_flash.backward import grad_key_value_kernel, grad_query_kernel, row_dot_kernel
from attnbench_variants.triton_flash.forward import forward_kernel

if TYPE_CHECKING:
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload

ROWS_PER_DOT_PROGRAM = 32  # each program of row_dot_kernel computes this many rows
MAX_TILE_LENGTH = 128  # tuning tries tiles with at most this many rows or keys


@dataclass(frozen=True)
class Problem:
    """The kernels' arguments other than query, key and value. An argument that the workload does not use is None.

    - `offset`: the index of the key on the diagonal in row 0
    - `left`, `right`: the numbers of visible keys to the left and right of the diagonal
    - `prefix`: the number of keys at the start that every row sees
    - `key_lengths`: the number of keys in each sequence that are not padding, (B,) int32
    - `document_starts`, `document_stops`: for each position, the range of the document that contains it, (B, S) int32
    - `slopes`: ALiBi's slopes, (Hq,) float32
    """

    scale: float
    softcap: float | None = None
    offset: int = 0
    left: int | None = None
    right: int | None = None
    prefix: int | None = None
    key_lengths: torch.Tensor | None = None
    document_starts: torch.Tensor | None = None
    document_stops: torch.Tensor | None = None
    slopes: torch.Tensor | None = None

    @property
    def tables(self) -> tuple[torch.Tensor | None, ...]:
        """The tensors, in the order of the kernels' parameters."""
        return self.key_lengths, self.document_starts, self.document_stops, self.slopes

    @property
    def numbers(self) -> tuple[float | None, ...]:
        """The numbers, in the order of the kernels' parameters."""
        return self.offset, self.left, self.right, self.prefix, self.scale, self.softcap


def describe(workload: Workload, inputs: Inputs) -> Problem:
    """Return the kernels' arguments for a workload."""
    mask, alignment = workload.mask, workload.seq_k - workload.seq_q
    problem = Problem(
        scale=workload.effective_scale,
        softcap=workload.softcap,
        key_lengths=inputs.key_lengths,
        slopes=inputs.alibi_slopes,
    )
    if mask.kind == "document":
        starts, stops = _document_ranges(workload)
        device = inputs.query.device
        return replace(problem, document_starts=starts.to(device), document_stops=stops.to(device))
    bands = {
        "causal": {"offset": alignment, "right": 0},
        "causal-top-left": {"right": 0},
        "window": {"offset": alignment, "left": mask.left, "right": mask.right},
        "prefix": {"offset": alignment, "right": 0, "prefix": mask.prefix},
    }
    return replace(problem, **bands.get(mask.kind, {}))


class FlashAttention(torch.autograd.Function):
    """Differentiable attention, softmax(scores) @ value.

    The inputs, the output and the log-sum-exp of each row are saved for the backward pass.
    """

    @staticmethod
    def forward(
        context: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, problem: Problem
    ) -> torch.Tensor:
        """Return the output, (B, Hq, Sq, Dv), for inputs (B, Hq, Sq, D), (B, Hkv, Sk, D) and (B, Hkv, Sk, Dv)."""
        query, key, value = contiguous(query, key, value)
        output, log_sum = attend(query, key, value, problem)
        context.save_for_backward(query, key, value, output, log_sum)
        context.problem = problem
        return output

    @staticmethod
    def backward(context: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        """Return the gradients of query, key and value."""
        return (*gradients(*context.saved_tensors, *contiguous(grad_output), context.problem), None)


def contiguous(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return contiguous versions of the tensors, as the kernels require. Contiguous inputs are not copied."""
    return tuple(tensor.contiguous() for tensor in tensors)


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, problem: Problem
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the output and each row's log-sum-exp. All tensors must be contiguous.

    The log-sum-exp is (B, Hq, Sq) float32, in units of log2.
    """
    batch, heads, seq_q, head_dim = query.shape
    output = query.new_empty((batch, heads, seq_q, value.shape[3]))
    log_sum = query.new_empty((batch, heads, seq_q), dtype=torch.float32)
    if not output.numel():
        return output, log_sum
    with torch.cuda.device_of(query):  # Triton launches kernels on the current device
        forward_kernel[lambda config: (triton.cdiv(seq_q, config["BLOCK_M"]) * batch * heads,)](
            query, key, value, output, log_sum, *problem.tables,
            heads, key.shape[1], seq_q, key.shape[2], *problem.numbers,
            **_widths(head_dim, value.shape[3]),
        )  # fmt: skip
    return output, log_sum


def gradients(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, output: torch.Tensor, log_sum: torch.Tensor,
    grad_output: torch.Tensor, problem: Problem,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """Return the gradients of query, key and value. All tensors must be contiguous."""
    batch, heads, seq_q, head_dim = query.shape
    kv_heads, seq_k, head_dim_v = value.shape[1:]
    grads = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
    if not (query.numel() and key.numel()):
        return grads[0].zero_(), grads[1].zero_(), grads[2].zero_()
    widths = _widths(head_dim, head_dim_v)
    row_dots = torch.empty_like(log_sum)
    row_dot_kernel[(triton.cdiv(row_dots.numel(), ROWS_PER_DOT_PROGRAM),)](
        output, grad_output, row_dots, row_dots.numel(), head_dim_v, widths["BLOCK_DV"], ROWS_PER_DOT_PROGRAM
    )
    shared = (query, key, value, grad_output, log_sum, row_dots)
    sizes = (*problem.tables, heads, kv_heads, seq_q, seq_k, *problem.numbers)
    grad_key_value_kernel[lambda config: (triton.cdiv(seq_k, config["BLOCK_N"]) * batch * kv_heads,)](
        *shared, grads[1], grads[2], *sizes, **widths, RAGGED=seq_q % MAX_TILE_LENGTH != 0
    )
    grad_query_kernel[lambda config: (triton.cdiv(seq_q, config["BLOCK_M"]) * batch * heads,)](
        *shared, grads[0], *sizes, **widths
    )
    return grads


def clear_tuning() -> None:
    """Discard the tuning results, so that a workload's time does not depend on the shapes that were tuned earlier."""
    for kernel in (forward_kernel, grad_key_value_kernel, grad_query_kernel):
        kernel.cache.clear()


def _widths(head_dim: int, head_dim_v: int) -> dict[str, int]:
    """Return the kernels' constants for the head sizes. The widths of tiles are powers of two, at least 16."""
    return {
        "HEAD_DIM": head_dim,
        "HEAD_DIM_V": head_dim_v,
        "BLOCK_D": max(16, triton.next_power_of_2(head_dim)),
        "BLOCK_DV": max(16, triton.next_power_of_2(head_dim_v)),
    }


def _document_ranges(workload: Workload) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the start and the stop of the document that contains each position, as two (B, S) int32 tensors."""
    starts, stops = [], []
    for sequence in range(workload.batch):
        lengths = torch.tensor(workload.document_lengths(sequence))
        ends = lengths.cumsum(0)
        starts.append(torch.repeat_interleave(ends - lengths, lengths))
        stops.append(torch.repeat_interleave(ends, lengths))
    if not starts:
        return torch.empty((0, workload.seq_q), dtype=torch.int32), torch.empty((0, workload.seq_q), dtype=torch.int32)
    return torch.stack(starts).int(), torch.stack(stops).int()
