"""A differentiable attention function that calls the Triton kernels."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
import triton

from attnbench_variants.triton_flash.backward import grad_query_kernel, row_statistics_kernel
from attnbench_variants.triton_flash.backward_keys import grad_key_value_kernel, gradients_kernel
from attnbench_variants.triton_flash.configurations import ALIGNMENT_BYTES, MAX_TILE_LENGTH, Options, Shape
from attnbench_variants.triton_flash.forward import forward_kernel
from attnbench_variants.triton_flash.tuning import Launch, launch, remembered

if TYPE_CHECKING:
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload

ROWS_PER_STATISTICS_PROGRAM = 32  # each program of row_statistics_kernel computes this many rows


@dataclass(frozen=True)
class Problem:
    """The kernels' arguments other than query, key and value. An argument that the workload does not use is None.

    - `shape`: the sizes on which the choice of configurations depends
    - `offset`: the index of the key on the diagonal in row 0
    - `left`, `right`: the numbers of visible keys to the left and right of the diagonal
    - `prefix`: the number of keys at the start that every row sees
    - `key_lengths`: the number of keys in each sequence that are not padding, (B,) int32
    - `document_starts`, `document_stops`: for each position, the range of the document that contains it, (B, S) int32
    - `slopes`: ALiBi's slopes, (Hq,) float32
    - `atomic`: whether the backward pass computes all gradients in one pass, with atomic additions

    `chosen` holds the options with which each kernel is launched, once they are chosen.
    """

    shape: Shape
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
    atomic: bool = False
    chosen: dict[str, Options] = field(default_factory=dict)

    @property
    def tables(self) -> tuple[torch.Tensor | None, ...]:
        """The tensors, in the order of the kernels' parameters."""
        return self.key_lengths, self.document_starts, self.document_stops, self.slopes

    @property
    def numbers(self) -> tuple[float | None, ...]:
        """The numbers, in the order of the kernels' parameters."""
        return self.offset, self.left, self.right, self.prefix, self.scale, self.softcap


def describe(workload: Workload, inputs: Inputs, *, atomic: bool = False) -> Problem:
    """Return the kernels' arguments for a workload."""
    mask, alignment = workload.mask, workload.seq_k - workload.seq_q
    problem = Problem(
        shape=Shape(
            workload.seq_q, workload.seq_k, workload.head_dim, workload.head_dim_v, inputs.query.element_size()
        ),
        scale=workload.effective_scale,
        softcap=workload.softcap,
        key_lengths=inputs.key_lengths,
        slopes=inputs.alibi_slopes,
        atomic=atomic,
        chosen=remembered(
            inputs.query.device, workload.dtype, workload.batch, workload.heads, workload.kv_heads, workload.seq_q,
            workload.seq_k, workload.head_dim, workload.head_dim_v, mask, workload.softcap is None, workload.alibi,
        ),
    )  # fmt: skip
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
    """Return contiguous versions of the tensors that start at a multiple of 16 bytes, as the kernels require.

    Only a tensor that is not contiguous, or starts elsewhere, is copied.
    """
    return tuple(
        tensor
        if tensor.is_contiguous() and not tensor.data_ptr() % ALIGNMENT_BYTES
        else tensor.clone(memory_format=torch.contiguous_format)
        for tensor in tensors
    )


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, problem: Problem
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the output and each row's log-sum-exp. All tensors must be as `contiguous` returns them.

    The log-sum-exp is (B, Hq, Sq) float32, in units of log2.
    """
    batch, heads, seq_q, _ = query.shape
    output = query.new_empty((batch, heads, seq_q, value.shape[3]))
    log_sum = query.new_empty((batch, heads, seq_q), dtype=torch.float32)
    if not output.numel():
        return output, log_sum
    arguments = (
        query, key, value, output, log_sum, *problem.tables,
        heads, key.shape[1], seq_q, key.shape[2], *problem.numbers,
    )  # fmt: skip
    work = Launch("forward", forward_kernel, "BLOCK_M", seq_q, batch * heads, arguments, problem.shape.widths)
    with torch.cuda.device_of(query):  # Triton launches kernels on the current device
        launch(problem.chosen, problem.shape, work)
    return output, log_sum


def gradients(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, output: torch.Tensor, log_sum: torch.Tensor,
    grad_output: torch.Tensor, problem: Problem,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """Return the gradients of query, key and value. All tensors must be as `contiguous` returns them."""
    batch, heads, seq_q, _ = query.shape
    kv_heads, seq_k, head_dim_v = value.shape[1:]
    grads = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
    if not (query.numel() and key.numel()):
        return grads[0].zero_(), grads[1].zero_(), grads[2].zero_()
    padded = triton.cdiv(seq_q, MAX_TILE_LENGTH) * MAX_TILE_LENGTH
    statistics = query.new_empty((2, batch, heads, padded), dtype=torch.float32)
    widths = problem.shape.widths
    row_statistics_kernel[(padded // ROWS_PER_STATISTICS_PROGRAM * batch * heads,)](
        output, grad_output, log_sum, *statistics, seq_q, padded, head_dim_v, widths["BLOCK_DV"],
        ROWS_PER_STATISTICS_PROGRAM,
    )  # fmt: skip
    shared = (query, key, value, grad_output, *statistics)
    sizes = (*problem.tables, heads, kv_heads, seq_q, padded, seq_k, *problem.numbers)
    constants = {**widths, "GROUP": heads // kv_heads, "RAGGED": seq_q % MAX_TILE_LENGTH != 0}
    if problem.atomic:
        sums = torch.zeros_like(query, dtype=torch.float32)
        work = Launch(
            "gradients", gradients_kernel, "BLOCK_N", seq_k, batch * kv_heads, (*shared, *grads[1:], sums, *sizes),
            constants, sums,
        )  # fmt: skip
        launch(problem.chosen, problem.shape, work)
        torch.mul(sums, problem.scale, out=grads[0])
        return grads
    for work in (
        Launch(
            "grad_key_value", grad_key_value_kernel, "BLOCK_N", seq_k, batch * kv_heads,
            (*shared, *grads[1:], *sizes), constants,
        ),
        Launch(
            "grad_query", grad_query_kernel, "BLOCK_M", seq_q, batch * heads, (*shared, grads[0], *sizes), widths,
        ),
    ):  # fmt: skip
        launch(problem.chosen, problem.shape, work)
    return grads


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
