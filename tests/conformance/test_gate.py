"""Tests of the gate, which accepts correct answers for any sequence length, and reports the errors of wrong answers."""

from unittest.mock import Mock

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.functional import scaled_dot_product_attention

from attnbench import Mask, Variant, Workload, variant
from attnbench.conformance import gate as gate_module
from attnbench.conformance import subject
from attnbench.conformance.gate import Gate
from attnbench.errors import HarnessMemoryError
from attnbench.tensors.inputs import DRAWN, make_inputs, refill

TRAINING = Workload(4, 200, 16, batch=2, kv_heads=2, mask=Mask("causal"), direction="forward_backward")


@variant("correct")
def correct(query, key, value, workload):
    """Compute attention with torch's own function and an explicit mask."""
    rows, columns = torch.arange(workload.seq_q)[:, None], torch.arange(workload.seq_k)[None]
    seen = columns <= rows + workload.seq_k - workload.seq_q if workload.mask.is_causal else None
    return scaled_dot_product_attention(query, key, value, seen, scale=workload.scale, enable_gqa=True)


def gate_of(tested, workload, seed=0):
    """Prepare a variant and return its gate."""
    inputs = make_inputs(workload, "cpu", tested.layout, seed)
    return Gate(tested, workload, inputs, tested.prepare(workload, inputs), seed)


def verdict_on(function, workload=TRAINING, **options):
    """Turn a function into a variant and return the gate's verdict before the timing."""
    return gate_of(variant("tested", **options)(function), workload).before()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_correct_attention_passes_before_during_and_after(dtype):
    """Correct answers pass the checks before, during and after the timing."""
    workload = Workload.from_json({**TRAINING.to_json(), "dtype": dtype})
    gate = gate_of(correct, workload)
    output = gate.call()
    grads = torch.autograd.grad(output, gate.inputs.leaves, gate.inputs.grad_output)
    for verdict in (gate.before(), gate.after()):
        assert verdict.passed, verdict.reason
        assert 0 < verdict.worst_ratio <= 1
        assert set(verdict.to_json()) == {"rule", "worst_ratio", "max_abs"}
    refill(gate.inputs, 5)
    assert not gate.recheck([gate.excerpt(output, grads)]).passed, "the output was computed from the old inputs"
    output = gate.call()
    grads = torch.autograd.grad(output, gate.inputs.leaves, gate.inputs.grad_output)
    assert gate.recheck([gate.excerpt(output.detach(), grads)]).passed


def test_each_result_is_rechecked_at_a_part_of_its_own():
    """The part that is checked of a result is chosen anew for each, and a wrong result is found among correct ones."""
    gate = gate_of(correct, TRAINING)
    output = gate.call()
    grads = torch.autograd.grad(output, gate.inputs.leaves, gate.inputs.grad_output)
    assert len({gate.excerpt(output, grads).answer.part for _ in range(20)}) > 1

    def recheck(*outputs):
        return gate.recheck([gate.excerpt(output, grads) for output in outputs])

    right, wrong = output.detach(), output.detach() + 1
    assert recheck(right, right).passed
    assert not recheck(right, wrong).passed
    assert not recheck(wrong, right).passed


def test_a_long_sequence_is_checked_at_sampled_rows():
    """With 65536 keys, the gate compares only a few rows, but still detects a scale that is off by 2%."""
    workload = Workload(2, 64, 16, kv_heads=1, seq_k=65536, direction="forward_backward")
    assert gate_of(correct, workload).before().passed
    wrong = verdict_on(
        lambda q, k, v, w: scaled_dot_product_attention(q, k, v, scale=1.02 / 4, enable_gqa=True), workload
    )
    assert not wrong.passed


WRONG = {
    "the mask is ignored": lambda q, k, v, w: scaled_dot_product_attention(q, k, v, enable_gqa=True),
    "the scale is missing": lambda q, k, v, w: scaled_dot_product_attention(
        q, k, v, is_causal=True, enable_gqa=True, scale=1.0
    ),
    "key heads are tiled": lambda q, k, v, w: scaled_dot_product_attention(
        q, k.repeat(1, 2, 1, 1), v.repeat(1, 2, 1, 1), is_causal=True
    ),
    "a fresh tensor": lambda q, k, v, w: q,
    "dtype is torch.float64": lambda q, k, v, w: correct.function(q, k, v, w).double(),
    "shape is (2, 4, 199, 16)": lambda q, k, v, w: correct.function(q, k, v, w)[:, :, 1:],
    "autograd can't reach": lambda q, k, v, w: correct.function(q, k, v, w).detach(),
    "returned tuple": lambda q, k, v, w: (correct.function(q, k, v, w), None),
    "inputs.query was written to": lambda q, k, v, w: (
        correct.function(q, k, v, w),
        q.detach().mul_(2),
    )[0],
    "gradient of value is missing": lambda q, k, v, w: correct.function(q, k, v.detach(), w),
    "nothing was written here": lambda q, k, v, w: correct.function(q, k, v, w) * (torch.arange(200) < 192)[:, None],
}


