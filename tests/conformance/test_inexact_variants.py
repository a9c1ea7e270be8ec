"""Tests of the suite on variants that are not softmax attention."""

import pytest

from attnbench import Variant
from attnbench.conformance.subject import Subject
from attnbench.conformance.suite import cases, run_case


class Mean(Variant):
    """A variant that is not softmax attention: it returns the mean of all values, multiplied by a factor."""

    name = "mean"
    exact = False

    def __init__(self, factor):
        self.factor = factor

    def unsupported_reason(self, workload, device):
        return (
            None
            if workload.heads == workload.kv_heads and workload.seq_k
            else "needs as many key heads as query heads, and at least one key"
        )

    def prepare(self, workload, inputs):
        def attend():
            touched = (inputs.query.sum(-1, keepdim=True) + inputs.key.mean((2, 3), keepdim=True)) * 0
            return touched + inputs.value.mean(2, keepdim=True) * self.factor

        return attend


@pytest.mark.parametrize(("factor", "outcome"), [(2.0, {"passed"}), (float("nan"), {"failed"})])
def test_any_finite_answer_passes(factor, outcome):
    """A finite answer passes even though it is not softmax attention, but NaN fails."""
    variant = Mean(factor)
    found = {
        run_case(Subject(variant, "cpu", 0), case, level="quick").status
        for case in cases(variant, "cpu", "quick", only=["fresh-output"])
    }
    assert found == outcome
