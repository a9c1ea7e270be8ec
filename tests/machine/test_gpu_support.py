from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest

from attnbench.machine.gpu_support import TorchBuild, gpu_problem, installed_torch
from attnbench.machine.gpus import list_gpus
from attnbench.machine.torch_choice import MINIMUM_DRIVER
from fake_nvml import FakeNvml, NVMLError, gpu

CPU_BUILD, CUDA_12, CUDA_13 = (TorchBuild(*each) for each in (("2+cpu", None), ("2+cu126", "12.6"), ("2", "13.0")))


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Return a root folder with a GPU's device file, and unset CUDA_VISIBLE_DEVICES."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidia0").touch()
    (tmp_path / "dev" / "nvidiactl").touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def problem(root, *gpus, torch=CUDA_12, **system):
    """Return why the GPUs can't be used, and the remedy, as text."""
    found = gpu_problem(root, list_gpus(FakeNvml(*gpus, **system)), torch)
    return None if found is None else str(found)


def test_a_machine_without_gpus_has_no_problem(tmp_path):
    """Without GPUs and without their device files, nothing is wrong, even if NVML or CUDA is missing."""
    assert problem(tmp_path, Init=NVMLError("Shared Library Not Found"), torch=CPU_BUILD) is None


def test_a_gpu_that_nvml_cannot_find_is_a_problem(root):
    """If there are device files but NVML does not work, the problem names both and says what to look at."""
    found = problem(root, Init=NVMLError("Driver/library version mismatch"))
    assert found.startswith("this machine has NVIDIA GPUs (nvidia0), but none can be used: NVML can't be used: Driver")
    assert "nvidia-smi" in found
    assert "--gpus all" in found


def test_gpus_of_other_slurm_jobs_are_a_problem(root):
    """If NVML denies every GPU, the problem gives each reason and says how to ask Slurm for a GPU."""
    denied = {"Handle": NVMLError("Insufficient Permissions")}
    found = problem(root, denied, denied)
    assert "GPU 0: Insufficient Permissions; GPU 1: Insufficient Permissions" in found
    assert "--gres=gpu:1" in found
    assert problem(root, denied, gpu(1)) is None


@pytest.mark.parametrize("wanted", ["", "-1", "NoDevFiles", "MIG-7"])
def test_a_variable_that_hides_all_gpus_is_a_problem(root, monkeypatch, wanted):
    """If CUDA_VISIBLE_DEVICES leaves no GPU, the problem names the variable and its value."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", wanted)
    assert f"CUDA_VISIBLE_DEVICES={wanted!r} hides all of them" in problem(root, gpu(0))


def test_a_cpu_build_of_torch_is_a_problem_only_beside_a_gpu(root):
    """A torch that is not built for CUDA can't use a GPU, and the problem says how to get another."""
    found = problem(root, gpu(0), torch=CPU_BUILD)
    assert "torch 2+cpu is not built for CUDA" in found
    assert "make bench" in found


@pytest.mark.parametrize(
    ("driver", "supports", "torch", "old"),
    [
        ("550.54.15", 12040, CUDA_12, False),
        ("525.60.13", 12000, CUDA_12, False),
        ("520.61.05", 11080, CUDA_12, True),
        ("575.57.08", 12090, CUDA_13, True),
        ("580.65.06", 13000, CUDA_13, False),
        ("550.54.15", 13000, CUDA_13, False),  # with a compatibility package
    ],
)
def test_a_driver_that_is_too_old_for_torchs_cuda_is_a_problem(root, driver, supports, torch, old):
    """The driver must be new enough for the major version of torch's CUDA, unless libcuda itself supports it."""
    found = problem(root, gpu(0), torch=torch, DriverVersion=driver, CudaDriverVersion_v2=supports)
    assert (found is not None) == old
    if old:
        needed = MINIMUM_DRIVER[torch.cuda_major]
        assert f"CUDA {torch.cuda}, which needs driver {needed} or later, but the driver is {driver}" in found


@pytest.mark.parametrize("line", ["cuda: Optional[str] = '12.6'", "cuda = '12.6'"])
def test_the_cuda_version_of_torch_is_read_from_its_files(tmp_path, line):
    """The version file of a CUDA build gives the version of CUDA, and that of a CPU build gives None."""
    file = tmp_path / "version.py"
    file.write_text(f"from typing import Optional\n__version__ = '2.13.0+cu126'\ndebug = False\n{line}\n")
    assert installed_torch(file) == TorchBuild("2.13.0+cu126", "12.6")
    file.write_text("__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\n")
    assert installed_torch(file) == TorchBuild("2.13.0+cpu", None)


def test_the_installed_torch_is_found_without_importing_it():
    """The version of the installed torch is read in a process that does not import torch."""
    code = (
        "import sys; from attnbench.machine.gpu_support import installed_torch;"
        "print(installed_torch().version); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    # The version of a wheel may lack the local part, such as +cu130, that torch itself states.
    assert done.stdout.strip().startswith(importlib.metadata.version("torch"))
