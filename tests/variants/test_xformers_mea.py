"""Tests of `xformers` without a GPU: its biases, views, calls and reasons for refusing workloads."""

import inspect

import pytest
import torch

from attnbench import Workload
from attnbench.tensors.inputs import make_inputs
from attnbench_variants import _visible, xformers_mea
from attnbench_variants.xformers_mea import Xformers, arrange, grouped, make_bias

pytest.importorskip("xformers")
CPU = torch.device("cpu")


def workload(**fields):
    """Return a small workload."""
    return Workload(**{"batch": 2, "heads": 4, "seq_q": 24, "head_dim": 16, **fields})


@pytest.mark.parametrize("variant", xformers_mea.attnbench_variants(), ids=lambda each: each.name)
def test_a_cpu_is_refused(variant):
    """Each variant refuses to run on a CPU."""
    assert "needs a CUDA GPU" in variant.unsupported_reason(workload(), "cpu")


def test_a_missing_library_is_named(monkeypatch):
    """If xformers is missing, the reason names the package and the command that installs it."""
    monkeypatch.setattr(xformers_mea, "find_spec", lambda name: None)
    assert Xformers("xformers").unsupported_reason(workload(), "cuda") == (
        "needs the package xformers (pip install xformers)"
    )


def arranged(problem, operator=None):
    """Return the tensors and the bias that are passed to the operator."""
    inputs = make_inputs(problem, "cpu", "BSHD")
    arrangement = arrange(problem, operator)
    leaves = xformers_mea._viewing(problem, arrangement, CPU)(*inputs.leaves)
    return grouped(problem, *leaves), make_bias(problem, CPU, inputs.alibi_slopes, arrangement)


@pytest.mark.parametrize("operator", [None, "cutlass", "triton_splitk"])
@pytest.mark.parametrize("direction", ["forward", "forward_backward"])
@pytest.mark.parametrize("kv_heads", [2, 4])
@pytest.mark.parametrize(
    ("mask", "seq_k"),
    [
        ("none", 40), ("causal", 24), ("causal", 40), ("causal", 20), ("causal-top-left", 40), ("window:5:0", 40),
        ("window:5:3", 40), ("window:0:0", 24), ("prefix:7", 40), ("padding", 40), ("document", 24),
    ],
)  # fmt: skip
def test_a_bias_hides_what_the_mask_hides(mask, seq_k, kv_heads, direction, operator):
    """Each bias hides exactly the keys that the mask hides."""
    problem = workload(mask=mask, seq_k=seq_k, kv_heads=kv_heads, direction=direction)
    (query, key, _), bias = arranged(problem, operator)
    hidden = _visible.hidden(problem, CPU)
    if bias is None:
        assert hidden is None
        return
    if isinstance(bias, torch.Tensor):
        seen = (bias == 0).unflatten(1, (-1, 1)).flatten(0, -3) if bias.ndim == 5 else (bias == 0).flatten(0, 1)
        assert torch.equal(seen, ~hidden.expand(2, 4, -1, -1).flatten(0, 1))
        return
    seen = bias.materialize((query.shape[1], key.shape[1])) == 0
    hidden = hidden.expand(problem.batch, 1, -1, -1)[:, 0]
    arrangement = arrange(problem, operator)
    expected = ~hidden[0] if arrangement == "batch" else torch.block_diag(*~hidden)
    if arrangement == "packed":
        expected = expected[:, torch.cat([torch.arange(seq_k) < length for length in problem.key_lengths])]
    assert torch.equal(seen, expected.bool())


