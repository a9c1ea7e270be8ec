"""`ring`: the split, and the answers of rings of two to four processes."""

import pytest
import torch

from attnbench import Workload
from attnbench.conformance.gate import Gate
from attnbench.conformance.subject import Subject
from attnbench.conformance.suite import cases, run_case
from attnbench.tensors.inputs import make_inputs
from attnbench_variants.ring import Ring
from attnbench_variants.ring.rank import Call, Member
from attnbench_variants.ring.rank_group import crew_of, dismiss
from attnbench_variants.ring.zigzag import chunks_of, gathered, scattered

RING = Ring("ring", 2)


@pytest.fixture(scope="module", autouse=True)
def no_crew_left():
    """End the processes when the module's tests are done."""
    yield
    dismiss()


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_split_and_joined_is_the_same(ranks):
    """Parts put together again are the whole, and each chunk is held once."""
    whole = torch.arange(2 * 3 * 24 * 2.0).view(2, 3, 24, 2)
    parts = scattered(whole, ranks)
    assert {tuple(part.shape) for part in parts} == {(2, 3, 24 // ranks, 2)}
    assert torch.equal(gathered(parts), whole)
    assert sorted(index for rank in range(ranks) for index in chunks_of(rank, ranks)) == list(range(2 * ranks))


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_causal_work_is_balanced(ranks):
    """Under a causal mask each rank computes the same number of whole and of diagonal chunk pairs in all."""
    work = []
    for rank in range(ranks):
        pairs = [pair for source in range(ranks) for pair in Member(rank, ranks, "cpu")._pairs(source, causal=True)]
        work.append((len(pairs), sum(diagonal for _, _, diagonal in pairs)))
    assert set(work) == {(2 * ranks + 1, 2)}


def test_calls_survive_being_announced():
    """What rank 0 announces is what the others hear."""
    call = Call(1, 7, 5, 2, 8, 4, 16, 64, 32, 2, causal=True, scale=64**-0.5)
    assert Call.heard(call.announced()) == call


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
    """Output and gradients are attention's, whatever the number of ranks, with grouped heads, call after call."""
    workload = Workload(
        **{"batch": 2, "heads": 4, "seq_q": 48, "head_dim": 8, "direction": "forward_backward", **fields}
    )
    inputs = make_inputs(workload, "cpu")
    ring = Ring("ring", ranks)
    verdict = Gate(ring, workload, inputs, ring.prepare(workload, inputs), seed=0).before()
    assert verdict.passed, verdict.reason


def test_each_call_keeps_its_own_parts_as_long_as_its_graph_lives():
    """Two calls differentiated after both ran give each its own gradients; what nobody can ask for is forgotten."""
    workload = Workload(heads=2, seq_q=16, head_dim=8, mask="causal", direction="forward_backward")
    (check,) = cases(RING, only=["interleaved"], level="quick")
    assert run_case(Subject(RING), check).status == "passed"
    inputs = make_inputs(workload, "cpu")
    call = RING.prepare(workload, inputs)
    outputs = [call() for _ in range(3)]
    kept = crew_of(2, "cpu")._own._kept
    assert len(kept) == 3
    del outputs[:2]
    call()
    assert len(crew_of(2, "cpu")._own._kept) == 2, "the third call's and the last one's"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"mask": "window:3:0"}, "has no mask window:3:0"),
        ({"seq_k": 16}, "needs seq_q == seq_k"),
        ({"seq_q": 6}, "multiple of 4"),
        ({"seq_q": 0}, "multiple of 4"),
        ({"dropout": 0.1}, "has no dropout"),
        ({"softcap": 2.0}, "has no softcap"),
        ({"alibi": True}, "has no ALiBi"),
    ],
)
def test_says_what_it_cannot_do(fields, reason, monkeypatch):
    """Masks, lengths and extras that the ring does not know are refused with the reason."""
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
    problem = Workload(**{"heads": 1, "seq_q": 8, "head_dim": 8, **fields})
    assert reason in RING.unsupported_reason(problem, "cpu")


def test_needs_a_device_a_rank(monkeypatch):
    """Each process wants a core or a GPU of its own."""
    problem = Workload(heads=1, seq_q=16, head_dim=8)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
    assert RING.unsupported_reason(problem, "cpu") is None
    assert "needs 4 cores" in Ring("ring-4", 4).unsupported_reason(problem, "cpu")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert RING.unsupported_reason(problem, "cuda") == "needs 2 GPUs in one worker, which sees 1"


def test_what_does_not_split_is_refused_before_any_rank_waits_for_it():
    """Asked for a length that is no multiple of two chunks a rank, the ring raises in place of hanging."""
    workload = Workload(heads=2, seq_q=6, head_dim=8)
    with pytest.raises(ValueError, match="ring needs a length that is a multiple of 4"):
        Ring("ring", 2).prepare(workload, make_inputs(workload, "cpu"))
