"""Checks of inputs that are stored as models store them: as views, slices and expanded tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from attnbench.conformance.check import Failed, Raised, Skipped, check
from attnbench.conformance.check_workloads import workload
from attnbench.conformance.checks.probes import EQUAL_ROWS_SLACK
from attnbench.conformance.cuda_errors import cuda_error
from attnbench.errors import is_out_of_memory
from attnbench.tensors.alignment import is_aligned, needed_alignment
from attnbench.tensors.inputs import dtype_of, make_inputs

if TYPE_CHECKING:
    from attnbench.conformance.subject import Subject, Trial
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload

Arrange = Callable[[torch.Tensor], torch.Tensor]
LARGE_OFFSET = 1 << 31  # in elements: the smallest offset that does not fit in a signed 32-bit integer


@check(
    "strides",
    demands="inputs and grad_output are read correctly from transposed, sliced and expanded views",
    why="models pass slices of a packed QKV tensor, and sum().backward() passes an expanded gradient",
    usual_bug="grad_output is assumed to be contiguous",
    remedy="use the tensor's strides, or call .contiguous() in the callable and in its backward pass",
    quick=[
        workload(seq_q=40, seq_k=70, mask="causal"),
        workload(seq=66, heads=3, dtype="bfloat16"),
        workload(seq=66, heads=2, direction="forward"),
    ],
)
def strides(subject: Subject, workload: Workload) -> str | None:
    """Compare the answer with the reference for inputs of one shape and layout that are stored in different ways.

    Inputs that are less aligned than the variant declares are left out, and the returned remark names them.
    """
    left_out = []
    for text, names, arrange in ARRANGEMENTS:
        plain = make_inputs(workload, subject.device, subject.variant.layout, subject.seed_of("strides", text))
        inputs = arranged(plain, names, arrange)
        if not _aligned(subject, inputs):
            left_out.append(text)
            continue
        try:
            # Expanded keys are all equal, so their rounding errors are equal too, and add up.
            equal_rows = isinstance(arrange, partial)
            judge(subject, workload, inputs, slack=EQUAL_ROWS_SLACK if equal_rows else 1.0)
        except Failed as failure:
            if isinstance(failure, Raised) and arrange is _columns_apart and cuda_error(failure) is None:
                continue  # many kernels raise an error for a strided head_dim, which is acceptable
            raise failure.within(f"with {' and '.join(names)} {text}") from failure
    if workload.seq_q == workload.seq_k and workload.head_dim == workload.head_dim_v:
        plain = make_inputs(workload, subject.device, subject.variant.layout, subject.seed_of("strides", "packed"))
        packed, text = _packed(plain), "as parts of one packed tensor"
        if not _aligned(subject, packed):
            return _remark(subject, [*left_out, text])
        try:
            judge(subject, workload, packed)
        except Failed as failure:
            raise failure.within(f"with query, key and value {text}") from failure
    return _remark(subject, left_out)


def _aligned(subject: Subject, inputs: Inputs) -> bool:
    """Return whether all tensors are aligned as the variant declares."""
    needed = needed_alignment(subject.variant, subject.device_type)
    tensors = (getattr(inputs, name) for name in ALL)
    return all(tensor is None or is_aligned(tensor, needed) for tensor in tensors)


def _remark(subject: Subject, left_out: list[str]) -> str | None:
    """Return the remark that names the arrangements that were left out, or None if there are none."""
    needed = needed_alignment(subject.variant, subject.device_type)
    names = "; ".join(dict.fromkeys(left_out))
    return f"not asked, because the variant declares alignment_bytes = {needed}: {names}" if left_out else None


@check(
    "far-apart",
    demands="a tensor is read correctly if its last row starts more than 2^31 elements into its storage",
    why="even a short slice of a large key cache can be such a tensor",
    usual_bug="an offset (row times stride) is computed in 32-bit integers",
    remedy="compute offsets in 64 bits",
    full=[workload(seq=65, batch=1, heads=1, dtype=dtype) for dtype in ("bfloat16", "float32")],
)
def far_apart(subject: Subject, workload: Workload) -> None:
    """Compare the answer with the reference for inputs whose last row starts beyond element 2^31 of their storage.

    The memory between rows is never touched. On a CPU, the operating system allocates only pages that are touched, so
    the check needs little memory.
    """
    needed = (LARGE_OFFSET + workload.head_dim) * dtype_of(workload).itemsize
    if subject.device_type == "cuda" and subject.free_bytes < needed + (1 << 30):
        raise Skipped(f"needs {needed / 2**30:.0f} GiB of free GPU memory")
    for name in ALL:
        plain = make_inputs(workload, subject.device, subject.variant.layout, subject.seed_of("far apart", name))
        try:
            judge(subject, workload, arranged(plain, (name,), _rows_apart))
        except Failed as failure:
            if isinstance(failure, Raised) and is_out_of_memory(failure):
                continue  # a library that copies the whole storage runs out of memory, but its answer is not wrong
            raise failure.within(f"with {name}'s last row beyond 2^31 elements of its storage") from failure


def judge(subject: Subject, workload: Workload, inputs: Inputs, *, slack: float = 1.0) -> None:
    """Prepare the variant, overwrite the inputs in place, then call the variant and judge its answer."""
    trial = subject.trial(workload, inputs)
    _rewrite(trial, subject.seed_of("rewritten", workload.id))
    trial.judge(trial.run(), slack=slack)


def _rewrite(trial: Trial, seed: int) -> None:
    """Overwrite the inputs in place. Along an expanded dimension, only the first entry is stored and written."""
    fresh = make_inputs(trial.workload, str(trial.inputs.query.device), trial.inputs.layout, seed)
    with torch.no_grad():
        for name in ALL:
            tensor = getattr(trial.inputs, name)
            if tensor is not None:
                stored = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in tensor.stride())
                tensor[stored].copy_(getattr(fresh, name)[stored])


def arranged(inputs: Inputs, names: tuple[str, ...], arrange: Arrange) -> Inputs:
    """Return the inputs with each named tensor replaced by the one that `arrange` returns for it."""
    changed: dict[str, Any] = {}
    for name in names:
        tensor = getattr(inputs, name)
        if tensor is not None:
            changed[name] = arrange(tensor.detach()).requires_grad_(tensor.requires_grad)
    return replace(inputs, **changed)


def _packed(inputs: Inputs) -> Inputs:
    """Return the inputs with query, key and value as parts of one tensor, joined along the heads axis."""
    heads = 1 if inputs.layout == "BHSD" else 2
    whole = torch.cat([leaf.detach() for leaf in inputs.leaves], heads)
    changed: dict[str, Any] = {}
    start = 0
    for name, leaf in zip(("query", "key", "value"), inputs.leaves, strict=True):
        part = whole.narrow(heads, start, leaf.shape[heads])
        changed[name] = part.requires_grad_(leaf.requires_grad)
        start += leaf.shape[heads]
    return replace(inputs, **changed)


def _other_layout(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.transpose(1, 2).contiguous().transpose(1, 2)


def _columns_apart(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.mT.contiguous().mT


def _slice_of_wider(tensor: torch.Tensor) -> torch.Tensor:
    wide = torch.full(
        (*tensor.shape[:-1], tensor.shape[-1] + 8), float("nan"), dtype=tensor.dtype, device=tensor.device
    )
    wide[..., : tensor.shape[-1]] = tensor
    return wide[..., : tensor.shape[-1]]


def _every_second(tensor: torch.Tensor) -> torch.Tensor:
    return torch.stack([tensor, torch.full_like(tensor, float("nan"))], 3)[:, :, :, 0]


def _rows_apart(tensor: torch.Tensor) -> torch.Tensor:
    """Copy a tensor with one sequence and one head into storage of over 2^31 elements, with its rows spread apart.

    The rows stay as aligned as those of a contiguous tensor, because kernels may load whole vectors.
    """
    length, width = tensor.numel() // tensor.shape[-1], tensor.shape[-1]
    stride = (LARGE_OFFSET // ((length - 1) * width) + 1) * width
    storage = torch.empty((length - 1) * stride + width, dtype=tensor.dtype, device=tensor.device)
    spread = storage.as_strided((length, width), (stride, 1))
    spread.copy_(tensor.flatten(0, -2))
    return spread.view(tensor.shape)


def _expanded(tensor: torch.Tensor, dimension: int) -> torch.Tensor:
    return tensor.narrow(dimension, 0, 1).clone().expand_as(tensor)


def _one_value(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.new_tensor(0.75).expand_as(tensor)


ALL = ("query", "key", "value", "grad_output")
ARRANGEMENTS: tuple[tuple[str, tuple[str, ...], Arrange], ...] = (
    ("stored in the other layout (a transposed view)", ALL, _other_layout),
    ("stored in the other layout (a transposed view)", ("grad_output",), _other_layout),
    *[("alone stored in the other layout", (name,), _other_layout) for name in ("query", "key", "value")],
    ("sliced from a wider tensor", ALL, _slice_of_wider),
    ("taken as every second row of a tensor", ALL, _every_second),
    ("stored with a strided head_dim (a transposed view)", ALL, _columns_apart),
    ("expanded over the batch (stride 0)", ("key", "value"), partial(_expanded, dimension=0)),
    ("expanded over dimension 1 (stride 0)", ("key", "value"), partial(_expanded, dimension=1)),
    ("expanded over dimension 2 (stride 0)", ("key", "value"), partial(_expanded, dimension=2)),
    ("expanded from one number (stride 0), as sum().backward() makes it", ("grad_output",), _one_value),
)
