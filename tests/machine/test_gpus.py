from __future__ import annotations

import pytest

from attnbench.machine.gpus import list_gpus, visible
from fake_nvml import FakeNvml, NVMLError, gpu, instance, split

DENIED = {"Handle": NVMLError("Insufficient Permissions")}


def uuids(gpus):
    """Return the UUIDs of the GPUs."""
    return [each.uuid for each in gpus]


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_gpu_that_may_not_be_used_does_not_hide_the_others(position):
    """Each GPU is queried separately, and one that fails is listed with the reason."""
    devices = [gpu(1), gpu(2)]
    devices.insert(position, DENIED)
    listed = list_gpus(FakeNvml(*devices))
    assert uuids(listed.gpus) == ["GPU-1111", "GPU-2222"]
    assert listed.unusable == ((position, "Insufficient Permissions"),)
    assert [each.index for each in listed.gpus] == [index for index in range(3) if index != position]


def test_a_failing_query_of_one_gpu_does_not_hide_the_others():
    """A GPU that was lost after NVML started is listed with the reason, and the others are usable."""
    listed = list_gpus(FakeNvml(gpu(0, MemoryInfo=NVMLError("GPU is lost")), gpu(1)))
    assert (uuids(listed.gpus), listed.unusable) == (["GPU-1111"], ((0, "GPU is lost"),))


def test_without_nvml_there_are_no_gpus_and_the_reason_is_known():
    """If NVML can't start, the list is empty and says why."""
    listed = list_gpus(FakeNvml(gpu(0), Init=NVMLError("Driver Not Loaded")))
    assert listed.gpus == ()
    assert listed.problem == "NVML can't be used: Driver Not Loaded"


def test_the_driver_and_the_newest_cuda_that_it_supports_are_listed():
    """The driver's version is text, and the version of CUDA is a pair of numbers."""
    listed = list_gpus(FakeNvml(DriverVersion=b"570.86.10", CudaDriverVersion_v2=12080))
    assert (listed.driver, listed.driver_cuda) == ("570.86.10", (12, 8))


def test_mig_instances_are_devices_with_their_own_uuid_and_memory():
    """A GPU in MIG mode is replaced by its instances; positions without an instance are left out."""
    pieces = instance("aaaa", 10), NVMLError("Not Found"), instance("bbbb", 20)
    listed = list_gpus(FakeNvml(gpu(0), split(1, *pieces)))
    assert uuids(listed.gpus) == ["GPU-0000", "MIG-aaaa", "MIG-bbbb"]
    assert [each.memory_bytes >> 30 for each in listed.gpus] == [1, 10, 20]
    assert [each.parent for each in listed.gpus] == [None, "GPU-1111", "GPU-1111"]
    assert listed.gpus[1].model == "H200 MIG aaaa"


def test_a_gpu_in_mig_mode_without_instances_is_unusable():
    """The reason for a GPU in MIG mode without instances says how to create one."""
    ((index, reason),) = list_gpus(FakeNvml(split(0, NVMLError("Not Found")))).unusable
    assert index == 0
    assert "sudo nvidia-smi mig -i 0 -cgi" in reason.remedy


def test_compute_modes_are_known():
    """A GPU in mode EXCLUSIVE_PROCESS is marked, and one in mode PROHIBITED is unusable, with the remedy."""
    listed = list_gpus(FakeNvml(gpu(0), gpu(1, ComputeMode=3), gpu(2, ComputeMode=2)))
    assert [each.exclusive for each in listed.gpus] == [False, True]
    ((index, reason),) = listed.unusable
    assert index == 2
    assert "PROHIBITED: sudo nvidia-smi -i 2 -c DEFAULT" in str(reason)


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        (None, ["GPU-0000", "GPU-1111", "GPU-2222"]),
        ("", []),
        ("2,0", ["GPU-2222", "GPU-0000"]),
        (" 1 , 2 ", ["GPU-1111", "GPU-2222"]),
        ("0,2,-1,1", ["GPU-0000", "GPU-2222"]),
        ("0,3,1", ["GPU-0000"]),
        ("1gpu,0", ["GPU-1111", "GPU-0000"]),
        ("NoDevFiles", []),
        ("1,1", []),
        ("0,GPU-1", ["GPU-0000"]),
        ("GPU-22,GPU-0000", ["GPU-2222", "GPU-0000"]),
        ("GPU-0,0", ["GPU-0000"]),
        ("GPU-", []),
        ("GPU-2222,GPU-7,GPU-1", ["GPU-2222"]),
        ("GPU-1,GPU-11", []),
        ("MIG-aaaa", []),
    ],
)
def test_cuda_visible_devices_chooses_and_orders_gpus_as_in_cuda(wanted, left):
    """Entries are indices or beginnings of UUIDs that fit one GPU. The first invalid entry ends the list."""
    gpus = list_gpus(FakeNvml(gpu(0), gpu(1), gpu(2))).gpus
    assert uuids(visible(gpus, wanted)) == left


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        (None, ["GPU-0000", "MIG-aaaa", "MIG-abbb", "GPU-2222"]),
        ("MIG-abbb", ["MIG-abbb"]),
        ("MIG-ab,MIG-aa", ["MIG-abbb", "MIG-aaaa"]),
        ("MIG-a", []),
        ("MIG-aaaa,GPU-0", ["MIG-aaaa"]),
        ("1", ["MIG-aaaa"]),
        ("2,1", ["GPU-2222", "MIG-aaaa"]),
        ("GPU-1111", ["MIG-aaaa"]),
    ],
)
def test_cuda_visible_devices_names_mig_instances(wanted, left):
    """An instance is named by its UUID. The number or UUID of a GPU in MIG mode stands for its first instance."""
    gpus = list_gpus(FakeNvml(gpu(0), split(1, instance("aaaa"), instance("abbb")), gpu(2))).gpus
    assert uuids(visible(gpus, wanted)) == left


def test_indices_count_only_gpus_that_this_process_may_use():
    """A GPU that belongs to another job has no index in CUDA_VISIBLE_DEVICES, because CUDA does not see it either."""
    gpus = list_gpus(FakeNvml(DENIED, gpu(1), gpu(2))).gpus
    assert uuids(visible(gpus, "0")) == ["GPU-1111"]
