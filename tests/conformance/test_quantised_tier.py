"""Tests of the error rules for variants that compute in 8 bits."""

import pytest
import torch

from attnbench import Variant, Workload
from attnbench.conformance.gate import Gate
from attnbench.conformance.suite import checks
from attnbench.tensors.inputs import make_inputs


def to_steps(tensor, steps, block):
    """Round a tensor of shape (..., S, D) to multiples of a step size, with `steps` steps on each side of 0.

    Each block of `block` rows has its own step size: the block's largest absolute entry, divided by `steps`.
    """
    parts = tensor.split(block, -2)
    sizes = (part.abs().amax((-2, -1), keepdim=True).clamp(min=1e-20) / steps for part in parts)
    return torch.cat([(part / size).round() * size for part, size in zip(parts, sizes, strict=True)], -2)


class Rounded(Variant):
    """Attention that rounds queries and keys to `steps` steps on each side of 0, as INT8 kernels do."""

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
        rounded = to_steps(tensor.float(), self.steps, tensor.shape[-2])
        return tensor + (rounded - tensor).detach()  # the gradient is computed as if nothing were rounded


class InBlocks(Variant):
    """Attention that rounds blocks of queries and centred keys to 8 bits, like SageAttention, optionally with a bug."""

    name = "in-blocks"
    tier = "quantised"

    def __init__(self, bug=None):
        self.bug = bug

    def unsupported_reason(self, workload, device):
        if workload.needs_gradient or workload.softcap or workload.alibi or workload.dropout or 0 in (
            workload.batch, workload.seq_q, workload.seq_k
        ):  # fmt: skip
            return "no backward pass, softcap, ALiBi, dropout or empty tensors"
        if workload.mask.kind not in ("none", "causal") or workload.dtype == "float32" or workload.head_dim % 64:
            return "no such mask, dtype or head_dim"
        if workload.mask.kind == "causal" and workload.seq_q > workload.seq_k:
            return "every query must see a key"
        return None

    def prepare(self, workload, inputs):
        group = workload.heads // workload.kv_heads
        scale = workload.effective_scale * (1.1 if self.bug == "scale 10% too large" else 1.0)
        shift = workload.seq_k - workload.seq_q + (1 if self.bug == "mask off by one" else 0)

        def attend():
            query, key, value = (tensor.float() for tensor in inputs.leaves)
            key = key - key.mean(-2, keepdim=True)
            if self.bug == "keys of another head":
                key = key.roll(1, 1)
            key, value = (tensor.repeat_interleave(group, 1) for tensor in (key, value))
            steps = 7 if self.bug == "4 bits" else 127
            scores = to_steps(scale * query, steps, 128) @ to_steps(key, steps, 64).mT
            if workload.mask.kind == "causal" and self.bug != "no mask":
                hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1 + shift)
                scores = scores.masked_fill(hidden, -1e30)
            weights = scores.softmax(-1)
            if self.bug == "a part block counts as a whole one":
                part = -workload.seq_k % 64
                total = scores.logsumexp(-1, keepdim=True).exp()
                weights = weights * total / (total + part)
            if self.bug == "last key dropped":
                weights = weights[..., :-1] / weights[..., :-1].sum(-1, keepdim=True)
                value = value[..., :-1, :]
            return (weights.half() @ value.half()).to(inputs.query.dtype)

        return attend


def failures(variant, *only):
    """Run the named quick checks (default: all); return the names of failed checks and the number of passed tests."""
    results = list(checks(variant, level="quick", only=only or None))
    return {each.check for each in results if each.status == "failed"}, sum(each.status == "passed" for each in results)


def test_blocks_of_8_bits_pass_the_whole_suite():
    """Correct 8-bit attention passes all checks."""
    failed, passed = failures(InBlocks())
    assert not failed
    assert passed > 40


@pytest.mark.parametrize(
    "bug",
    ["scale 10% too large", "mask off by one", "keys of another head", "no mask", "last key dropped", "4 bits",
     "a part block counts as a whole one"],
)  # fmt: skip
def test_bugs_in_8_bits_fail(bug):
    """The checks catch bugs in 8-bit attention, even though the quantised tier's tolerances are wide."""
    failed, _ = failures(InBlocks(bug), "masks", "needle", "dtypes", "no-leak", "combinations")
    assert failed


def verdict(variant):
    """Return the gate's verdict on a variant for one small workload."""
    workload = Workload(batch=2, heads=4, seq_q=128, head_dim=64, dtype="bfloat16")
    inputs = make_inputs(workload, "cpu")
    return Gate(variant, workload, inputs, variant.prepare(workload, inputs), seed=0).before()


def test_eight_bits_pass():
    """Attention with 8-bit queries and keys stays within the tolerance of the quantised tier."""
    judged = verdict(Rounded(127))
    assert judged.passed, judged.reason
    assert judged.worst_ratio > 0.02
    assert "quantised" in judged.rule


@pytest.mark.parametrize("variant", [Rounded(3), Rounded(127, scale=1.2)], ids=["3 bits", "wrong scale"])
def test_coarser_rounding_and_wrong_scales_fail(variant):
    """A wrong scale or much coarser rounding causes errors that exceed the tolerance of the quantised tier."""
    assert not verdict(variant).passed


def test_gradients_of_the_tier_are_judged():
    """In the quantised tier, correct gradients pass and wrong gradients fail."""
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
