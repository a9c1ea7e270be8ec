"""A plugin that runs attention libraries' Triton kernels in Triton's interpreter.

`TRITON_INTERPRET=1 attnbench check -p tests/variants/interpreted.py` runs the conformance suite on the libraries and
their wrappers without a GPU. Because the libraries require a GPU, torch reports a fake GPU of compute capability 9.0
while they are called.
"""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from unittest import mock

import torch

from attnbench import Variant, hookimpl
from attnbench_variants import xformers_mea
from attnbench_variants.sage import Sage
from attnbench_variants.xformers_mea import Xformers

CAPABILITY = (9, 0)
MULTIPROCESSORS = 132


@contextlib.contextmanager
def pretended_gpu():
    """Make CPU tensors look like CUDA tensors, and make torch report a GPU."""
    properties = SimpleNamespace(multi_processor_count=MULTIPROCESSORS)
    with contextlib.ExitStack() as stack:
        for owner, name, stand_in in (
            (torch.cuda, "is_available", lambda: True),
            (torch.cuda, "get_device_capability", lambda device=None: CAPABILITY),
            (torch.cuda, "get_device_properties", lambda device=None: properties),
            (torch.cuda, "device", lambda device: contextlib.nullcontext()),
            (torch.Tensor, "is_cuda", property(lambda tensor: True)),
        ):
            stack.enter_context(mock.patch.object(owner, name, stand_in))
        yield


class Interpreted(Variant):
    """A variant that wraps another variant and runs its library in Triton's interpreter."""

    costly_on = ("cpu",)

    def __init__(self, wrapped: Variant) -> None:
        self.wrapped = wrapped
        self.name = f"interpreted-{wrapped.name}"
        self.layout, self.tier = wrapped.layout, wrapped.tier

    def unsupported_reason(self, workload, device):
        """Return the reason that the wrapped variant would return on a GPU."""
        with pretended_gpu():
            return self.wrapped.unsupported_reason(workload, "cuda")

    def prepare(self, workload, inputs):
        """Prepare the wrapped variant. torch reports the fake GPU only during the timed calls."""
        call = self.wrapped.prepare(workload, inputs)

        def attend():
            with pretended_gpu():
                return call()

        return attend


class UnguardedSage(Interpreted):
    """SageAttention without the refusals of its wrapper, used to test that the refusals are justified."""

    def __init__(self) -> None:
        super().__init__(Sage())
        self.name = "unguarded-sage"

    def unsupported_reason(self, workload, device):
        """Return None, so that no workload is refused."""
        return


class InterpretedSplitK(Interpreted):
    """xformers' triton_splitk, with its operator changed to accept CPU tensors."""

    def __init__(self) -> None:
        super().__init__(Xformers("xformers-triton-splitk", "triton_splitk"))

    def unsupported_reason(self, workload, device):
        """Return the reason from the wrapper or, if it has none, from the changed operator."""
        with willing_operator():
            return next(xformers_mea._refusals(workload), None) or self.wrapped.lacking(workload, torch.device("cpu"))

    def prepare(self, workload, inputs):
        """Prepare the variant. The operator accepts CPU tensors only during the timed calls."""
        call = super().prepare(workload, inputs)

        def attend():
            with willing_operator():
                return call()

        return attend


@contextlib.contextmanager
def willing_operator():
    """Make triton_splitk accept CPU tensors, except bfloat16, which the interpreter rounds incorrectly."""
    from xformers.ops.fmha import triton_splitk

    asked = triton_splitk.FwOp.not_supported_reasons

    def reasons(problem):
        return [reason for reason in asked(problem) if not reason.startswith("device=")]

    with (
        mock.patch.object(triton_splitk.FwOp, "not_supported_reasons", reasons),
        mock.patch.object(triton_splitk, "_is_cuda", return_value=True),
    ):
        yield


@hookimpl
def attnbench_variants():
    """Return the variants for SageAttention and for triton_splitk."""
    return [Interpreted(Sage()), InterpretedSplitK()]
