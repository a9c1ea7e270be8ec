"""Tests of the tiles, the memory and the dropout of `chunked`."""

import pytest
import torch

from attnbench import Workload
from attnbench.measure.memory import measure_memory
from attnbench.tensors.inputs import make_inputs
from attnbench_variants import _tiles
from attnbench_variants.chunked import Chunked
from attnbench_variants.naive import Naive

MASKS = ["none", "causal", "causal-top-left", "window:20:3", "window:0:30", "prefix:33", "padding", "document"]


@pytest.fixture
def small_tiles(monkeypatch):
    """Make tiles so small that a short sequence has many tiles."""
    monkeypatch.setattr(_tiles, "MAX_QUERIES", {"cpu": 16})
    monkeypatch.setattr(_tiles, "MAX_KEYS", {"cpu": 24})
    monkeypatch.setattr(_tiles, "MAX_ELEMENTS", {"cpu": 2 * 16 * 24})


def problem(**fields):
    """Return a training workload that is split into many small tiles."""
    return Workload(**{"batch": 2, "heads": 6, "seq_q": 90, "head_dim": 8, "direction": "forward_backward", **fields})


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("kv_heads", [2, 6])
def test_many_tiles_on_squares(small_tiles, assert_passes, mask, kv_heads):
    """Output and gradients are correct with many tiles, including partly and fully hidden tiles."""
    assert_passes(Chunked(), problem(mask=mask, kv_heads=kv_heads))


@pytest.mark.parametrize("seq_k", [40, 131])
@pytest.mark.parametrize("mask", ["causal", "causal-top-left", "window:20:3", "prefix:100", "padding"])
def test_many_tiles_on_rectangles(small_tiles, assert_passes, mask, seq_k):
    """Output and gradients are correct for unequal numbers of queries and keys, with softcap and ALiBi."""
    assert_passes(Chunked(), problem(mask=mask, seq_k=seq_k, softcap=2.0, alibi=True, head_dim_v=5))


@pytest.mark.parametrize("mask", MASKS)
def test_tiles_cover_visible_pairs_once(small_tiles, mask):
    """Each visible pair of a query and a key lies in exactly one tile, and tiles without such a pair are skipped."""
    workload = problem(mask=mask, seq_k=90 if mask == "document" else 120)
    plan = _tiles.Plan(workload, make_inputs(workload, "cpu"))
    covered = torch.zeros((workload.batch, workload.kv_heads, workload.seq_q, workload.seq_k), dtype=torch.int32)
    for chunk in plan.chunks:
        for keys in chunk.tiles(plan.keys):
            covered.view(-1, workload.seq_q, workload.seq_k)[chunk.heads, chunk.rows, keys] += 1
    for sequence in range(workload.batch):
        for row, keys in enumerate(workload.visible_keys(sequence)):
            assert (covered[sequence, :, row, keys.start : keys.stop] == 1).all()
    assert covered.max() == 1
    spare = plan.queries + plan.keys
    assert covered[:, 0].sum() <= workload.visible_pairs + workload.batch * workload.seq_q * spare


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("direction", ["forward", "forward_backward"])
def test_extra_memory_does_not_grow_with_the_sequence(direction, dtype):
    """A sequence four times as long needs at most 1.1 times as much memory, not counting the results."""

    def extra(length):
        workload = Workload(heads=2, seq_q=length, head_dim=16, direction=direction, dtype=dtype)
        inputs = make_inputs(workload, "cpu")
        call = Chunked().prepare(workload, inputs)
        returned = call().nbytes + sum(leaf.nbytes for leaf in inputs.leaves if workload.needs_gradient)
        return measure_memory(call, inputs, workload, "cpu").peak_bytes - returned

    assert 0 < extra(4096) <= 1.1 * extra(1024)


