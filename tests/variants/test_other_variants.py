"""Variants beside the plain ones that run on a CPU: decoding, packed, recurrent and linear."""

import pytest
import torch

from attnbench import Workload
from attnbench.tensors.inputs import make_inputs
from attnbench_variants import split_keys
from attnbench_variants.linear import Linear
from attnbench_variants.recurrent import Recurrent
from attnbench_variants.split_keys import SplitKeys
from attnbench_variants.varlen import NestedSdpa, Varlen

MASKS = ["none", "causal", "causal-top-left", "window:5:0", "window:3:4", "prefix:6", "padding"]


def workload(**fields):
    """Make a small training workload."""
    return Workload(**{"batch": 2, "heads": 4, "seq_q": 24, "head_dim": 16, "direction": "forward_backward", **fields})


class TestSplitKeys:
    @pytest.mark.parametrize("shape", [{"seq_q": 1, "seq_k": 96}, {"seq_q": 8, "seq_k": 90}, {"seq_q": 9, "seq_k": 4}])
    @pytest.mark.parametrize("mask", MASKS)
    def test_parts_are_merged_to_one_answer(self, monkeypatch, assert_passes, mask, shape):
        """The answer is right though the keys are split, and parts without a visible key add nothing."""
        monkeypatch.setattr(split_keys, "LEAST_KEYS", 8)
        assert_passes(SplitKeys(), workload(mask=mask, kv_heads=2, head_dim_v=24, **shape))

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_softcap_and_alibi(self, monkeypatch, assert_passes, dtype):
        """Softcap and ALiBi are applied before the parts are merged."""
        monkeypatch.setattr(split_keys, "LEAST_KEYS", 8)
        fields = {"softcap": 2.0, "alibi": True, "mask": "window:40:2", "dtype": dtype}
        assert_passes(SplitKeys(), workload(seq_q=3, seq_k=64, kv_heads=1, **fields))

    @pytest.mark.parametrize("sizes", [{"seq_q": 0, "seq_k": 32}, {"seq_q": 1, "seq_k": 0}, {"batch": 0}], ids=str)
    def test_nothing_to_attend(self, assert_passes, sizes):
        """Empty batches, queries and keys give empty or zero answers."""
        assert_passes(SplitKeys(), workload(**sizes))

    @pytest.mark.parametrize(("keys", "parts"), [(0, 1), (200, 1), (1024, 4), (1000, 2), (65536, 32), (65537, 1)])
    def test_parts_are_equal_and_not_too_small(self, keys, parts):
        """The keys are split into the most equal parts that leave each part keys enough."""
        assert split_keys._parts(keys) == parts

    def test_long_queries_are_refused(self):
        """A prefill is no decoding, and the reason says so."""
        assert "at most 64 queries" in SplitKeys().unsupported_reason(workload(seq_q=65), "cpu")


class TestNested:
    @pytest.mark.parametrize("mask", ["none", "padding", "document"])
    def test_jagged_sequences(self, assert_passes, mask):
        """Nested tensors give the right answer for whole, padded and packed batches, and its gradients."""
        assert_passes(NestedSdpa(), workload(mask=mask, batch=3))

    def test_half_precision_is_for_gpus(self):
        """On a CPU half precision is refused, where torch loses digits that no rule grants; on a GPU it is not."""
        half = workload(dtype="bfloat16")
        assert "lose more digits" in NestedSdpa().unsupported_reason(half, "cpu")
        assert NestedSdpa().unsupported_reason(half, "cuda") is None

    def test_fewer_queries_than_keys(self, assert_passes):
        """Padded keys may be more than the queries."""
        assert_passes(NestedSdpa(), workload(mask="padding", batch=3, seq_k=40, scale=0.5))

    @pytest.mark.parametrize(
        ("fields", "word"),
        [
            ({"kv_heads": 2}, "kv_heads"),
            ({"mask": "causal"}, "causal"),
            ({"softcap": 2.0}, "softcap"),
            ({"alibi": True}, "bias"),
        ],
        ids=str,
    )
    def test_refusals(self, fields, word):
        """What nested tensors lack is said."""
        assert word in NestedSdpa().unsupported_reason(workload(**fields), "cpu")


def test_varlen_needs_a_gpu():
    """Torch's varlen kernel has no CPU form, and the reason says so."""
    assert "CUDA" in Varlen().unsupported_reason(workload(), "cpu")


@pytest.mark.parametrize("variant", [Recurrent("lstm", "LSTM"), Recurrent("gru", "GRU")], ids=lambda each: each.name)
class TestRecurrent:
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_keeps_the_contract(self, variant, assert_passes, dtype):
        """A recurrent layer gives an output and gradients of the right kind."""
        assert not variant.exact
        assert_passes(variant, workload(mask="causal", dtype=dtype))

    def test_sees_the_past_alone(self, variant, run):
        """A change of the last token leaves all earlier outputs as they were."""
        inputs, (output, *_) = run(variant, workload(mask="causal", direction="forward"))
        problem = workload(mask="causal", direction="forward")
        with torch.no_grad():
            inputs.key[:, -1] += 1
        changed = variant.prepare(problem, inputs)()
        assert torch.equal(changed[:, :-1], output[:, :-1])
        assert not torch.equal(changed[:, -1], output[:, -1])

    @pytest.mark.parametrize(
        "fields", [{"mask": "none"}, {"mask": "causal", "kv_heads": 2}, {"mask": "causal", "dropout": 0.1}], ids=str
    )
    def test_refusals(self, variant, fields):
        """What has no recurrent counterpart is refused."""
        assert "recurrent" in variant.unsupported_reason(workload(**fields), "cpu")


class TestLinear:
    @pytest.mark.parametrize("fields", [{}, {"mask": "causal"}, {"seq_k": 40, "kv_heads": 2, "head_dim_v": 8}], ids=str)
    def test_keeps_the_contract(self, assert_passes, fields):
        """Linear attention gives an output and gradients of the right kind."""
        assert not Linear().exact
        assert_passes(Linear(), workload(**fields))

    @pytest.mark.parametrize("mask", ["none", "causal"])
    def test_is_attention_with_a_kernel(self, run, mask):
        """Both forms equal the quadratic definition, phi(q) . phi(k) normalised over the visible keys."""
        inputs, (output, *_) = run(Linear(), workload(mask=mask, seq_q=300, direction="forward"))
        query, key = (torch.nn.functional.elu(t.double()) + 1 for t in (inputs.query, inputs.key))
        weights = query @ key.mT
        weights = weights.tril() if mask == "causal" else weights
        expected = weights / weights.sum(-1, keepdim=True) @ inputs.value.double()
        torch.testing.assert_close(output.double(), expected, rtol=1e-4, atol=1e-5)

    def test_refusals(self):
        """What linear attention is not written for is refused."""
        assert "padding" in Linear().unsupported_reason(workload(mask="padding"), "cpu")
        assert "scale" in Linear().unsupported_reason(workload(scale=1.0), "cpu")


def test_inputs_of_recurrent_layers_are_left_alone(run):
    """The seeded weights do not disturb torch's generator."""
    torch.manual_seed(5)
    before = torch.get_rng_state()
    make_inputs(workload(), "cpu")
    run(Recurrent("lstm", "LSTM"), workload(mask="causal"))
    assert torch.equal(before, torch.get_rng_state())
