"""Tests of `naive`, `chunked` and `sdpa` with all features that they support."""

import pytest

from attnbench import Workload
from attnbench_variants.chunked import Chunked
from attnbench_variants.naive import Naive
from attnbench_variants.sdpa import Sdpa

VARIANTS = [Naive(), Chunked(), Sdpa("sdpa"), Sdpa("sdpa-math", "MATH"), Sdpa("sdpa-flash", "FLASH_ATTENTION")]
MASKS = ["none", "causal", "causal-top-left", "window:5:0", "window:3:4", "window:0:0", "prefix:6", "padding"]
SHAPES = {
    "square": {"seq_q": 37},
    "more keys": {"seq_q": 19, "seq_k": 45},
    "more queries": {"seq_q": 45, "seq_k": 19},
    "decode": {"seq_q": 1, "seq_k": 33},
}
DIRECTION = "forward_backward"


def workload(**fields):
    """Return a small workload."""
    return Workload(**{"batch": 2, "heads": 4, "seq_q": 37, "head_dim": 16, "direction": DIRECTION, **fields})


@pytest.fixture(params=VARIANTS, ids=lambda each: each.name)
def variant(request):
    """Return each variant in turn."""
    return request.param


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("mask", MASKS)
def test_every_mask_on_every_shape(variant, mask, shape, assert_passes):
    """Output and gradients are correct under each mask, even for unequal numbers of queries and keys."""
    assert_passes(variant, workload(mask=mask, **shape))


def test_packed_documents(variant, assert_passes):
    """Queries see only keys of their own document."""
    assert_passes(variant, workload(mask="document"))


@pytest.mark.parametrize("kv_heads", [1, 2])
@pytest.mark.parametrize("mask", ["none", "causal", "padding"])
def test_grouped_queries(variant, kv_heads, mask, assert_passes):
    """If n query heads share each key head, query head h attends to key head h // n."""
    assert_passes(variant, workload(kv_heads=kv_heads, mask=mask))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("mask", ["none", "causal"])
def test_half_precision(variant, dtype, mask, assert_passes):
    """Output and gradients are correct in float16 and bfloat16."""
    assert_passes(variant, workload(dtype=dtype, mask=mask, kv_heads=2))


def test_custom_scale(variant, assert_passes):
    """A custom scale replaces 1/sqrt(head_dim)."""
    assert_passes(variant, workload(scale=1.0))


@pytest.mark.parametrize("mask", ["causal", "padding"])
def test_alibi(variant, mask, assert_passes):
    """ALiBi's bias uses a different slope for each head."""
    assert_passes(variant, workload(alibi=True, mask=mask, heads=6, kv_heads=3))


@pytest.mark.parametrize("variant", VARIANTS[:4], ids=lambda each: each.name)
def test_values_wider_than_keys(variant, assert_passes):
    """head_dim_v may differ from head_dim."""
    assert_passes(variant, workload(head_dim_v=24, mask="causal", seq_k=50))


@pytest.mark.parametrize("variant", VARIANTS[:2], ids=lambda each: each.name)
@pytest.mark.parametrize("alibi", [False, True])
def test_softcap(variant, alibi, assert_passes):
    """Scores are capped before the bias and the mask are applied."""
    assert_passes(variant, workload(softcap=1.5, mask="window:6:2", alibi=alibi, seq_k=45))


@pytest.mark.parametrize("sizes", [{"seq_q": 0}, {"seq_k": 0}, {"batch": 0}], ids=str)
def test_empty_sizes(variant, sizes, assert_passes):
    """Workloads without sequences, queries or keys give empty or zero results and raise no error."""
    assert_passes(variant, workload(**sizes))


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_other_directions(variant, direction, run):
    """In direction forward, a call returns only the output. In direction backward, it also returns three gradients."""
    _, answers = run(variant, workload(direction=direction))
    assert len(answers) == (1 if direction == "forward" else 4)


def test_each_call_reads_the_inputs_again(variant):
    """The timed callable reads the current inputs and returns a new tensor."""
    import torch

    from attnbench.tensors.inputs import make_inputs, refill

    problem = workload(direction="forward")
    inputs = make_inputs(problem, "cpu", variant.layout)
    call = variant.prepare(problem, inputs)
    first = call()
    refill(inputs, 1)
    second = call()
    assert first.data_ptr() != second.data_ptr()
    assert not torch.equal(first, second)
