"""GPUs that a fake NVML lists, and the cores to which their workers are pinned."""

import os
from types import SimpleNamespace

import pytest

from attnbench import Workload
from attnbench.benchmarks.selection import _choose_devices
from attnbench.errors import UsageError
from attnbench.machine import gpu_support, gpus
from attnbench.machine.gpu_support import TorchBuild
from attnbench.plan import devices
from attnbench.plan.cells import Plan, interchangeable, make_plan
from attnbench.plan.devices import Device, choose_devices, cores_near_gpus, list_devices
from fake_nvml import FakeNvml, NVMLError, gpu, instance, split


@pytest.fixture
def system(tmp_path):
    """Create a fake /sys with two sockets and return its folder.

    Each socket has four cores with two threads each. Two GPUs are near the first socket and one is near the second.
    """
    for core in range(16):
        folder = tmp_path / "devices" / "system" / "cpu" / f"cpu{core}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{core % 8},{core % 8 + 8}\n")
    for bus_id, cores in (("0000:3b:00.0", "0-3,8-11"), ("0000:3c:00.0", "0-3,8-11"), ("0000:af:00.0", "4-7,12-15")):
        folder = tmp_path / "bus" / "pci" / "devices" / bus_id
        folder.mkdir(parents=True)
        (folder / "local_cpulist").write_text(cores + "\n")
    return tmp_path


GPUS = ["00000000:3B:00.0", "00000000:3C:00.0", "00000000:AF:00.0"]


def test_each_gpu_gets_nearby_cores_that_no_other_gpu_gets(system):
    """Each GPU gets whole cores of the nearest socket, and no two GPUs share a core."""
    assert cores_near_gpus(GPUS, set(range(16)), system) == [(0, 1, 8, 9), (2, 3, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15)]


def test_only_allowed_cores_are_divided(system, tmp_path):
    """Only cores that this process may use are divided among the GPUs. If there are too few, no worker is pinned."""
    assert cores_near_gpus(GPUS, {0, 1, 8, 5}, system) == [(0, 8), (1,), (5,)]
    assert cores_near_gpus(GPUS, {0, 5}, system) == [(), (), ()]
    assert cores_near_gpus(GPUS[:1], {2, 3}, tmp_path / "nowhere") == [(2, 3)]


@pytest.fixture
def use_gpus(monkeypatch, system):
    """Return a function that replaces this machine's GPUs, and installs a fake torch that can use them."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "cores_near_gpus", lambda ids, allowed: cores_near_gpus(ids, set(range(16)), system))
    monkeypatch.setattr(gpu_support, "installed_torch", lambda: TorchBuild("2.13.0+cu126", "12.6"))

    def use(*listed, **facts):
        monkeypatch.setattr(gpus, "pynvml", FakeNvml(*listed, **facts))

    return use


@pytest.fixture
def nvml(use_gpus):
    """Replace NVML with a fake that has three GPUs, two of which are of the same model."""
    models = ["H200", "H200", "L4"]
    use_gpus(*(gpu(n, model, PciInfo=SimpleNamespace(busId=GPUS[n])) for n, model in enumerate(models)))


def test_by_default_all_gpus_are_used_and_their_workers_pinned(nvml):
    """If no device is named, every GPU is chosen, and no two workers share a core."""
    chosen = choose_devices([])
    assert [device.name for device in chosen] == ["cuda:0", "cuda:1", "cuda:2"]
    cores = [device.cores for device in chosen]
    assert all(cores)
    assert len(frozenset().union(*cores)) == sum(len(each) for each in cores)
    assert next(device for device in list_devices() if device.name == "cpu").cores is None


def test_gpus_of_one_model_share_their_cells(nvml):
    """Each cell is planned once per GPU model or, with `every_device`, once per GPU."""
    chosen = choose_devices(["cuda"])
    environment = {"device_name": "x", "driver": "y", "packages": {}}
    workload = Workload(heads=2, seq_q=16, head_dim=8)
    variant = SimpleNamespace(name="v", sha256="s", packages=())
    protocols = {"cuda": SimpleNamespace(protocol_id="p")}
    environments = {device.name: environment for device in chosen}
    plan = make_plan([variant], [workload], chosen, protocols, environments)
    assert [cell.device.name for cell in plan.cells] == ["cuda:0", "cuda:2"]
    assert [[device.name for device in group] for group in plan.device_groups] == [["cuda:0", "cuda:1"], ["cuda:2"]]
    apart = make_plan([variant], [workload], chosen, protocols, environments, every_device=True)
    assert [[device.name for device in group] for group in apart.device_groups] == [["cuda:0"], ["cuda:1"], ["cuda:2"]]


def test_gpus_under_different_drivers_are_not_interchangeable():
    """GPUs of the same model are interchangeable only if they have the same driver."""
    first = Device("cuda:0", "H200", "a", "570")
    assert interchangeable(first, Device("cuda:1", "H200", "b", "570"))
    assert not interchangeable(first, Device("cuda:1", "H200", "b", "560"))
    assert Plan((), {}, {}).devices == []


def test_the_benchmarks_accept_gpus_by_number(nvml, monkeypatch):
    """In the benchmarks, a GPU keeps its name, and only the chosen GPUs are visible to torch, which counts from 0."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2")
    assert _choose_devices(["cuda:1", "cpu"]) == {"cuda:1": "cuda:0", "cpu": "cpu"}
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-2222"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2")
    assert _choose_devices([]) == {"cuda:0": "cuda:0"}
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-1111"


