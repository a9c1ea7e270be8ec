"""The check of tensors that do not start at an aligned address. It runs last, because it may make a GPU unusable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from attnbench.conformance.check import Failed, Skipped, check
from attnbench.conformance.checks.strides import ALL, arranged, judge, strides
from attnbench.tensors.alignment import needed_alignment
from attnbench.tensors.inputs import dtype_of, make_inputs

if TYPE_CHECKING:
    from attnbench.conformance.subject import Subject
    from attnbench.workloads.workload import Workload


@check(
    "unaligned",
    demands="inputs and grad_output are read correctly if they start at any multiple of the declared alignment_bytes",
    why="a slice of a tensor may start anywhere, and a GPU kernel that loads whole vectors faults at such an address",
    usual_bug="a kernel loads 16 bytes at a time and does not check the address",
    remedy="copy unaligned tensors in the callable, or declare the alignment_bytes that the kernels need",
    quick=strides.quick,
)
def unaligned(subject: Subject, workload: Workload) -> None:
    """Compare the answer with the reference for inputs that start as little aligned as the variant allows.

    Raises Skipped, after the comparison, if the variant declares that inputs must be more aligned than one element.
    """
    needed, size = needed_alignment(subject.variant, subject.device_type), dtype_of(workload).itemsize
    offset = max(1, needed // size)
    plain = make_inputs(workload, subject.device, subject.variant.layout, subject.seed_of("unaligned"))
    try:
        judge(subject, workload, arranged(plain, ALL, lambda tensor: _starting_at(tensor, offset)))
    except Failed as failure:
        raise failure.within(f"with {' and '.join(ALL)} starting {offset * size} bytes into their storage") from failure
    if needed > size:
        raise Skipped(
            f"not applicable below {needed} bytes: the variant declares alignment_bytes = {needed}, and answers are "
            f"correct for tensors that start {needed} bytes into their storage"
        )


def _starting_at(tensor: torch.Tensor, offset: int) -> torch.Tensor:
    """Return a copy of the tensor that starts `offset` elements into its storage."""
    storage = torch.empty(tensor.numel() + offset, dtype=tensor.dtype, device=tensor.device)
    storage[offset:] = tensor.flatten()
    return storage[offset:].view_as(tensor)
