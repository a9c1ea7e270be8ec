"""One call in a workload's direction, split into an untimed preparation and a timed part."""

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


# This reference is taken before any plugin is imported, so that no plugin can replace the function.
_grad = torch.autograd.grad

Result = tuple[torch.Tensor, tuple[torch.Tensor, ...] | None]  # the output, and the gradients of query, key and value
ReadyCall = Callable[[], Result]


class DirectionCall:
    """A variant's callable, wrapped to run the forward and backward passes of the workload's direction.

    `prepare` does the untimed work and returns the callables to time. What these callables run depends on the
    direction:

    - `forward`: the variant's callable
    - `forward_backward`: the variant's callable, then autograd on its output with `grad_output`
    - `backward`: autograd alone, because `prepare` has already run the forward pass

    Each call returns its gradients as new tensors (from `torch.autograd.grad`) and accumulates nothing in `.grad`.
    """

    def __init__(self, call: Timed, inputs: Inputs, workload: Workload) -> None:
        self._call = call
        self._inputs = inputs
        self._direction = workload.direction

    def prepare(self, calls: int = 1) -> list[ReadyCall]:
        """Return `calls` callables to time, each of which may be called only once."""
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
