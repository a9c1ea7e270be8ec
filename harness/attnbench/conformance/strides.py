"""Tensors that are stored in every way that a model may hand them over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from attnbench.conformance.check import Failed, Raised
from attnbench.inputs import make_inputs

if TYPE_CHECKING:
    from attnbench.conformance.trial import Subject
    from attnbench.inputs import Inputs
    from attnbench.workload import Workload

Arrange = Callable[[torch.Tensor], torch.Tensor]


def strides(subject: Subject, workload: Workload) -> None:
    """Store the inputs in every way, and demand the right answer of each; the layout's meaning stays the same."""
    for text, names, arrange in ARRANGEMENTS:
        plain = make_inputs(workload, subject.device, subject.variant.layout, subject.seed_of("strides", text))
        try:
            trial = subject.trial(workload, _arranged(plain, names, arrange))
            trial.judge(trial.run())
        except Failed as failure:
            if isinstance(failure, Raised) and arrange is _columns_apart:
                continue  # refusing a strided head_dim loudly is common, and honest
            raise Failed(f"with {' and '.join(names)} {text}: {failure}") from failure


def _arranged(inputs: Inputs, names: tuple[str, ...], arrange: Arrange) -> Inputs:
    changed: dict[str, Any] = {}
    for name in names:
        tensor = getattr(inputs, name)
        if tensor is not None:
            changed[name] = arrange(tensor.detach()).requires_grad_(tensor.requires_grad)
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


def _unaligned(tensor: torch.Tensor) -> torch.Tensor:
    flat = torch.empty(tensor.numel() + 1, dtype=tensor.dtype, device=tensor.device)
    flat[1:] = tensor.flatten()
    return flat[1:].view_as(tensor)


def _same_for_all_sequences(tensor: torch.Tensor) -> torch.Tensor:
    return tensor[:1].clone().expand_as(tensor)


def _one_value(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.new_tensor(0.75).expand_as(tensor)


ALL = ("query", "key", "value", "grad_output")
ARRANGEMENTS: tuple[tuple[str, tuple[str, ...], Arrange], ...] = (
    ("stored in the other layout (a transposed view)", ALL, _other_layout),
    ("stored in the other layout (a transposed view)", ("grad_output",), _other_layout),
    ("sliced from a wider tensor", ALL, _slice_of_wider),
    ("taken as every second row of a tensor", ALL, _every_second),
    ("stored with head_dim apart (a transposed view)", ALL, _columns_apart),
    ("starting one element into their storage", ALL, _unaligned),
    ("expanded over the batch (stride 0)", ("key", "value"), _same_for_all_sequences),
    ("expanded from one number (stride 0), as sum().backward() makes it", ("grad_output",), _one_value),
)
