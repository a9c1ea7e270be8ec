from __future__ import annotations

import pytest
import torch
from torch.overrides import TorchFunctionMode

from attnbench import Variant, Workload
from attnbench.conformance.check import Failed
from attnbench.conformance.plain_tensor import active_modes, lazy_tensor_problem, words_in_memory
from attnbench.conformance.subject import Subject

WORKLOAD = Workload(heads=2, seq_q=16, head_dim=8)


class Lazy(torch.Tensor):
    """A subclass that could delay its work."""


def replaced(name):
    """Return a tensor with a method of its own."""
    tensor = torch.zeros(3)
    setattr(tensor, name, lambda *_: None)
    return tensor


@pytest.mark.parametrize(
    ("tensor", "problem"),
    [
        (torch.zeros(3).as_subclass(Lazy), "lazy tensor subclass: the output is a Lazy"),
        (torch.nn.Parameter(torch.zeros(3)), "lazy tensor subclass: the output is a Parameter"),
        *((replaced(name), f"replaces Tensor.{name}") for name in ("detach", "untyped_storage", "__getitem__")),
        (torch.zeros(3, dtype=torch.complex64).conj(), "conjugation is delayed"),
        (torch.zeros(3, dtype=torch.complex64).conj().imag, "negation"),
    ],
)
def test_a_tensor_that_may_delay_its_work_is_named(tensor, problem):
    """A subclass, a method replaced on one tensor, and a delayed negation or conjugation are problems."""
    assert problem in lazy_tensor_problem(tensor)


def test_a_tensor_that_functorch_wraps_is_named():
    """A tensor inside vmap is a problem, because its values lie in another tensor."""
    problems = []
    torch.vmap(lambda tensor: problems.append(lazy_tensor_problem(tensor)) or tensor)(torch.zeros(2, 3))
    assert "wrapped by functorch" in problems[0]


def test_plain_tensors_are_no_problem():
    """Plain tensors, results of autograd, views, and tensors with attributes that torch does not have are allowed."""
    noted = torch.zeros(3)
    noted._keras_mask = None
    leaf = torch.zeros(3, requires_grad=True)
    for tensor in (torch.zeros(0), noted, leaf * 2, torch.zeros(4, 4).mT[1:, ::2]):
        assert lazy_tensor_problem(tensor) is None


@pytest.mark.parametrize("tensor", [torch.arange(12.0).view(3, 4), torch.arange(1000).view(10, 100).mT[3:, ::3]])
def test_words_are_read_from_the_memory_of_the_tensor(tensor):
    """The bytes that are read are those of the first, the last and other elements, whatever the tensor's strides."""
    flat = tensor.flatten()
    wanted = sorted({(len(flat) - 1) * step // 15 for step in range(16)})
    assert words_in_memory(tensor) == flat[wanted].numpy().tobytes()
    before = words_in_memory(tensor)
    tensor[-1, -1] += 1
    assert words_in_memory(tensor) != before


def test_words_are_unknown_without_elements_or_on_another_device():
    """An empty tensor has no elements to read, and the memory of another device can't be read."""
    assert words_in_memory(torch.zeros(0)) is None
    assert words_in_memory(torch.zeros(3, device="meta")) is None


def test_active_modes_are_counted():
    """A mode of torch is counted as long as it is active."""
    before = active_modes()
    with TorchFunctionMode():
        assert active_modes() == before + 1
    assert active_modes() == before


def test_the_suite_refuses_a_lazy_output():
    """A variant whose output replaces its own methods fails the checks of the contract."""

    class LazyMethods(Variant):
        name = "lazy-methods"

        def prepare(self, workload, inputs):
            def call():
                output = torch.empty_like(inputs.query)
                output.detach = inputs.value.clone
                return output

            return call

    with pytest.raises(Failed, match=r"lazy tensor: the output replaces Tensor\.detach"):
        Subject(LazyMethods()).trial(WORKLOAD).output()
