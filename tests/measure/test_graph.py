from __future__ import annotations

import pytest
import torch

from attnbench import Workload
from attnbench.errors import MeasurementError
from attnbench.measure.call import DirectionCall
from attnbench.measure.graph import GraphCall
from attnbench.tensors.inputs import make_inputs


def made(direction="forward", dropout=0.0):
    """Return a workload, its inputs and a DirectionCall of plain attention."""
    workload = Workload(heads=1, seq_q=8, head_dim=4, direction=direction, dropout=dropout)
    inputs = make_inputs(workload, "cpu")

    def call():
        return (inputs.query @ inputs.key.mT).softmax(-1) @ inputs.value

    return workload, inputs, DirectionCall(call, inputs, workload)


def faithful(ready):
    """Capture as a graph does: a replay computes anew and writes to the captured memory."""
    output, grads = ready()
    output = output.detach()

    def replay():
        new, new_grads = ready()
        output.copy_(new.detach())
        for old, fresh in zip(grads or (), new_grads or (), strict=True):
            old.copy_(fresh)

    return replay, (output, grads)


@pytest.mark.parametrize("direction", ["forward", "forward_backward"])
def test_a_faithful_replay_is_accepted(direction):
    """A graph that computes anew at each replay passes, and its replays share one output."""
    workload, inputs, direction_call = made(direction)
    graph = GraphCall(direction_call, inputs, workload, faithful)
    first, second = (one()[0] for one in graph.prepare(2))
    assert first is second
    torch.testing.assert_close(first, direction_call.prepare()[0]()[0].detach())


def test_a_replay_that_leaves_the_output_alone_is_refused():
    """A graph that caught no work leaves the poison in the output."""
    workload, inputs, direction_call = made()
    with pytest.raises(MeasurementError, match="replay on changed inputs"):
        GraphCall(direction_call, inputs, workload, lambda ready: (lambda: None, ready()))


def test_a_replay_of_a_constant_is_refused():
    """A graph that writes what it saw at capture is out of date on changed inputs."""
    workload, inputs, direction_call = made()

    def constant(ready):
        output, _ = ready()
        seen = output.clone()
        return lambda: output.copy_(seen), (output, None)

    with pytest.raises(MeasurementError, match="replay on changed inputs"):
        GraphCall(direction_call, inputs, workload, constant)


def test_what_cannot_be_captured_says_what_to_do():
    """A failing capture, dropout and direction backward are errors that name the way out."""
    workload, inputs, direction_call = made()

    def failing(ready):
        raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(MeasurementError, match="can't be captured, use hot mode"):
        GraphCall(direction_call, inputs, workload, failing)
    for options in ({"direction": "backward"}, {"dropout": 0.1}):
        workload, inputs, direction_call = made(**options)
        with pytest.raises(MeasurementError, match="use hot mode"):
            GraphCall(direction_call, inputs, workload, faithful)
