"""The conformance suite on a GPU, under each of the names that torch and users give it. No test needs a GPU."""

import shlex
from dataclasses import replace

import pytest
import torch

from attnbench import Variant
from attnbench.conformance.check import Skipped
from attnbench.conformance.check_workloads import workload
from attnbench.conformance.checks import device, strides
from attnbench.conformance.subject import Subject
from attnbench.conformance.suite import cases, repro, run_case

GPU_NAMES = ("cuda", "cuda:0", "cuda:1")


class Asks(Variant):
    """A variant that refuses every workload, and names the device in the reason."""

    name = "asks"
    costly_on = ("cuda",)

    def unsupported_reason(self, workload, device):
        """Return a reason that contains the argument `device`."""
        return f"asked about {device}"

    def prepare(self, workload, inputs):
        """Raise an error, because no workload is supported."""
        raise AssertionError


@pytest.mark.parametrize("name", GPU_NAMES)
def test_a_variant_is_asked_about_the_type_of_the_device(name):
    """Under every name of a GPU, `unsupported_reason` receives the type `cuda`."""
    assert Subject(Asks(), name).refusal(workload(seq=8)) == "asked about cuda"
    assert Subject(Asks(), "cpu").refusal(workload(seq=8)) == "asked about cpu"


@pytest.mark.parametrize("name", GPU_NAMES)
def test_costly_shapes_reduce_the_tests_under_every_name(name):
    """A variant with `costly_on = ("cuda",)` gets the tests of the next lower level, however the GPU is named."""
    assert len(cases(Asks(), name)) == len(cases(Asks(), "cuda")) < len(cases(Asks(), "cpu"))


@pytest.mark.parametrize("name", GPU_NAMES)
def test_side_streams_are_tested_under_every_name(name):
    """Under every name of a GPU, the side-stream check reaches the variant instead of being skipped for a CPU."""
    (case, *_) = cases(Asks(), name, "quick", only=["side-stream"])
    assert run_case(Subject(Asks(), name), case).refusal == "asked about cuda"


@pytest.fixture
def free(monkeypatch):
    """Simulate a machine with 1 TiB of free host memory, and GPUs of 80 GiB of which as many GiB are free as listed."""
    free_gib = {"cuda": 5, "cuda:0": 5, "cuda:1": 70}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda name: (free_gib[name] << 30, 80 << 30))
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 1 << 40}))
    return free_gib


def test_tensors_on_a_gpu_are_limited_by_its_own_memory(free):
    """The free memory of a subject is that of its own GPU, or on a CPU that of the machine."""
    assert [Subject(Asks(), name).free_bytes >> 30 for name in (*GPU_NAMES, "cpu")] == [5, 5, 70, 1024]


@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_a_check_that_needs_more_than_the_gpu_has_is_skipped(free, name):
    """The checks of very large tensors are skipped if the GPU has too little free memory, however much the host has."""
    (large, *_) = device.large_index.thorough
    with pytest.raises(Skipped, match="only 5 GiB are free"):
        device._need_room(Subject(Asks(), name), large)
    (apart,) = (each for each in strides.far_apart.full if each.dtype == "float32")
    with pytest.raises(Skipped, match="of free GPU memory"):
        strides.far_apart.run(Subject(Asks(), name), apart)


def test_the_command_of_a_test_names_the_gpu_that_the_worker_saw(monkeypatch):
    """The printed command sets CUDA_VISIBLE_DEVICES as in the worker, because a worker calls every GPU `cuda:0`."""
    (case, *_) = cases(Asks(), "cuda:0", "quick", only=["needle"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8f6c")
    words = shlex.split(repro(Subject(Asks(), "cuda:0"), case, "quick"))
    assert words[:2] == ["CUDA_VISIBLE_DEVICES=GPU-8f6c", "pytest"]
    assert words[words.index("--device") + 1] == "cuda:0"
    assert "--device" not in repro(Subject(Asks(), "cpu"), replace(case), "quick")
    assert "CUDA" not in repro(Subject(Asks(), "cpu"), case, "quick")
