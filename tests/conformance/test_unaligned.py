"""The conformance suite's checks of a variant that reads only aligned tensors. No test needs a GPU."""

import sys
from pathlib import Path

import pytest

from attnbench.conformance.subject import Subject
from attnbench.conformance.suite import CHECKS, Case, run_case
from attnbench.tensors.alignment import is_aligned

sys.path.insert(0, str(Path(__file__).parents[1] / "mutants"))
from tiled import Tiled


class Vectorised(Tiled):
    """Attention that raises CUDA's error for inputs that are not aligned at multiples of `loads` bytes."""

    loads = 16

    def __init__(self, alignment_bytes):
        self.alignment_bytes = alignment_bytes

    def prepare(self, workload, inputs):
        """Return a callable that checks the addresses and then computes attention."""
        call = super().prepare(workload, inputs)

        def guarded():
            names = ("query", "key", "value", "grad_output")
            tensors = [tensor for name in names if (tensor := getattr(inputs, name)) is not None]
            if not all(is_aligned(tensor, self.loads) for tensor in tensors):
                raise RuntimeError("CUDA error: misaligned address")
            return call()

        return guarded


class OnGpu(Subject):
    """A subject whose tensors are on the CPU, but whose device has the type of a GPU."""

    device_type = "cuda"
    free_bytes = 1 << 40


def outcomes(subject, name):
    """Return the results of a check on all its workloads."""
    return [run_case(subject, Case(CHECKS[name], each)) for each in CHECKS[name].workloads("full")]


def test_unaligned_inputs_come_last():
    """The check of unaligned inputs is the last one, because on a GPU it may end all work in the process."""
    assert list(CHECKS)[-1] == "unaligned"


def test_a_kernel_that_needs_alignment_fails_unless_it_declares_it():
    """Without a declaration, a variant must read inputs that start one element into their storage."""
    for result in outcomes(OnGpu(Vectorised(1)), "unaligned"):
        assert result.status == "failed"
        assert "bytes into their storage: the callable raised RuntimeError: CUDA error: misaligned" in result.reason
        assert "alignment_bytes" in result.remedy
    assert {result.status for result in outcomes(OnGpu(Tiled()), "unaligned")} == {"passed"}


def test_a_declared_alignment_is_tested_and_less_is_not_applicable():
    """The variant is tested at the alignment that it declares, and less aligned inputs are recorded as not applicable.

    Then the declaration itself is tested: a variant that needs more than it declares fails.
    """
    for result in outcomes(OnGpu(Vectorised(16)), "unaligned"):
        assert result.status == "skipped"
        assert result.reason.startswith("not applicable below 16 bytes: the variant declares alignment_bytes = 16")
    assert {result.status for result in outcomes(OnGpu(Vectorised(8)), "unaligned")} == {"failed"}


@pytest.mark.parametrize("name", ["strides", "far-apart"])
def test_other_checks_pass_on_aligned_views(name):
    """Views of other checks start at multiples of 16 bytes, and so do their rows."""
    assert {result.status for result in outcomes(OnGpu(Vectorised(16)), name)} == {"passed"}


def test_views_that_are_less_aligned_than_declared_are_left_out():
    """If a variant declares a large alignment, it is not asked about views that lack it, and the remark names them."""
    wide = Vectorised(64)
    wide.loads = 64
    results = outcomes(OnGpu(wide), "strides")
    assert {result.status for result in results} == {"passed"}
    assert any("not asked, because the variant declares alignment_bytes = 64" in str(r.reason) for r in results)


def test_on_a_cpu_the_declaration_has_no_effect():
    """On a CPU, inputs at any address are asked of every variant."""
    assert {result.status for result in outcomes(Subject(Vectorised(16)), "unaligned")} == {"failed"}