@pytest.mark.parametrize("reason", WRONG)
def test_the_reason_names_the_bug(reason):
    """The gate rejects a wrong variant with a reason that names the bug."""
    verdict = verdict_on(WRONG[reason])
    assert not verdict.passed
    assert reason in verdict.reason


def test_a_reason_names_rule_place_and_values():
    """A reason contains the violated rule, the batch, head and row, and the computed and expected values."""
    reason = verdict_on(WRONG["the mask is ignored"], Workload(2, 8, 4, mask=Mask("causal"))).reason
    for part in ("float32: ||e|| <= 8 eps", "batch 0", "head ", "row ", " is [", "expected [", "tolerance of"):
        assert part in reason


class OneBuffer(Variant):
    """Attention that writes all its outputs to the same memory."""

    name = "one-buffer"

    def prepare(self, workload, inputs):
        buffer = torch.empty_like(inputs.query)
        return lambda: buffer.copy_(correct.function(*inputs.leaves, workload))


class Stale(Variant):
    """Attention that computes its answer once, in prepare."""

    name = "stale"

    def prepare(self, workload, inputs):
        answer = correct.function(*inputs.leaves, workload)
        return answer.clone


def test_stale_answers_and_reused_buffers_are_found():
    """The gate rejects a variant that caches its answer or returns the same buffer twice."""
    workload = Workload(2, 16, 8)
    assert "last call's output" in gate_of(OneBuffer(), workload).before().reason
    assert not gate_of(Stale(), workload).before().passed


def test_a_reused_buffer_is_found_without_holding_the_output(monkeypatch):
    """The gate rejects a variant that returns the same large buffer twice, and keeps no large output allocated."""
    monkeypatch.setattr(subject, "MAX_HELD_BYTES", 0)
    workload = Workload(2, 16, 8)
    assert "last call's output" in gate_of(OneBuffer(), workload).before().reason
    assert gate_of(correct, workload).before().passed
    output = torch.ones(4)
    last, storage = subject.LastOutput(output), StorageWeakRef(output.untyped_storage())
    del output
    assert storage.expired()
    assert not last.reused_by(torch.ones(4)), "memory that was freed may be used again"


def test_an_excerpt_keeps_nothing_of_the_result():
    """The result of a timed call can be freed as soon as its excerpt is taken."""
    gate = gate_of(correct, TRAINING)
    gate.before()
    output = gate.call()
    grads = torch.autograd.grad(output, gate.inputs.leaves, gate.inputs.grad_output)
    storages = [StorageWeakRef(tensor.untyped_storage()) for tensor in (output, *grads)]
    excerpt = gate.excerpt(output.detach(), grads)
    del output, grads
    assert all(storage.expired() for storage in storages)
    assert gate.recheck([excerpt]).passed


@pytest.mark.parametrize("distribution", ["normal", "zeros"])
def test_a_cell_draws_no_more_values_than_it_needs(distribution, monkeypatch):
    """Each check draws all inputs once. Only inputs that are not fit for the timing are drawn again afterwards."""
    drawn = []
    monkeypatch.setattr(gate_module, "refill", lambda *arguments, names=DRAWN: drawn.append(len(names)))
    workload = Workload(2, 16, 8, direction="forward_backward", distribution=distribution)
    gate = gate_of(correct, workload)
    gate.before()
    gate.after()
    assert drawn == [4, 4, 1 if distribution == "normal" else 4, 4]


NO_MEMORY = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 17179869184 bytes")


@pytest.mark.parametrize("step", ["refill", "keep_rows", "Snapshot", "compare", "all_finite", "copy_part"])
def test_the_harness_that_runs_out_of_memory_is_named(step, monkeypatch):
    """If a step of the gate runs out of memory, the error says that the harness did, and not the variant."""
    gate = gate_of(correct, Workload(8, 2048, 8, direction="forward_backward"))
    output = gate.call()
    grads = torch.autograd.grad(output, gate.inputs.leaves, gate.inputs.grad_output)
    monkeypatch.setattr(gate_module, step, Mock(side_effect=NO_MEMORY, **{"take.side_effect": NO_MEMORY}))
    with pytest.raises(HarnessMemoryError, match=r"the harness ran out of memory while .* can't allocate memory"):
        gate.recheck([gate.excerpt(output.detach(), grads)]) if step == "copy_part" else gate.before()