def test_grouped_heads_are_repeated_for_training():
    """For training, each query head has a copy of its key head; for inference, it has a view."""
    for direction, shape in (("forward", (2, 24, 2, 2, 16)), ("backward", (2, 24, 4, 16))):
        problem = workload(kv_heads=2, direction=direction)
        (query, key, value), _ = arranged(problem)
        assert query.shape == key.shape == value.shape == shape
        heads = key.reshape(2, 24, 4, 16)
        original = make_inputs(problem, "cpu", "BSHD").key
        assert all(torch.equal(heads[:, :, head], original[:, :, head // 2]) for head in range(4))


@pytest.mark.parametrize(
    ("operator", "direction", "arrangement"),
    [
        (None, "forward", "blocks"), ("flash", "forward", "blocks"), ("cutlass", "forward", "packed"),
        (None, "backward", "packed"), ("flash", "forward_backward", "packed"), ("triton_splitk", "forward", "blocks"),
    ],
)  # fmt: skip
def test_padding_is_removed_if_an_operator_has_no_padded_blocks(operator, direction, arrangement):
    """Padded keys are removed for training and for cutlass. For inference, other operators skip them."""
    assert arrange(workload(mask="padding", direction=direction), operator) == arrangement


@pytest.mark.parametrize(
    ("mask", "seq_q", "arrangement"),
    [
        ("causal", 8, "blocks"), ("window:5:0", 8, "blocks"), ("window:5:3", 1, "blocks"), ("window:5:3", 8, "batch"),
        ("causal-top-left", 8, "batch"), ("causal", 60, "batch"), ("none", 8, "batch"),
    ],
)  # fmt: skip
def test_split_keys_get_causal_blocks(mask, seq_q, arrangement):
    """triton_splitk gets causal masks and left-only windows as blocks, and other masks in a form that it rejects."""
    assert arrange(workload(mask=mask, seq_q=seq_q, seq_k=40), "triton_splitk") == arrangement


@pytest.mark.parametrize("mask", ["padding", "document"])
def test_alibi_on_padded_and_packed_batches(mask):
    """With ALiBi, padded batches and documents are not packed, and the bias is a tensor."""
    from xformers.ops import fmha

    problem = workload(mask=mask, alibi=True)
    leaves, bias = arranged(problem)
    fmha.Inputs(*leaves, attn_bias=bias).validate_inputs()
    hidden = _visible.hidden(problem, CPU).expand(bias.shape)
    assert torch.equal(bias == float("-inf"), hidden)


@pytest.mark.parametrize("kv_heads", [1, 4])
def test_alibi_is_a_bias_of_the_shape_that_xformers_validates(kv_heads):
    """ALiBi's bias tensor is -slope * distance, and passes xformers' checks of shapes and alignment."""
    from xformers.ops import fmha

    problem = workload(mask="causal", seq_k=35, alibi=True, kv_heads=kv_heads)
    slopes = make_inputs(problem, "cpu", "BSHD").alibi_slopes
    leaves, bias = arranged(problem)
    fmha.Inputs(*leaves, attn_bias=bias).validate_inputs()
    reasons = []
    fmha.cutlass._check_bias_alignment(reasons, bias)
    assert not reasons
    assert bias.flatten(1, -3)[1, 3, 20, 5] == pytest.approx(-slopes[3].item() * (20 + 11 - 5))
    assert bias.flatten(1, -3)[1, 3, 20, 32] == float("-inf")


@pytest.mark.parametrize("mask", ["none", "padding", "document", "window:4:4"])
@pytest.mark.parametrize("kv_heads", [2, 4])
def test_the_call_binds_and_validates(monkeypatch, mask, kv_heads):
    """The call passes the checks of memory_efficient_attention, and the output has the layout BSHD."""
    import xformers.ops
    from xformers.ops import fmha

    signature = inspect.signature(xformers.ops.memory_efficient_attention)
    calls = []

    def fake(*arguments, **named):
        bound = signature.bind(*arguments, **named).arguments
        calls.append(bound)
        operator = bound.pop("op")
        assert operator == (fmha.cutlass.FwOp, fmha.cutlass.BwOp)
        fmha.Inputs(**bound).validate_inputs()
        return torch.zeros(*bound["query"].shape[:-1], bound["value"].shape[-1])

    monkeypatch.setattr(xformers.ops, "memory_efficient_attention", fake)
    problem = workload(mask=mask, kv_heads=kv_heads, head_dim_v=8, scale=0.5, dropout=0.25)
    inputs = make_inputs(problem, "cpu", "BSHD")
    output = Xformers("xformers-cutlass", "cutlass").prepare(problem, inputs)()
    assert output.shape == (2, 24, 4, 8)
    assert calls[0]["scale"] == 0.5
    assert calls[0]["p"] == 0.25


def test_the_reasons_are_those_of_the_operators():
    """The reason for an unsupported workload contains messages from xformers' operators."""
    reason = Xformers("xformers-flash", "flash").lacking(workload(head_dim=300), CPU)
    assert "fa2F" in reason
    assert "> 256" in reason
    assert "float" in Xformers("xformers", None).lacking(workload(), CPU)


def test_an_operator_without_backward():
    """An operator without a backward pass refuses training."""

    class Accepting:
        NAME = "accepting"

        @staticmethod
        def not_supported_reasons(problem):
            return []

    assert xformers_mea._refusal([Accepting], None) is None
    assert "no backward" in xformers_mea._refusal([None], None)
