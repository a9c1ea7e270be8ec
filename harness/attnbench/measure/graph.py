"""A call as a CUDA graph: the kernels alone, without the host's launches."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from attnbench.errors import MeasurementError
from attnbench.measure.anticheat.audit import freshen, poison

if TYPE_CHECKING:
    from attnbench.measure.call import DirectionCall, ReadyCall, Result
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload

WARM_UP_CALLS = 3  # on the side stream, before capture, as torch's notes on CUDA graphs ask for

Capture = Callable[["ReadyCall"], tuple[Callable[[], None], "Result"]]


class GraphCall:
    """Stands in for a `DirectionCall`: it prepares replays of one captured call, which write to the same memory.

    On construction the call is captured and the replay verified: on inputs with a new content and over a poisoned
    output, a replay must give what an eager call gives. Raises MeasurementError where capture does not work.
    """

    def __init__(
        self, direction_call: DirectionCall, inputs: Inputs, workload: Workload, capture: Capture | None = None
    ) -> None:
        if workload.direction == "backward" or workload.dropout:
            what = "dropout" if workload.dropout else "direction backward"
            raise MeasurementError(f"graph mode can't do {what}: use hot mode, or forward_backward without dropout")
        try:
            self._replay, self._result = (capture or capture_on_cuda)(direction_call.prepare()[0])
        except RuntimeError as error:
            raise MeasurementError(f"graph mode: the call can't be captured, use hot mode: {error}") from error
        self._verify(direction_call, inputs)

    def prepare(self, calls: int = 1) -> list[ReadyCall]:
        """Make `calls` replays to be timed."""
        return [self._replayed] * calls

    def _replayed(self) -> Result:
        self._replay()
        return self._result

    def _verify(self, direction_call: DirectionCall, inputs: Inputs) -> None:
        freshen(inputs, random.Random(0))  # noqa: S311 - any other content will do
        poison(self._result)
        output, grads = self._replayed()
        expected, expected_grads = direction_call.prepare()[0]()
        try:
            torch.testing.assert_close(output, expected.detach())
            torch.testing.assert_close(grads, expected_grads)
        except AssertionError as error:
            raise MeasurementError(
                "graph mode: a replay on changed inputs does not give what the call gives, "
                f"so the graph has caught something else: {str(error).splitlines()[0]}"
            ) from error


def capture_on_cuda(ready: ReadyCall) -> tuple[Callable[[], None], Result]:
    """Capture one call on the current device; give its replay and the tensors that a replay writes."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP_CALLS):
            ready()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output, grads = ready()
    return graph.replay, (output.detach(), grads)
