"""The error rule for variants that compute in 8 bits."""

import pytest
import torch

from attnbench import Variant, Workload
from attnbench.conformance.gate import Gate
from attnbench.inputs import make_inputs


class Rounded(Variant):
    """Attention from queries and keys rounded to a number of steps each side of 0, as INT8 kernels do."""

    name = "rounded"
    tier = "quantised"

    def __init__(self, steps, scale=1.0):
        self.steps = steps
        self.scale = scale

    def prepare(self, workload, inputs):
        def attend():
            query, key = (self._rounded(tensor) for tensor in (inputs.query, inputs.key))
            weights = (query @ key.mT * workload.effective_scale * self.scale).softmax(-1)
            return weights.to(inputs.value.dtype) @ inputs.value

        return attend

    def _rounded(self, tensor):
        step = tensor.float().abs().amax((-2, -1), keepdim=True) / self.steps
        rounded = (tensor.float() / step).round() * step
        return tensor + (rounded - tensor).detach()  # so that gradients pass as if nothing was rounded


def verdict(variant):
    """Judge a variant on one small workload."""
    workload = Workload(batch=2, heads=4, seq_q=128, head_dim=64, dtype="bfloat16")
    inputs = make_inputs(workload, "cpu")
    return Gate(variant, workload, inputs, variant.prepare(workload, inputs), seed=0).before()


def test_eight_bits_pass():
    """Scores from 8-bit queries and keys lie within the quantised tier's tolerance."""
    judged = verdict(Rounded(127))
    assert judged.passed, judged.reason
    assert judged.worst_ratio > 0.02
    assert "quantised" in judged.rule


@pytest.mark.parametrize("variant", [Rounded(3), Rounded(127, scale=1.2)], ids=["3 bits", "wrong scale"])
def test_coarser_rounding_and_wrong_scales_do_not(variant):
    """The tier is no free pass: a wrong scale, or far coarser rounding, fails."""
    assert not verdict(variant).passed


def test_gradients_are_held_to_the_same_share():
    """A quantised variant with a backward pass has its gradients judged too."""
    workload = Workload(heads=2, seq_q=64, head_dim=32, dtype="bfloat16", direction="backward")
    inputs = make_inputs(workload, "cpu")

    class Wrong(Rounded):
        def prepare(self, workload, inputs):
            call = super().prepare(workload, inputs)
            return lambda: call() + inputs.query * 0.5 - inputs.query.detach() * 0.5

    for variant, right in ((Rounded(10_000), True), (Wrong(10_000), False)):
        judged = Gate(variant, workload, inputs, variant.prepare(workload, inputs), seed=0).before()
        assert judged.passed is right, judged.reason
        assert torch.isfinite(inputs.query).all()
