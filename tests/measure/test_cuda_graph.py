from __future__ import annotations

import pytest
import torch

from attnbench import Workload
from attnbench.errors import MeasurementError
from attnbench.measure.call import DirectionCall
from attnbench.measure.cuda_graph import GraphCall
from attnbench.tensors.inputs import make_inputs


def make_call(direction="forward", dropout=0.0):
    """Return a workload, its inputs and a DirectionCall for plain attention."""
    workload = Workload(heads=1, seq_q=8, head_dim=4, direction=direction, dropout=dropout)
    inputs = make_inputs(workload, "cpu")

    def call():
        return (inputs.query @ inputs.key.mT).softmax(-1) @ inputs.value

    return workload, inputs, DirectionCall(call, inputs, workload)


def faithful(ready_call):
    """Imitate capturing a CUDA graph: each replay repeats the call and writes the results to the captured memory."""
    output, grads = ready_call()
    output = output.detach()

    def replay():
        new, new_grads = ready_call()
        output.copy_(new.detach())
        for old, fresh in zip(grads or (), new_grads or (), strict=True):
            old.copy_(fresh)

    return replay, (output, grads)


@pytest.mark.parametrize("direction", ["forward", "forward_backward"])
def test_a_faithful_replay_is_accepted(direction):
    """A graph that repeats the call at each replay is accepted, and its replays share one output."""
    workload, inputs, direction_call = make_call(direction)
    graph = GraphCall(direction_call, inputs, workload, faithful)
    first, second = (replay()[0] for replay in graph.prepare(2))
    assert first is second
    torch.testing.assert_close(first, direction_call.prepare()[0]()[0].detach())


def test_a_replay_that_does_not_write_the_output_is_refused():
    """A graph that captured no work leaves NaN in the output, which raises MeasurementError."""
    workload, inputs, direction_call = make_call()
    with pytest.raises(MeasurementError, match="replay on changed inputs"):
        GraphCall(direction_call, inputs, workload, lambda ready_call: (lambda: None, ready_call()))


def test_a_replay_of_a_constant_is_refused():
    """A graph that only rewrites the captured output is wrong on changed inputs, which raises MeasurementError."""
    workload, inputs, direction_call = make_call()

    def constant(ready_call):
        output, _ = ready_call()
        seen = output.clone()
        return lambda: output.copy_(seen), (output, None)

    with pytest.raises(MeasurementError, match="replay on changed inputs"):
        GraphCall(direction_call, inputs, workload, constant)


def test_an_impossible_capture_names_the_remedy():
    """A failed capture, dropout and direction backward each raise an error that suggests hot mode."""
    workload, inputs, direction_call = make_call()

    def failing(ready_call):
        raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(MeasurementError, match="can't be captured as a CUDA graph, use hot mode"):
        GraphCall(direction_call, inputs, workload, failing)
    for options in ({"direction": "backward"}, {"dropout": 0.1}):
        workload, inputs, direction_call = make_call(**options)
        with pytest.raises(MeasurementError, match="use hot mode"):
            GraphCall(direction_call, inputs, workload, faithful)
