"""One call in the direction of a workload: what is prepared beforehand, and what is timed."""

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


_grad = torch.autograd.grad  # kept before a plugin is imported, so that no plugin can replace it

Result = tuple[torch.Tensor, tuple[torch.Tensor, ...] | None]  # the output, and the gradients of query, key and value
ReadyCall = Callable[[], Result]


class DirectionCall:
    """A variant's callable with the passes that the workload's direction asks for.

    `prepare` does everything that is not timed, and returns the callables to time:

    - `forward`: the variant's callable
    - `forward_backward`: the variant's callable, then autograd on its output with `grad_output`
    - `backward`: autograd alone; `prepare` has done the forward pass

    Gradients are new tensors for each call (`torch.autograd.grad`) and are never accumulated into `.grad`.
    """

    def __init__(self, call: Timed, inputs: Inputs, workload: Workload) -> None:
        self._call = call
        self._inputs = inputs
        self._direction = workload.direction

    def prepare(self, calls: int = 1) -> list[ReadyCall]:
        """Return `calls` callables to time, each of which must be called once."""
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
