"""Tests of `flex` on a CPU: its mask and score functions without compilation, and one compiled workload."""

import itertools
import shutil

import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask

from attnbench import Workload
from attnbench.measure.kernels import MEMORY, profiled
from attnbench.tensors.inputs import make_inputs
from attnbench_variants import _visible, flex
from attnbench_variants.flex import Flex

MASKS = ["causal", "causal-top-left", "window:5:0", "window:3:4", "prefix:6", "padding", "document"]


def workload(**fields):
    """Return a small forward workload."""
    return Workload(**{"batch": 2, "heads": 4, "seq_q": 40, "head_dim": 16, **fields})


@pytest.mark.parametrize("seq_k", [40, 56])
@pytest.mark.parametrize("mask", MASKS)
def test_mask_function_hides_what_the_mask_hides(mask, seq_k):
    """The function passed to flex_attention hides exactly the keys that the workload's mask hides."""
    problem = workload(mask=mask, seq_k=40 if mask == "document" else seq_k)
    function = flex.mask_function(problem, make_inputs(problem, "cpu"))
    batch, row, column = (torch.arange(size) for size in (problem.batch, problem.seq_q, problem.seq_k))
    seen = function(batch[:, None, None], torch.tensor(0), row[:, None], column)
    hidden = _visible.hidden(problem, torch.device("cpu")).expand(2, 1, -1, -1)[:, 0]
    assert torch.equal(seen.expand(hidden.shape), ~hidden)


@pytest.mark.parametrize(("seq_q", "seq_k"), [(300, 300), (256, 256), (1, 400), (200, 500), (500, 200)])
@pytest.mark.parametrize("mask", [*MASKS, "window:0:0", "window:130:0", "prefix:200"])
def test_the_block_mask_is_that_of_torch(mask, seq_q, seq_k):
    """The block mask equals that of torch's create_block_mask in every field."""
    if mask == "document" and seq_q != seq_k:
        pytest.skip("a document mask needs as many queries as keys")
    problem = workload(mask=mask, seq_q=seq_q, seq_k=seq_k)
    inputs = make_inputs(problem, "cpu")
    function = flex.mask_function(problem, inputs)
    batch = problem.batch if problem.mask.is_seeded else None
    expected = create_block_mask(function, batch, None, seq_q, seq_k, device="cpu").as_tuple()
    made = flex.make_block_mask(problem, inputs).as_tuple()
    assert len(made) == len(expected)
    for ours, theirs in zip(made, expected, strict=True):
        if isinstance(theirs, torch.Tensor):
            assert torch.equal(ours, theirs)
        elif not callable(theirs):
            assert ours == theirs


def test_the_block_mask_needs_little_memory():
    """Making the block mask allocates far less than one byte for each query and key."""
    problem = workload(mask="causal", seq_q=4096, heads=1, batch=1)
    inputs = make_inputs(problem, "cpu")
    _, events = profiled(lambda: flex.make_block_mask(problem, inputs), device="cpu", memory=True)
    peak = max(itertools.accumulate(event.bytes for event in events if event.name == MEMORY))
    assert 0 < peak < 4096 * 4096 / 16


@pytest.mark.parametrize("mask", ["none", "padding"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_uncompiled_results(monkeypatch, assert_passes, mask):
    """The uncompiled output is correct with softcap, ALiBi, grouped queries and a different head_dim_v."""
    monkeypatch.setattr(flex, "_compiled", lambda: torch.nn.attention.flex_attention.flex_attention)
    assert_passes(Flex(), workload(mask=mask, softcap=3.0, alibi=True, kv_heads=2, head_dim_v=24, seq_k=56))


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_results(assert_passes, monkeypatch):
    """The compiled output is correct, and a fallback to uncompiled code raises an error."""
    assert_passes(Flex(), workload(mask="causal", seq_k=24))
    config = torch._dynamo.config
    assert min(config.recompile_limit, config.accumulated_recompile_limit) == flex.MAX_RECOMPILATIONS
    monkeypatch.setattr(config, "recompile_limit", 1)
    with pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit):
        Flex().prepare(workload(seq_q=48), make_inputs(workload(seq_q=48), "cpu"))


@pytest.mark.parametrize(
    ("fields", "word"),
    [({"dropout": 0.1}, "dropout"), ({"direction": "backward"}, "backward"), ({"seq_q": 0}, "empty")],
    ids=str,
)
def test_refusals(fields, word):
    """Features that flex_attention lacks are refused with a reason."""
    assert word in Flex().unsupported_reason(workload(**fields), "cpu")
