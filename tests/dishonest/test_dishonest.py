"""Tests that all dishonest variants in tests/mutants/dishonest are caught, and that the honest one passes."""

from __future__ import annotations

import re

import pytest
import torch

from attnbench import Workload
from dishonest_pack import NEEDS_SEPARATE_WORKER, PACK, PackRunner

WORKLOAD = Workload(heads=2, seq_q=64, head_dim=16, mask="causal")
TRAINING = Workload(heads=2, seq_q=64, head_dim=16, mask="causal", direction="forward_backward")

WRONG = "tolerance|error"  # matches the reason that is reported for a wrong result
# For each trick, a regular expression that the reported reason must match.
TRICKS = {
    "cached_by_id": WRONG,
    "cached_by_pointer": WRONG,
    "cached_by_shape": WRONG,
    "cached_by_version": f"{WRONG}|cached output",
    "cached_by_content": "cached output",
    "cached_and_idles": "cached output",
    "cached_from_the_third_call": "cached output",
    "reads_the_sampler": f"{WRONG}|cached output|work in audited calls only",
    "wrong_unless_audited": WRONG,
    "thread_fills_the_output": f"{WRONG}|thread|NaN|memory changed after the call",
    "thread_works_ahead": f"{WRONG}|thread",
    "lazy_subclass": "lazy tensor subclass",
    "lazy_methods": r"lazy tensor: the output replaces Tensor\.",
    "lazy_mode": "modes? of torch",
    "lazy_operator": "memory changed after the call",
    "patched_perf_counter": r"patched clock: time\.perf_counter",
    "patched_perf_counter_ns": r"patched clock: time\.perf_counter_ns",
    "patched_event": r"patched clock: torch\.cuda\.Event",
    "patched_synchronize": r"patched clock: torch\.cuda\.synchronize",
    "sleeps_in_warm_up": "slow warm-up",
    "right_then_wrong": WRONG,
    "stale_memory": f"{WRONG}|NaN",
    "mutates_inputs": "mutated inputs",
    "aliases_input": "input",
    "aliases_last_output": "last",
    "aliases_late": "aliases the last output|NaN",
    "scans_frames": WRONG,
    "scans_the_heap": WRONG,
    "nan_wild_card": "nan|NaN|finite",
    "silent_down_cast": WRONG,
    "skips_the_mask": WRONG,
    "skips_the_scale": WRONG,
    "skips_the_tail": WRONG,
    "special_case": WRONG,
    "falls_back_to_the_reference": "fall-back to the reference",
    "forges_a_record": "results pipe",
    "sets_tf32": "TF32",
    "sets_default_dtype": "default dtype",
    "sets_grad_mode": "grad mode",
    "sets_the_seed": "seed",
    "patches_the_gate": r"patched function: attnbench\.conformance\.gate\.Gate\._judge",
    "patches_the_norm": r"patched function: torch\.Tensor\.norm",
    "sets_its_priority": "priority",
    "sets_threads": "number of threads",
}

# Tricks that need a workload of their own.
OTHER_TRICKS = {
    "replays_gradients": (
        Workload(heads=2, seq_q=512, head_dim=16, mask="causal", direction="forward_backward"),
        "gradients of a timed call: .* computed from the call's inputs",
    ),
    "ignores_dropout": (Workload(heads=4, seq_q=1, seq_k=64, head_dim=16, dropout=0.1), "dropout is ignored"),
}

# These tricks are detected by the times of calls. One call that another process interrupts can hide them, so they are
# measured again, up to ATTEMPTS times, until they are caught.
DETECTED_BY_TIMES = (
    "cached_by_content",
    "cached_and_idles",
    "cached_from_the_third_call",
    "reads_the_sampler",
    "sleeps_in_warm_up",
)
ATTEMPTS = 5
CAUGHT = ("incorrect", "error", "suspect")


@pytest.fixture(scope="module")
def shared():
    """Yield a runner shared by all variants except those that permanently change their process."""
    runner = PackRunner({"OMP_NUM_THREADS": "1"})
    yield runner
    runner.stop()


@pytest.fixture
def outcome(shared):
    """Yield a function that runs a trick in the shared worker, or in a new worker if the trick changes its process."""
    separate = PackRunner({"OMP_NUM_THREADS": "1"})

    def run(trick, workload, device="cpu"):
        return (separate if NEEDS_SEPARATE_WORKER.search(trick) else shared).outcome(trick, workload, device)

    yield run
    separate.stop()


def test_the_whole_pack_is_tried():
    """Every file in the pack except the honest variant and the one that needs CUDA has an entry in TRICKS."""
    assert {path.stem for path in PACK.glob("*.py")} == {*TRICKS, *OTHER_TRICKS, "honest", "side_stream"}


@pytest.mark.parametrize("workload", [WORKLOAD, TRAINING], ids=lambda workload: workload.direction)
def test_an_honest_variant_passes(workload, outcome):
    """The honest variant gets the status ok, which shows that the checks don't reject every variant."""
    assert outcome("honest", workload) == ("ok", None)


@pytest.mark.parametrize("trick", TRICKS)
def test_a_dishonest_variant_is_caught(trick, outcome):
    """Each trick gets the status incorrect or error, or suspect times, with a reason that describes the trick."""
    for _ in range(ATTEMPTS if trick in DETECTED_BY_TIMES else 1):
        status, reason = outcome(trick, WORKLOAD)
        if status != "ok":
            break
    assert status in CAUGHT, (status, reason)
    assert re.search(TRICKS[trick], reason), reason


@pytest.mark.parametrize("trick", OTHER_TRICKS)
def test_tricks_with_certain_workloads_are_caught(trick, outcome):
    """Replayed gradients and ignored dropout are caught on the workloads on which they are hardest to see."""
    workload, text = OTHER_TRICKS[trick]
    status, reason = outcome(trick, workload)
    assert status == "incorrect", (status, reason)
    assert re.search(text, reason), reason


@pytest.mark.parametrize("trick", ["right_then_wrong", "stale_memory", "sets_grad_mode"])
def test_tricks_are_caught_in_training_too(trick, outcome):
    """Tricks are also caught if the workload's direction is forward_backward."""
    status, reason = outcome(trick, TRAINING)
    assert status in ("incorrect", "error"), (status, reason)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_work_left_on_a_side_stream_is_caught(outcome):
    """A variant that leaves work on a side stream is caught, because its output is copied before the work finishes."""
    status, reason = outcome("side_stream", WORKLOAD, "cuda")
    assert status in ("incorrect", "error"), (status, reason)
