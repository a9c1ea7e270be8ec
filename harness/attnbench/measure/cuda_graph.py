"""A call captured as a CUDA graph, so that one launch from the host runs all kernels of the call."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from attnbench.errors import MeasurementError
from attnbench.measure.anticheat.audit import change_content, poison

if TYPE_CHECKING:
    from attnbench.measure.call import DirectionCall, ReadyCall, Result
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload

WARM_UP_CALLS = 3  # calls made on a side stream before the capture, as PyTorch's notes on CUDA graphs recommend

# The type of a function that captures a call and returns two values: a function that replays the call, and the tensors
# that each replay overwrites.
Capture = Callable[["ReadyCall"], tuple[Callable[[], None], "Result"]]


class GraphCall:
    """A replacement for `DirectionCall` that prepares replays of one captured graph.

    All replays write to the same memory. The constructor captures the call and then checks a replay: it changes the
    inputs, fills the captured output with NaN, and compares the result of the replay with that of an ordinary call.
    Raises MeasurementError if graph mode does not support the workload, if the call can't be captured, or if the
    results differ.
    """

    def __init__(
        self, direction_call: DirectionCall, inputs: Inputs, workload: Workload, capture: Capture | None = None
    ) -> None:
        if workload.direction == "backward" or workload.dropout:
            what = "dropout" if workload.dropout else "direction backward"
            raise MeasurementError(
                f"graph mode does not support {what}: use hot mode, or direction forward_backward without dropout"
            )
        try:
            self._replay, self._result = (capture or capture_on_cuda)(direction_call.prepare()[0])
        except RuntimeError as error:
            raise MeasurementError(f"the call can't be captured as a CUDA graph, use hot mode: {error}") from error
        self._verify(direction_call, inputs)

    def prepare(self, calls: int = 1) -> list[ReadyCall]:
        """Return `calls` replays to time."""
        return [self._replayed] * calls

    def _replayed(self) -> Result:
        self._replay()
        return self._result

    def _verify(self, direction_call: DirectionCall, inputs: Inputs) -> None:
        change_content(inputs, random.Random(0))  # noqa: S311 - the new content need not be unpredictable
        poison(self._result)
        output, grads = self._replayed()
        expected, expected_grads = direction_call.prepare()[0]()
        try:
            torch.testing.assert_close(output, expected.detach())
            torch.testing.assert_close(grads, expected_grads)
        except AssertionError as error:
            raise MeasurementError(
                "graph mode: a replay on changed inputs must return the same result as an ordinary call, but it "
                f"does not; use hot mode: {str(error).splitlines()[0]}"
            ) from error


def capture_on_cuda(ready_call: ReadyCall) -> tuple[Callable[[], None], Result]:
    """Capture one call on the current device.

    Returns a function that replays the call, and the tensors that each replay overwrites.
    """
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP_CALLS):
            ready_call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output, grads = ready_call()
    return graph.replay, (output.detach(), grads)
