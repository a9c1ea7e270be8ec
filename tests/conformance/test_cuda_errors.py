"""CUDA errors in the conformance suite. The tests raise the errors themselves, and simulate a GPU that is lost."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from attnbench.conformance.check import Failed, Hint, Skipped
from attnbench.conformance.check_workloads import workload
from attnbench.conformance.checks import device, hypothesis_fuzz, strides
from attnbench.conformance.cuda_errors import cuda_error, gpu_failure
from attnbench.conformance.subject import Subject
from attnbench.conformance.suite import CHECKS, Case, run_case

sys.path.insert(0, str(Path(__file__).parents[1] / "mutants"))
from tiled import Tiled

MISALIGNED = "CUDA error: misaligned address"
SMALL = workload(seq=8, heads=2)


class Faults(Tiled):
    """Attention whose call raises a CUDA error, and counts its calls."""

    calls = 0

    def attend(self, *arguments):
        """Raise the error that torch raises after a kernel's fault."""
        self.calls += 1
        raise RuntimeError(MISALIGNED)


@pytest.fixture
def gpu(monkeypatch):
    """Simulate a GPU that works until `lose` is called. Then each wait for it raises the same error."""

    class Gpu:
        error = None

        def lose(self):
            self.error = RuntimeError("CUDA error: an illegal memory access was encountered")

        def synchronize(self, device=None):
            if self.error:
                raise self.error

    simulated = Gpu()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", simulated.synchronize)
    return simulated


def raised(error, cause=None):
    """Return an exception after it was raised from a cause."""
    try:
        raise error from cause
    except type(error) as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.AcceleratorError(MISALIGNED), f"AcceleratorError: {MISALIGNED}"),
        (RuntimeError(MISALIGNED), f"RuntimeError: {MISALIGNED}"),
        (RuntimeError("CUDA driver error: unknown error"), "RuntimeError: CUDA driver error: unknown error"),
        (Failed("wrong").within("call 3"), None),
        (raised(Failed("call 3"), raised(Failed("call"), RuntimeError(MISALIGNED))), f"RuntimeError: {MISALIGNED}"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"), None),
        (RuntimeError("CUDA error: out of memory"), "RuntimeError: CUDA error: out of memory"),
        (RuntimeError("the shapes differ"), None),
        (ValueError(MISALIGNED), None),
    ],
)
def test_an_exception_may_come_from_a_cuda_error(error, expected):
    """A CUDA error is found among the causes of an exception. Too little memory for a tensor is no such error."""
    assert cuda_error(error) == expected


def test_the_gpu_itself_tells_whether_it_can_be_used(gpu):
    """A GPU that refuses to work is found even if no exception was raised, e.g. because the variant caught it."""
    assert gpu_failure() is None
    gpu.lose()
    assert gpu_failure() == "RuntimeError: CUDA error: an illegal memory access was encountered"


def test_a_process_that_never_used_a_gpu_is_not_asked(monkeypatch):
    """If CUDA was not initialised, the GPU is left alone, because waiting for it would create a context."""
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: pytest.fail("the GPU was used"))
    assert gpu_failure() is None
    monkeypatch.delitem(sys.modules, "torch")
    assert gpu_failure() is None


@pytest.mark.parametrize("name", ["masks", "nan-safe"])
def test_a_cuda_error_fails_the_test_and_ends_the_use_of_the_process(name):
    """The test fails, even of an unclaimed trait, and the reason says that an earlier call may be the cause."""
    result = run_case(Subject(Faults()), Case(CHECKS[name], CHECKS[name].quick[0]))
    assert (result.status, result.gpu_lost) == ("failed", True)
    assert MISALIGNED in result.reason
    assert "an earlier call may have caused it" in result.reason


def outcome(run):
    """Return the result of a test of a right variant whose check is replaced by the function `run`."""
    return run_case(Subject(Tiled()), Case(replace(CHECKS["masks"], run=run), SMALL))


def raise_(error):
    """Raise an error."""
    raise error


@pytest.mark.parametrize(
    ("then", "status"),
    [
        (lambda: None, "failed"),
        (lambda: raise_(Hint("needless refusal")), "failed"),
        (lambda: raise_(Failed("a wrong row")), "failed"),
        (lambda: raise_(Skipped("too little memory")), "skipped"),
    ],
)
def test_a_test_that_loses_the_gpu_without_an_exception_is_found(gpu, then, status):
    """A test after which the GPU can't be used does not pass, even if its error was caught or came too late."""
    result = outcome(lambda subject, workload: gpu.lose() or then())
    assert (result.status, result.gpu_lost) == (status, True)
    if status == "failed":
        assert "an earlier call may have caused it" in result.reason


def test_no_test_runs_on_a_lost_gpu(gpu):
    """In a process that can't be replaced, such as that of pytest, all further tests are skipped with the reason."""
    gpu.lose()
    result = outcome(lambda subject, workload: pytest.fail("the check ran"))
    assert (result.status, result.gpu_lost) == ("skipped", True)
    assert "this process can no longer use the GPU: RuntimeError: CUDA error: an illegal memory" in result.reason


def test_ordinary_failures_leave_the_gpu_usable(gpu):
    """A wrong answer, or an error that has nothing to do with CUDA, ends nothing."""
    for error in (Failed("a wrong row"), ValueError("a shape")):
        result = outcome(lambda subject, workload, error=error: raise_(error))
        assert (result.status, result.gpu_lost) == ("failed", False)


def test_a_strided_head_dim_may_be_refused_but_not_fault(monkeypatch):
    """A strided head_dim may raise an ordinary error, but a CUDA error is a failure."""
    arrangement = next(each for each in strides.ARRANGEMENTS if each[2] is strides._columns_apart)
    monkeypatch.setattr(strides, "ARRANGEMENTS", (arrangement,))
    with pytest.raises(Failed, match="misaligned"):
        strides.strides.run(Subject(Faults()), workload(seq_q=8, seq_k=12))


def test_a_refused_workload_that_faults_justifies_the_refusal(gpu):
    """If a refused workload causes a CUDA error, the check of refusals is skipped and tries no further workload."""

    class Refuses(Faults):
        def unsupported_reason(self, workload, device):
            return "not written"

    refuses = Refuses()
    (case,) = (Case(device.refusals, each) for each in device.refusals.full)
    result = run_case(Subject(refuses), case)
    assert (result.status, refuses.calls) == ("skipped", 1)
    assert f"is justified: RuntimeError: {MISALIGNED}" in result.reason


def test_a_drawn_workload_that_faults_is_not_shrunk():
    """After a CUDA error, no other workload is tried, because each would fail with the same error."""
    faults = Faults()
    with pytest.raises(Failed, match="misaligned address"):
        hypothesis_fuzz.drawn.run(Subject(faults), workload(seq=8))
    assert faults.calls == 1


def test_a_variant_may_need_more_memory_than_a_gpu_has(monkeypatch):
    """If a variant runs out of GPU memory on a very large workload, the test is skipped, and the GPU stays usable."""

    class OnGpu(Subject):
        device_type = "cuda"
        free_bytes = 1 << 40

    class Large(Tiled):
        def attend(self, *arguments):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 90 GiB")

    small = workload(batch=1, heads=1, seq_q=2, seq_k=1000, head_dim=128, head_dim_v=8, direction="forward")
    result = run_case(OnGpu(Large()), Case(device.large_index, small))
    assert (result.status, result.gpu_lost) == ("skipped", False)
    assert "more memory for this workload than is free" in result.reason