@pytest.mark.parametrize("mask", ["none", "causal", "window:20:3", "document"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_gradients_are_summed_in_float32(small_tiles, run, mask, dtype):
    """In float16 and bfloat16, each gradient is as close to the float32 gradient as a single rounding allows."""
    inputs, answers = run(Chunked(), problem(mask=mask, dtype=dtype, kv_heads=2))
    wide = problem(mask=mask, kv_heads=2)
    copies = make_inputs(wide, "cpu")
    for name in ("query", "key", "value", "grad_output"):
        getattr(copies, name).data.copy_(getattr(inputs, name))
    output = Chunked().prepare(wide, copies)()
    expected = torch.autograd.grad(output, copies.leaves, copies.grad_output)
    step = torch.finfo(getattr(torch, dtype)).eps
    for answer, like in zip(answers[1:], expected, strict=True):
        assert (answer.float() - like).norm() <= step * like.norm()


@pytest.mark.parametrize("size", [0.1, 1.0, 30.0])
def test_scores_of_any_size(small_tiles, assert_passes, size):
    """Output and gradients are correct for small and large scores."""
    assert_passes(Chunked(), problem(mask="causal", scale=size))


class TestDropout:
    """Dropout uses a counter-based generator, so that the forward and backward passes drop the same weights."""

    def test_chunked_drops_what_naive_drops(self, small_tiles, run):
        """For the same seed, `chunked` and `naive` drop the same weights in both passes."""
        workload = problem(dropout=0.3, mask="causal", kv_heads=2, seq_k=100, softcap=3.0)
        _, expected = run(Naive(), workload)
        _, answers = run(Chunked(), workload)
        for answer, like in zip(answers, expected, strict=True):
            torch.testing.assert_close(answer, like)

    @pytest.mark.parametrize("variant", [Naive(), Chunked()], ids=lambda each: each.name)
    def test_share_and_scale_of_kept_weights(self, variant):
        """A fraction 1 - p of the weights is kept, independently in each row, and scaled by 1 / (1 - p)."""
        workload = Workload(batch=2, heads=2, seq_q=128, seq_k=256, head_dim=4, head_dim_v=256, dropout=0.25)
        inputs = make_inputs(workload, "cpu", seed=3)
        # All weights become 1/256. Because the values are the identity matrix, the output equals the weights.
        inputs.query.zero_()
        inputs.value.copy_(torch.eye(256))
        weights = variant.prepare(workload, inputs)() * 256
        kept = weights > 0
        assert kept.double().mean().item() == pytest.approx(0.75, abs=0.005)
        torch.testing.assert_close(weights[kept], torch.full_like(weights[kept], 1 / 0.75))
        rows = kept.flatten(0, 2).double() - 0.75
        correlation = (rows @ rows.T / (256 * 0.25 * 0.75)).fill_diagonal_(0)
        assert correlation.abs().max() < 0.4
        assert correlation.mean().abs() < 0.002

    def test_different_seeds_drop_different_weights(self, run):
        """Different seeds drop different weights."""
        workload = problem(dropout=0.5, direction="forward")
        inputs = make_inputs(workload, "cpu")
        answers = []
        for seed in (1, 2):
            object.__setattr__(inputs, "seed", seed)
            answers.append(Chunked().prepare(workload, inputs)())
        assert not torch.allclose(*answers)

    def test_gradients_agree_with_finite_differences(self):
        """The gradients agree with finite differences, because both passes drop the same weights."""
        workload = Workload(heads=2, kv_heads=1, seq_q=5, seq_k=7, head_dim=3, dropout=0.4, direction="backward")
        inputs = make_inputs(workload, "cpu")
        call = Chunked().prepare(workload, inputs)
        grads = torch.autograd.grad(call(), inputs.leaves, inputs.grad_output)
        for leaf, grad in zip(inputs.leaves, grads, strict=True):
            for place in range(0, leaf.numel(), 5):
                with torch.no_grad():
                    flat, step = leaf.view(-1), 1e-2
                    flat[place] += step
                    above = (call() * inputs.grad_output).sum()
                    flat[place] -= 2 * step
                    below = (call() * inputs.grad_output).sum()
                    flat[place] += step
                assert grad.flatten()[place].item() == pytest.approx((above - below).item() / (2 * step), abs=5e-3)