def test_a_variant_that_runs_out_of_memory_is_not_mistaken_for_the_harness():
    """An out-of-memory error of the variant's own call, or of its backward pass, is passed on unchanged."""

    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx, query, key, value):
            return correct.function(query, key, value, Workload(2, 16, 8))

        @staticmethod
        def backward(ctx, grad_output):
            raise NO_MEMORY

    for function in (Mock(side_effect=NO_MEMORY), lambda q, k, v, w: Fails.apply(q, k, v)):
        with pytest.raises(RuntimeError, match="can't allocate memory"):
            verdict_on(function, Workload(2, 16, 8, direction="forward_backward"))


def test_nan_is_a_failure_without_a_ratio():
    """An answer with NaN fails, and its worst_ratio is None."""
    verdict = verdict_on(lambda q, k, v, w: correct.function(q, k, v, w) * float("nan"))
    assert not verdict.passed
    assert verdict.worst_ratio is None
    assert "overflow" in verdict.reason


@pytest.mark.parametrize("sizes", [{"batch": 0}, {"seq_q": 0, "seq_k": 8}])
def test_empty_problems_pass(sizes):
    """An empty answer is correct if the workload has no sequences or no queries."""
    workload = Workload.from_json({"heads": 2, "seq_q": 8, "head_dim": 8, "direction": "forward_backward", **sizes})
    assert gate_of(correct, workload).before().passed


def dropped(rate, factor=None):
    """Return attention with dropout that multiplies kept weights by `factor` (default: the correct factor)."""

    def attend(query, key, value, workload):
        weights = torch.softmax(query @ key.mT * workload.effective_scale, -1)
        kept = (torch.rand_like(weights) > rate) * (1 / (1 - rate) if factor is None else factor)
        return (weights * kept) @ value

    return attend


def test_dropout_is_judged_by_rules_for_any_draw():
    """Correct dropout passes, but ignored dropout and dropout without rescaling fail."""
    workload = Workload(4, 128, 16, dropout=0.2, direction="forward_backward")
    assert verdict_on(dropped(0.2), workload).passed
    assert "mean" in verdict_on(dropped(0.2, factor=1.0), workload).reason
    assert not verdict_on(dropped(0.0), workload).passed


@pytest.mark.parametrize("seq_k", [2, 17, 300])
@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 0.9])
def test_dropout_of_a_single_query_is_judged(seq_k, rate):
    """With a single query, correct dropout passes whichever weights are dropped, and ignored dropout fails."""
    workload = Workload(2, 1, 16, seq_k=seq_k, dropout=rate)
    for seed in range(5):
        assert gate_of(variant("tested")(dropped(rate)), workload, seed).before().passed
    assert "dropout is ignored" in verdict_on(dropped(0.0), workload).reason


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("stale", "named"), [(1, "dK"), (2, "dV")])
def test_stale_gradients_of_keys_and_values_are_found_in_timed_calls(stale, named, dtype):
    """On a long workload, dK or dV of earlier inputs is found in a timed call, and correct gradients pass."""
    workload = Workload(4, 512, 16, kv_heads=2, mask=Mask("causal"), direction="forward_backward", dtype=dtype)
    gate = gate_of(correct, workload)

    def result():
        output = gate.call()
        return output, list(torch.autograd.grad(output, gate.inputs.leaves, gate.inputs.grad_output))

    earlier = result()[1]
    refill(gate.inputs, 5)
    output, grads = result()
    assert all(gate.recheck([gate.excerpt(output, tuple(grads))]).passed for _ in range(4))
    grads[stale] = earlier[stale]
    verdicts = [gate.recheck([gate.excerpt(output, tuple(grads))]) for _ in range(4)]
    reasons = [verdict.reason for verdict in verdicts if not verdict.passed]
    assert reasons
    assert all(f"if {named} was computed from the call's inputs" in reason for reason in reasons)


def test_timed_inputs_are_dense_and_fresh_after_the_gate():
    """The gate sets rows of grad_output to 0 for its checks, but refills all rows before the timing."""
    workload = Workload(8, 2048, 8, direction="forward_backward")
    gate = gate_of(correct, workload)
    gate.before()
    assert gate.inputs.grad_output.abs().sum(-1).min() > 0