def test_cuda_visible_devices_numbers_the_gpus_as_cuda_does(nvml, monkeypatch):
    """`cuda:N` is the N-th GPU of CUDA_VISIBLE_DEVICES, and its cores do not depend on which GPUs are hidden."""
    every = {device.uuid: device.cores for device in choose_devices([])}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    chosen = choose_devices([])
    assert [(device.name, device.uuid) for device in chosen] == [("cuda:0", "GPU-2222"), ("cuda:1", "GPU-0000")]
    assert [device.cores for device in chosen] == [every["GPU-2222"], every["GPU-0000"]]


def test_a_mig_instance_is_a_device_whose_worker_sees_only_the_instance(use_gpus, monkeypatch):
    """A MIG instance has its own number and memory, and its worker gets its UUID in CUDA_VISIBLE_DEVICES."""
    use_gpus(split(0, instance("aaaa", 10), instance("bbbb", 20)))
    first, second = choose_devices(["cuda"])
    assert (second.name, second.memory_bytes) == ("cuda:1", 20 << 30)
    assert second.worker_environment()["CUDA_VISIBLE_DEVICES"] == "MIG-bbbb"
    assert not interchangeable(first, second)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-bbbb")
    assert [(device.name, device.uuid) for device in choose_devices([])] == [("cuda:0", "MIG-bbbb")]


def test_an_exclusive_gpu_is_marked(use_gpus):
    """A device is exclusive if its GPU's compute mode is, and a team if one of its members is."""
    use_gpus(gpu(0), gpu(1, ComputeMode=3))
    chosen = choose_devices(["cuda", "cuda:0+cuda:1"])
    assert [device.exclusive for device in chosen] == [False, True, True]


@pytest.mark.parametrize("names", [[], ["cuda"], ["cuda:0"], ["cpu", "cuda:0"]])
def test_the_cpu_is_not_measured_in_place_of_a_gpu_that_cannot_be_used(use_gpus, names):
    """If a GPU would be chosen but can't be used, UsageError gives the reason, the remedy and the choice of the CPU."""
    use_gpus({"Handle": NVMLError("Insufficient Permissions")})
    with pytest.raises(UsageError, match=r"GPU 0: Insufficient Permissions: .*; -d cpu measures the CPU instead$"):
        choose_devices(names)
    assert [device.name for device in choose_devices(["cpu"])] == ["cpu"]
