"""The alignment of tensors, and copies of tensors that are not aligned as a variant declares."""

import pytest
import torch

from attnbench import Variant
from attnbench.tensors.alignment import aligned, aligned_for, is_aligned, needed_alignment

SHAPE = (2, 3, 5, 8)


def starting_at(offset, shape=SHAPE, dtype=torch.float32):
    """Return random values that start `offset` elements into their storage."""
    count = torch.Size(shape).numel()
    storage = torch.randn(count + offset, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert storage.data_ptr() % 64 == 0
    return storage[offset:].view(shape)


@pytest.mark.parametrize(
    ("tensor", "alignment_bytes", "expected"),
    [
        (starting_at(0), 16, True),
        (starting_at(1), 1, True),
        (starting_at(1), 4, True),
        (starting_at(1), 8, False),
        (starting_at(4), 16, True),
        (starting_at(8, dtype=torch.bfloat16), 16, True),
        (starting_at(7, dtype=torch.bfloat16), 16, False),
        (starting_at(0, (2, 3, 5, 9))[..., :8], 16, False),  # rows are 36 bytes apart
        (starting_at(0, (2, 3, 5, 12))[..., :8], 16, True),  # rows are 48 bytes apart
        (starting_at(0, (2, 3, 5, 9)), 16, True),  # as aligned as any contiguous tensor of this width
        (starting_at(0).transpose(1, 2), 16, True),
        (starting_at(0).mT, 16, True),
        (starting_at(1).mT, 16, False),
        (starting_at(0)[:, :1].expand(SHAPE), 16, True),
        (starting_at(1, (0, 3, 5, 8)), 16, True),
    ],
)
def test_the_first_element_and_the_rows_are_aligned(tensor, alignment_bytes, expected):
    """A tensor is aligned if its first element is, and if its rows are as aligned as those of a contiguous tensor."""
    assert is_aligned(tensor, alignment_bytes) is expected


def test_only_an_unaligned_tensor_is_copied():
    """An aligned tensor is returned itself, and the copy of another one is aligned, equal and differentiable."""
    plain = starting_at(4).requires_grad_()
    assert aligned(plain, 16) is plain
    odd = starting_at(1).requires_grad_()
    copy = aligned(odd, 16)
    assert is_aligned(copy, 16)
    assert torch.equal(copy, odd)
    copy.sum().backward()
    assert torch.equal(odd.grad, torch.ones(SHAPE))


def test_a_declared_alignment_applies_to_gpus():
    """The declared alignment is needed on a GPU, and a CPU reads tensors at any address without a copy."""
    declared = Variant()
    declared.alignment_bytes = 16
    assert [needed_alignment(declared, each) for each in ("cuda", "cpu")] == [16, 1]
    assert [needed_alignment(Variant(), each) for each in ("cuda", "cpu")] == [1, 1]
    odd = starting_at(1)
    assert aligned_for(declared, odd, odd) == (odd, odd)
