"""Tests that all dishonest variants in tests/mutants/dishonest are caught, and that the honest one passes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from attnbench import Workload
from attnbench.isolation.worker_process import WorkerLostError, WorkerProcess
from attnbench.measure_config import MeasureConfig
from attnbench.messages import BlockRequest, CloseRequest, FailedReply, LoadRequest, OpenRequest
from attnbench.plugins.loading import PluginSource

PACK = Path(__file__).parent.parent / "mutants" / "dishonest"
WORKLOAD = Workload(heads=2, seq_q=64, head_dim=16, mask="causal")
TRAINING = Workload(heads=2, seq_q=64, head_dim=16, mask="causal", direction="forward_backward")
PROTOCOL = MeasureConfig(warm_up_max_s=0.3)
BLOCKS, BLOCK_NS = 10, 10e6

WRONG = "tolerance|error"  # matches the reason that is reported for a wrong result
# For each trick, a regular expression that the reported reason must match.
TRICKS = {
    "cached_by_id": WRONG,
    "cached_by_pointer": WRONG,
    "cached_by_shape": WRONG,
    "cached_by_version": f"{WRONG}|cached output",
    "cached_by_content": "cached output",
    "cached_from_the_third_call": "cached output",
    "reads_the_sampler": f"{WRONG}|cached output",
    "wrong_unless_audited": WRONG,
    "thread_fills_the_output": f"{WRONG}|thread|NaN",
    "thread_works_ahead": f"{WRONG}|thread",
    "lazy_subclass": "lazy tensor subclass",
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


# Tricks whose names match this pattern change their process permanently, so each of them runs in a separate worker.
NEEDS_SEPARATE_WORKER = re.compile("patche|sets|thread|forges|sleeps")


class PackRunner:
    """A runner that measures dishonest variants one after another in the same worker."""

    def __init__(self):
        self._worker = None

    def outcome(self, trick, workload, device="cpu"):
        """Measure a trick's variant in a real worker, as a run does, and return the resulting status and reason."""
        source = PluginSource(trick, "file", str(PACK / f"{trick}.py"))
        try:
            self._ask(LoadRequest(source, "dishonest", device))
            reply = self._ask(OpenRequest(workload, PROTOCOL))
            for _ in range(BLOCKS):
                if not isinstance(reply, FailedReply):
                    reply = self._ask(BlockRequest(BLOCK_NS))
            if not isinstance(reply, FailedReply):
                reply = self._ask(CloseRequest())
        except WorkerLostError as lost:
            self._worker = None
            return lost.status, lost.reason
        return (reply.status, reply.reason) if isinstance(reply, FailedReply) else ("ok", None)

    def _ask(self, request):
        self._worker = self._worker or WorkerProcess({"OMP_NUM_THREADS": "1"})
        return self._worker.request(request, lambda phase: 120.0)

    def stop(self):
        """Stop the worker."""
        if self._worker is not None:
            self._worker.stop()


@pytest.fixture(scope="module")
def shared():
    """Yield a runner shared by all variants except those that permanently change their process."""
    runner = PackRunner()
    yield runner
    runner.stop()


@pytest.fixture
def outcome(shared):
    """Yield a function that runs a trick in the shared worker, or in a new worker if the trick changes its process."""
    separate = PackRunner()

    def run(trick, workload, device="cpu"):
        return (separate if NEEDS_SEPARATE_WORKER.search(trick) else shared).outcome(trick, workload, device)

    yield run
    separate.stop()


def test_the_whole_pack_is_tried():
    """Every file in the pack except the honest variant and the one that needs CUDA has an entry in TRICKS."""
    assert {path.stem for path in PACK.glob("*.py")} == {*TRICKS, "honest", "side_stream"}


@pytest.mark.parametrize("workload", [WORKLOAD, TRAINING], ids=lambda workload: workload.direction)
def test_an_honest_variant_passes(workload, outcome):
    """The honest variant gets the status ok, which shows that the checks don't reject every variant."""
    assert outcome("honest", workload) == ("ok", None)


@pytest.mark.parametrize("trick", TRICKS)
def test_a_dishonest_variant_is_caught(trick, outcome):
    """Each trick gets the status incorrect or error, with a reason that describes the trick."""
    status, reason = outcome(trick, WORKLOAD)
    assert status in ("incorrect", "error"), (status, reason)
    assert re.search(TRICKS[trick], reason), reason


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
