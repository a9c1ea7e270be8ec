"""The float64 reference agrees with definitions written in plain Python."""

import math

import pytest
import torch

from attnbench import Workload
from attnbench.reference import Part, attend, attention, bias, evaluate, in_bhsd, visible
from attnbench.tensors.inputs import alibi_slopes, make_inputs

MASKS = ("none", "causal", "causal-top-left", "window:3:0", "window:2:2", "prefix:4", "padding", "document")


def workload_of(**fields):
    """Return a small grouped-query workload with some fields changed."""
    base = {"batch": 2, "heads": 4, "kv_heads": 2, "seq_q": 9, "seq_k": 13, "head_dim": 8, "head_dim_v": 6}
    return Workload.from_json({**base, **fields})


@pytest.mark.parametrize(
    ("mask", "seq_q", "seq_k"),
    [
        (mask, seq_q, seq_k)
        for mask in MASKS
        for seq_q, seq_k in ((9, 13), (13, 9), (11, 11), (1, 5))
        if mask != "document" or seq_q == seq_k  # packed documents need as many queries as keys
    ],
)
def test_visible_keys_agree_with_the_workload(mask, seq_q, seq_k):
    """The reference's masks agree with `Workload.visible_keys`, which is implemented independently."""
    workload = workload_of(mask=mask, seq_q=seq_q, seq_k=seq_k)
    inputs = make_inputs(workload, "cpu")
    for batch in range(workload.batch):
        seen = visible(workload, inputs, batch, torch.arange(seq_q))
        for row, keys in enumerate(workload.visible_keys(batch)):
            assert seen[row].nonzero().flatten().tolist() == list(keys)


@pytest.mark.parametrize("mask", ["none", "causal", "window:3:0", "padding"])
@pytest.mark.parametrize("extras", [{}, {"softcap": 2.0}, {"alibi": True}, {"scale": 0.7}])
def test_output_is_softmax_attention_written_out(mask, extras):
    """Sampled output rows equal softmax attention computed from its definition with Python floats."""
    workload = workload_of(mask=mask, **extras)
    inputs = make_inputs(workload, "cpu", seed=3)
    output = attend(workload, inputs)
    query, key, value = (leaf.double().tolist() for leaf in inputs.leaves)
    slopes = alibi_slopes(workload.heads).tolist()
    for batch, head, row in ((0, 0, 0), (1, 3, 8), (1, 1, 4), (0, 2, 7)):
        keys = list(workload.visible_keys(batch))[row]
        scores = []
        for column in keys:
            pairs = zip(query[batch][head][row], key[batch][head // 2][column], strict=True)
            score = workload.effective_scale * math.fsum(a * b for a, b in pairs)
            if workload.softcap:
                score = workload.softcap * math.tanh(score / workload.softcap)
            if workload.alibi:
                score -= slopes[head] * abs(row + 4 - column)
            scores.append(score)
        total = sum(math.exp(score) for score in scores)
        for width in range(workload.head_dim_v):
            terms = (math.exp(s) / total * value[batch][head // 2][j][width] for s, j in zip(scores, keys, strict=True))
            assert float(output[batch, head, row, width]) == pytest.approx(sum(terms), rel=1e-12, abs=1e-14)


def test_rows_that_see_no_key_give_zero_and_no_gradient():
    """For a row without a visible key, the output is exactly 0, the log-sum-exp is -inf and the gradient is 0."""
    workload = workload_of(mask="causal", seq_q=13, seq_k=9, direction="forward_backward")
    (first, *_) = evaluate(workload, make_inputs(workload, "cpu"), gradients=True)
    assert not first.attention.output[:, :, :4].any()
    assert first.attention.lse[:, :, :4].eq(-math.inf).all()
    assert all(gradient.isfinite().all() for gradient in first.gradients)
    assert not first.gradients[0][:, :, :4].any()


def test_gradients_agree_with_finite_differences():
    """The reference's gradients, with a softcap, agree with finite differences."""
    leaves = [torch.randn(2, 5, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    seen = torch.ones(5, 5, dtype=torch.bool).tril(-1)

    def output(query, key, value):
        return attention(query, key, value, seen, scale=0.5, softcap=1.5).output

    assert torch.autograd.gradcheck(output, leaves)


def test_a_part_has_the_values_of_the_whole():
    """Evaluating only some rows and heads gives the same output as evaluating all of them, in either layout."""
    workload = workload_of(mask="causal", direction="forward_backward")
    whole = attend(workload, make_inputs(workload, "cpu"))
    for layout in ("BHSD", "BSHD"):
        inputs = make_inputs(workload, "cpu", layout)
        for piece in evaluate(workload, inputs, Part((1,), (1,), (0, 5, 8)), gradients=True):
            torch.testing.assert_close(piece.of_queries(whole), piece.attention.output)
            assert torch.equal(piece.of_queries(in_bhsd(inputs.query, layout)).double(), piece.query)
            assert piece.head(0, 1) == 3


def test_alibi_falls_with_distance_from_the_aligned_position():
    """The ALiBi bias is 0 at the aligned key, and decreases by the published slope for each key farther away."""
    workload = workload_of(alibi=True, heads=8, kv_heads=8)
    values = bias(workload, make_inputs(workload, "cpu"), torch.tensor([2]))
    assert values[0, 0, 4:9].tolist() == [-1.0, -0.5, 0.0, -0.5, -1.0]
    assert values[7, 0, 0].item() == -6 * 2**-8


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_products_are_rounded_before_they_are_scaled(dtype):
    """In low precision, the reference rounds like a plain implementation, which scales the scores and not the query."""
    generator = torch.Generator().manual_seed(3)
    query, key, value = (torch.randn(1, 1, 64, 16, generator=generator).to(dtype) for _ in range(3))
    visible = torch.ones(64, 64, dtype=torch.bool)
    expected = torch.softmax((query @ key.mT) * 0.3, -1) @ value
    assert torch.equal(attention(query, key, value, visible, scale=0.3).output, expected)
