"""Tests of prepared calls for whole layers, other layouts and distributions, and workloads split over devices."""

import dataclasses

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from attnbench import Variant, Workload, variant
from attnbench.conformance.layer_gate import LayerGate, Rows, gate_of, layer_reference
from attnbench.errors import WorkloadError
from attnbench.measure.call import DirectionCall
from attnbench.tensors.inputs import make_inputs, refill
from attnbench.tensors.layer import make_layer_inputs
from attnbench.tensors.prepared_call import prepare_call
from attnbench_variants.chunked import Chunked
from attnbench_variants.linear import Linear
from attnbench_variants.naive import Naive

SIZES = {"batch": 2, "heads": 4, "kv_heads": 2, "seq_q": 24, "head_dim": 8, "direction": "forward_backward"}


class Bshd(Variant):
    """A variant with layout BSHD."""

    name = "bshd"
    layout = "BSHD"

    def prepare(self, workload, inputs):
        def attend():
            query, key, value = (leaf.transpose(1, 2) for leaf in inputs.leaves)
            causal = workload.mask.is_causal
            return scaled_dot_product_attention(query, key, value, is_causal=causal, enable_gqa=True).transpose(1, 2)

        return attend


@variant("unscaled")
def unscaled(query, key, value, workload):
    """Return attention computed without the scale."""
    return scaled_dot_product_attention(query, key, value, scale=1.0, enable_gqa=True)


def judged(implementation, **fields):
    """Prepare a call for a workload, check it before and after one timed call, and return the verdict."""
    workload = Workload(**{**SIZES, **fields})
    inputs, call = prepare_call(implementation, workload, "cpu", 0)
    gate = gate_of(implementation, workload, inputs, call, 0)
    verdict = gate.before()
    result = DirectionCall(call, inputs, workload).prepare()[0]()
    return verdict if not verdict.passed else gate.recheck([gate.excerpt(*result)])


class TestLayer:
    """Tests of workloads with `embed_dim`, which are whole layers."""

    @pytest.mark.parametrize("implementation", [Naive(), Chunked(), Bshd()], ids=lambda each: each.name)
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_output_and_all_gradients_are_right(self, implementation, dtype):
        """A layer's output and gradients agree with those of the float64 layer, whatever the variant's layout."""
        verdict = judged(implementation, embed_dim=20, mask="causal", dtype=dtype)
        assert verdict.passed, verdict.reason

    @pytest.mark.parametrize(
        "fields", [{"seq_k": 40}, {"mask": "padding"}, {"alibi": True, "softcap": 5.0}, {"head_dim_v": 4}]
    )
    def test_cross_attention_masks_and_biases(self, fields):
        """Layers are correct with cross-attention, seeded masks, biases and values of a different width."""
        assert judged(Naive(), embed_dim=12, **fields).passed

    def test_a_wrong_variant_fails(self):
        """A layer around a variant that ignores the scale fails the check."""
        verdict = judged(unscaled, embed_dim=16, direction="forward")
        assert not verdict.passed
        assert "the output is" in verdict.reason

    def test_an_inexact_variant_is_only_checked_against_the_contract(self):
        """A variant that is not exact softmax attention is not compared with the reference."""
        assert judged(Linear(), embed_dim=16).rule.startswith("plugin contract only")

    def test_reference_is_multi_head_attention(self):
        """The float64 layer and torch.nn.MultiheadAttention return the same output for the same weights."""
        workload = Workload(heads=4, seq_q=10, head_dim=4, embed_dim=16)
        inputs = make_layer_inputs(workload, "cpu", "BHSD", 0)
        layer = torch.nn.MultiheadAttention(16, 4, bias=False, batch_first=True, dtype=torch.float64)
        layer.in_proj_weight.data.copy_(torch.cat(inputs.weights[:3]))
        layer.out_proj.weight.data.copy_(inputs.weights[3])
        tokens = inputs.query[:, :, 0].double()
        (output,) = layer_reference(workload, inputs, Rows(0, torch.arange(10)), torch.float64, gradients=False)
        torch.testing.assert_close(output, layer(tokens, tokens, tokens)[0][0].detach())

    def test_calls_may_wait_for_their_backward_pass(self):
        """In direction backward, two calls have equal gradients even if both forward passes run first."""
        workload = Workload(**{**SIZES, "direction": "backward", "embed_dim": 12})
        inputs, call = prepare_call(Naive(), workload, "cpu", 0)
        first, second = (ready()[1] for ready in DirectionCall(call, inputs, workload).prepare(2))
        torch.testing.assert_close(first, second)

    def test_flops_and_bytes_count_the_projections(self):
        """The FLOPs and bytes of a layer include its four projections, each with three matmuls in a training step."""
        layer = Workload(**SIZES, embed_dim=10)
        alone = dataclasses.replace(layer, embed_dim=0)
        rows, widths = 2 * 24, 32 + 16 + 16 + 32
        assert layer.flops() - alone.flops() == 3 * 2 * rows * 10 * widths
        weights = ((10, 32), (10, 16), (10, 16), (32, 10))
        forward = sum(rows * inner + inner * outer + rows * outer for inner, outer in weights)
        backward = sum(2 * rows * inner + 2 * inner * outer + rows * outer for inner, outer in weights)
        assert layer.bytes() - alone.bytes() == 4 * (forward + backward)

    def test_a_layer_is_checked_by_the_layer_gate(self):
        """`gate_of` returns a LayerGate for a layer."""
        workload = Workload(**SIZES, embed_dim=12)
        inputs, call = prepare_call(Naive(), workload, "cpu", 0)
        assert isinstance(gate_of(Naive(), workload, inputs, call, 0), LayerGate)


