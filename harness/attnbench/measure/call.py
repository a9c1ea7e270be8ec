"""One call of a direction: what is made ready beforehand, and what is timed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch

from attnbench.errors import MeasurementError

if TYPE_CHECKING:
    from attnbench.plugins.variant import Timed
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload

_grad = torch.autograd.grad  # taken before any plugin is imported

Result = tuple[torch.Tensor, tuple[torch.Tensor, ...] | None]  # output, and gradients of query, key, value
ReadyCall = Callable[[], Result]


class DirectionCall:
    """The timed part of a direction: `ready(calls)` does what is not timed and returns callables to time, one a call.

    - `forward`: the callable
    - `forward_backward`: the callable, then autograd on its output with `grad_output`
    - `backward`: autograd alone; the forward pass is done by `ready`

    Gradients are fresh tensors each time (`torch.autograd.grad`), never accumulated into `.grad`.
    """

    def __init__(self, call: Timed, inputs: Inputs, workload: Workload) -> None:
        self._call = call
        self._inputs = inputs
        self._direction = workload.direction

    def prepare(self, calls: int = 1) -> list[ReadyCall]:
        """Make `calls` timed callables, each to be called once."""
        if self._direction == "backward":
            return [partial(self._backward, self._call()) for _ in range(calls)]
        return [self._forward if self._direction == "forward" else self._forward_backward] * calls

    def _forward(self) -> Result:
        return self._call(), None

    def _forward_backward(self) -> Result:
        return self._backward(self._call())

    def _backward(self, output: torch.Tensor) -> Result:
        try:
            return output, _grad(output, self._inputs.leaves, self._inputs.grad_output)
        except RuntimeError as error:
            if not getattr(output, "requires_grad", False):
                raise MeasurementError(
                    "the output has no gradient: the callable must stay differentiable in query, key and value "
                    "(no torch.no_grad, no detach)"
                ) from error
            raise
