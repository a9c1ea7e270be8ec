"""Tests of the other variants that run on a CPU: split keys, nested tensors, recurrent layers and linear attention."""

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
    """Return a small training workload."""
    return Workload(**{"batch": 2, "heads": 4, "seq_q": 24, "head_dim": 16, "direction": "forward_backward", **fields})


class TestSplitKeys:
    @pytest.mark.parametrize("shape", [{"seq_q": 1, "seq_k": 96}, {"seq_q": 8, "seq_k": 90}, {"seq_q": 9, "seq_k": 4}])
    @pytest.mark.parametrize("mask", MASKS)
    def test_split_keys_are_merged(self, monkeypatch, assert_passes, mask, shape):
        """The output is correct with split keys, and parts without a visible key add nothing."""
        monkeypatch.setattr(split_keys, "MIN_KEYS_PER_PART", 8)
        assert_passes(SplitKeys(), workload(mask=mask, kv_heads=2, head_dim_v=24, **shape))

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_softcap_and_alibi(self, monkeypatch, assert_passes, dtype):
        """Softcap and ALiBi are applied before the parts are merged."""
        monkeypatch.setattr(split_keys, "MIN_KEYS_PER_PART", 8)
        fields = {"softcap": 2.0, "alibi": True, "mask": "window:40:2", "dtype": dtype}
        assert_passes(SplitKeys(), workload(seq_q=3, seq_k=64, kv_heads=1, **fields))

    @pytest.mark.parametrize("sizes", [{"seq_q": 0, "seq_k": 32}, {"seq_q": 1, "seq_k": 0}, {"batch": 0}], ids=str)
    def test_empty_sizes(self, assert_passes, sizes):
        """Workloads without sequences, queries or keys give empty or zero results."""
        assert_passes(SplitKeys(), workload(**sizes))

    @pytest.mark.parametrize(("keys", "parts"), [(0, 1), (200, 1), (1024, 4), (1000, 2), (65536, 32), (65537, 1)])
    def test_parts_are_equal_and_not_too_small(self, keys, parts):
        """The keys are split into equal parts of at least MIN_KEYS_PER_PART keys."""
        assert split_keys._parts(keys) == parts

    def test_long_queries_are_refused(self):
        """Workloads with too many queries for decoding are refused with a reason."""
        assert "at most 64 queries" in SplitKeys().unsupported_reason(workload(seq_q=65), "cpu")


class TestNested:
    @pytest.mark.parametrize("mask", ["none", "padding", "document"])
    def test_jagged_sequences(self, assert_passes, mask):
        """Nested tensors give correct outputs and gradients for whole, padded and packed batches."""
        assert_passes(NestedSdpa(), workload(mask=mask, batch=3))

    def test_half_precision_is_for_gpus(self):
        """Half precision is refused on a CPU, where torch is not precise enough, but not on a GPU."""
        half = workload(dtype="bfloat16")
        assert "less precise" in NestedSdpa().unsupported_reason(half, "cpu")
        assert NestedSdpa().unsupported_reason(half, "cuda") is None

    def test_fewer_queries_than_keys(self, assert_passes):
        """Results are correct for a padded batch with fewer queries than keys."""
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
        """Features that nested tensors lack are refused with a reason."""
        assert word in NestedSdpa().unsupported_reason(workload(**fields), "cpu")


def test_varlen_needs_a_gpu():
    """The variant `varlen` refuses to run on a CPU."""
    assert "CUDA" in Varlen().unsupported_reason(workload(), "cpu")


@pytest.mark.parametrize("variant", [Recurrent("lstm", "LSTM"), Recurrent("gru", "GRU")], ids=lambda each: each.name)
class TestRecurrent:
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_keeps_the_contract(self, variant, assert_passes, dtype):
        """A recurrent layer returns an output and gradients of the right shape and dtype."""
        assert not variant.exact
        assert_passes(variant, workload(mask="causal", dtype=dtype))

    def test_outputs_depend_only_on_earlier_tokens(self, variant, run):
        """A change to the last token changes no earlier output."""
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
        """Workloads that a recurrent layer can't represent are refused."""
        assert "recurrent" in variant.unsupported_reason(workload(**fields), "cpu")


class TestLinear:
    @pytest.mark.parametrize("fields", [{}, {"mask": "causal"}, {"seq_k": 40, "kv_heads": 2, "head_dim_v": 8}], ids=str)
    def test_keeps_the_contract(self, assert_passes, fields):
        """Linear attention returns an output and gradients of the right shape and dtype."""
        assert not Linear().exact
        assert_passes(Linear(), workload(**fields))

    @pytest.mark.parametrize("mask", ["none", "causal"])
    def test_equals_the_quadratic_definition(self, run, mask):
        """The output equals a quadratic computation with weights phi(q) . phi(k), with and without a causal mask."""
        inputs, (output, *_) = run(Linear(), workload(mask=mask, seq_q=300, direction="forward"))
        query, key = (torch.nn.functional.elu(t.double()) + 1 for t in (inputs.query, inputs.key))
        weights = query @ key.mT
        weights = weights.tril() if mask == "causal" else weights
        expected = weights / weights.sum(-1, keepdim=True) @ inputs.value.double()
        torch.testing.assert_close(output.double(), expected, rtol=1e-4, atol=1e-5)

    def test_refusals(self):
        """Workloads that linear attention can't represent are refused."""
        assert "padding" in Linear().unsupported_reason(workload(mask="padding"), "cpu")
        assert "scale" in Linear().unsupported_reason(workload(scale=1.0), "cpu")


def test_recurrent_layers_leave_the_generator_unchanged(run):
    """Creating a layer's seeded weights does not change the state of torch's global generator."""
    torch.manual_seed(5)
    before = torch.get_rng_state()
    make_inputs(workload(), "cpu")
    run(Recurrent("lstm", "LSTM"), workload(mask="causal"))
    assert torch.equal(before, torch.get_rng_state())
