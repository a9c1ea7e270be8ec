"""Tests of chunks, which split tensors of any shape and strides into parts of bounded size."""

import pytest
import torch

from attnbench.tensors import chunks as chunks_module
from attnbench.tensors.chunks import all_finite, chunks

VIEWS = {
    "contiguous": lambda: torch.arange(240.0).view(2, 3, 8, 5),
    "transposed": lambda: torch.arange(240.0).view(2, 8, 3, 5).transpose(1, 2),
    "one sequence": lambda: torch.arange(240.0).view(1, 1, 48, 5),
    "wide rows": lambda: torch.arange(240.0).view(1, 2, 1, 120),
    "expanded": lambda: torch.arange(5.0).expand(2, 3, 8, 5),
    "strided": lambda: torch.arange(480.0).view(2, 3, 8, 10)[..., ::2],
    "empty": lambda: torch.empty(2, 0, 8, 5),
}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Limit chunks on a CPU to 16 elements."""
    monkeypatch.setitem(chunks_module.CHUNK_ELEMENTS, "cpu", 16)


@pytest.mark.parametrize("name", VIEWS)
def test_chunks_are_bounded_and_contain_each_element_once_in_order(name):
    """No chunk is larger than the limit, and all chunks together contain the tensor's elements in order."""
    tensor = VIEWS[name]()
    parts = list(chunks(tensor))
    assert all(0 < part.numel() <= 16 for part in parts)
    assert torch.cat([part.reshape(-1) for part in parts] or [tensor.reshape(-1)]).equal(tensor.reshape(-1))


def test_chunks_are_views():
    """Writing to the chunks changes the tensor, whatever its strides."""
    tensor = VIEWS["transposed"]()
    for part in chunks(tensor):
        part.zero_()
    assert not tensor.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_value_that_is_not_finite_is_found(dtype, value):
    """A single NaN or infinity in any of several tensors is found."""
    tensor = VIEWS["transposed"]().to(dtype)
    assert all_finite(tensor, VIEWS["empty"]())
    tensor[1, 2, 7, 3] = value
    assert not all_finite(torch.zeros(3), tensor)
