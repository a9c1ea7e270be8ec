"""Tests of `ring`: how it splits sequences, and its results with two to four processes."""

import pytest
import torch

from attnbench import Workload
from attnbench.conformance.gate import Gate
from attnbench.conformance.subject import Subject
from attnbench.conformance.suite import cases, run_case
from attnbench.tensors.inputs import make_inputs
from attnbench_variants.ring import Ring
from attnbench_variants.ring.rank import Call, Rank
from attnbench_variants.ring.rank_group import rank_group_of, stop_rank_group
from attnbench_variants.ring.zigzag import chunks_of, gathered, scattered

RING = Ring("ring", 2)


@pytest.fixture(scope="module", autouse=True)
def no_processes_left():
    """Stop the ring's processes after the tests in this module."""
    yield
    stop_rank_group()


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_splitting_and_joining_returns_the_sequence(ranks):
    """Joining the parts restores the whole sequence, and each chunk belongs to exactly one rank."""
    whole = torch.arange(2 * 3 * 24 * 2.0).view(2, 3, 24, 2)
    parts = scattered(whole, ranks)
    assert {tuple(part.shape) for part in parts} == {(2, 3, 24 // ranks, 2)}
    assert torch.equal(gathered(parts), whole)
    assert sorted(index for rank in range(ranks) for index in chunks_of(rank, ranks)) == list(range(2 * ranks))


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_causal_work_is_balanced(ranks):
    """Under a causal mask, all ranks compute the same number of chunk pairs, including two diagonal pairs each."""
    work = []
    for rank in range(ranks):
        pairs = [pair for source in range(ranks) for pair in Rank(rank, ranks, "cpu")._pairs(source, causal=True)]
        work.append((len(pairs), sum(diagonal for _, _, diagonal in pairs)))
    assert set(work) == {(2 * ranks + 1, 2)}


def test_a_call_survives_a_round_trip():
    """A Call that is converted to a tensor and back equals the original."""
    call = Call(1, 7, 5, 2, 8, 4, 16, 64, 32, 2, causal=True, scale=64**-0.5)
    assert Call.from_tensor(call.to_tensor()) == call


@pytest.mark.parametrize(
    ("ranks", "fields"),
    [
        (2, {"mask": "causal"}),
        (2, {"mask": "none", "direction": "forward", "dtype": "bfloat16"}),
        (2, {"mask": "causal", "kv_heads": 2, "head_dim_v": 4, "dtype": "bfloat16", "scale": 0.5}),
        (3, {"mask": "causal", "kv_heads": 1}),
        (4, {"mask": "none"}),
    ],
    ids=str,
)
def test_ring_is_exact(ranks, fields):
    """Output and gradients are correct with two, three and four ranks, even for grouped heads."""
    workload = Workload(
        **{"batch": 2, "heads": 4, "seq_q": 48, "head_dim": 8, "direction": "forward_backward", **fields}
    )
    inputs = make_inputs(workload, "cpu")
    ring = Ring("ring", ranks)
    verdict = Gate(ring, workload, inputs, ring.prepare(workload, inputs), seed=0).before()
    assert verdict.passed, verdict.reason


def test_ranks_keep_the_parts_of_a_call_as_long_as_its_graph_exists():
    """The ranks keep separate tensors for each call, and release them when the call's autograd graph is deleted."""
    workload = Workload(heads=2, seq_q=16, head_dim=8, mask="causal", direction="forward_backward")
    (check,) = cases(RING, only=["interleaved"], level="quick")
    assert run_case(Subject(RING), check).status == "passed"
    inputs = make_inputs(workload, "cpu")
    call = RING.prepare(workload, inputs)
    outputs = [call() for _ in range(3)]
    kept = rank_group_of(2, "cpu")._own._kept
    assert len(kept) == 3
    del outputs[:2]
    call()
    assert len(rank_group_of(2, "cpu")._own._kept) == 2, "only the third and the last call are kept"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"mask": "window:3:0"}, "only the masks none and causal, not window:3:0"),
        ({"seq_k": 16}, "needs seq_q == seq_k"),
        ({"seq_q": 6}, "multiple of 4"),
        ({"seq_q": 0}, "multiple of 4"),
        ({"dropout": 0.1}, "has no dropout"),
        ({"softcap": 2.0}, "has no softcap"),
        ({"alibi": True}, "has no ALiBi"),
    ],
)
def test_unsupported_workloads_are_refused(fields, reason, monkeypatch):
    """Masks, lengths and options that the ring does not support are refused with a reason."""
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
    problem = Workload(**{"heads": 1, "seq_q": 8, "head_dim": 8, **fields})
    assert reason in RING.unsupported_reason(problem, "cpu")


def test_each_rank_needs_a_device(monkeypatch):
    """The ring is refused if there are fewer cores or GPUs than ranks."""
    problem = Workload(heads=1, seq_q=16, head_dim=8)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
    assert RING.unsupported_reason(problem, "cpu") is None
    assert "needs 4 cores" in Ring("ring-4", 4).unsupported_reason(problem, "cpu")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert RING.unsupported_reason(problem, "cuda") == "needs 2 GPUs, but the worker has 1"


def test_a_length_that_does_not_split_raises_in_prepare():
    """If the sequence can't be split evenly, `prepare` raises ValueError and does not hang."""
    workload = Workload(heads=2, seq_q=6, head_dim=8)
    with pytest.raises(ValueError, match="ring needs a sequence length that is a multiple of 4"):
        Ring("ring", 2).prepare(workload, make_inputs(workload, "cpu"))