class TestLayout:
    """Tests of workloads whose `layout` may differ from the variant's layout."""

    @pytest.mark.parametrize("layout", ["BHSD", "BSHD", "native"])
    @pytest.mark.parametrize("implementation", [Naive(), Bshd()], ids=lambda each: each.name)
    def test_answers_have_the_layout_of_the_workload(self, implementation, layout):
        """Output and gradients are correct in the workload's layout, whatever the layout of the variant."""
        assert judged(implementation, layout=layout, mask="causal").passed

    def test_the_same_layout_needs_no_conversion(self):
        """If workload and variant have the same layout, the variant's callable is timed without a conversion."""
        workload = Workload(**SIZES, layout="BSHD")
        assert type(prepare_call(Bshd(), workload, "cpu", 0)[1]().grad_fn).__name__ != "_ConvertedBackward"
        assert type(prepare_call(Naive(), workload, "cpu", 0)[1]().grad_fn).__name__ == "_ConvertedBackward"


@pytest.mark.parametrize("distribution", ["uniform", "integers", "outliers", "zeros"])
def test_other_values_are_timed_and_normal_ones_checked(distribution):
    """The timed inputs have the workload's distribution, but the checks always use normally distributed inputs."""
    assert judged(Naive(), distribution=distribution).passed
    assert not judged(unscaled, distribution=distribution, direction="forward").passed
    query = make_inputs(Workload(**{**SIZES, "seq_q": 512, "distribution": distribution}), "cpu").query
    size = query.abs().max().item()
    assert {"uniform": 0.9 < size <= 1, "integers": size == 3, "outliers": size > 15, "zeros": size == 0}[distribution]


def test_layouts_get_the_same_values():
    """For each distribution, a seed gives the same values in both layouts."""
    for distribution in ("normal", "outliers", "integers"):
        workload = Workload(**SIZES)
        tensors = [make_inputs(workload, "cpu", layout) for layout in ("BHSD", "BSHD")]
        for inputs in tensors:
            refill(inputs, 7, distribution)
        assert torch.equal(tensors[0].key, tensors[1].key.transpose(1, 2))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"embed_dim": 16, "dropout": 0.1}, "dropout is 0.1 and embed_dim 16"),
        ({"embed_dim": 16, "layout": "BSHD"}, "layout is 'BSHD' and embed_dim 16"),
        ({"embed_dim": -1}, "embed_dim is -1: expected a whole number of at least 0"),
        ({"layout": "SBHD"}, "unknown layout 'SBHD'"),
        ({"distribution": "normla"}, "did you mean 'normal'"),
        ({"gpus": 3}, "gpus is 3 and batch is 2: split batch needs a multiple"),
        ({"gpus": 4, "split": "heads"}, "gpus is 4 and kv_heads is 2"),
        ({"gpus": 2, "split": "heads", "embed_dim": 16}, "split is 'heads' and embed_dim 16"),
        ({"gpus": 0}, "gpus is 0"),
        ({"split": "rows"}, "unknown split 'rows'"),
    ],
)
def test_impossible_workloads_are_refused(fields, message):
    """Contradictory fields and unknown values raise a WorkloadError that names the fields."""
    with pytest.raises(WorkloadError, match=message):
        Workload(**{**SIZES, **fields})


def test_shares_of_a_split():
    """`share` is the part of the workload that one device computes: a part of the batch or of the heads.

    With the split `ring`, the share is the whole workload. With one device, no split has any effect.
    """
    whole = Workload(**SIZES, gpus=2)
    assert (whole.share.batch, whole.share.heads, whole.share.gpus) == (1, 4, 1)
    heads = dataclasses.replace(whole, split="heads").share
    assert (heads.batch, heads.heads, heads.kv_heads) == (2, 2, 1)
    assert dataclasses.replace(whole, split="ring").share == Workload(**SIZES)
    assert Workload(**SIZES, split="heads") == Workload(**SIZES)
    assert whole.flops() == whole.share.flops() * 2


@pytest.mark.parametrize(
    "fields",
    [{"embed_dim": 16}, {"layout": "BSHD", "distribution": "zeros"}, {"gpus": 2, "split": "ring", "scale": 0.5}],
)
def test_ids_can_be_parsed(fields):
    """The id of a workload includes its layer, layout, distribution and split, and can be parsed back."""
    workload = Workload(**{**SIZES, **fields})
    assert Workload.parse(workload.id) == workload
    assert workload.id != Workload(**SIZES).id
