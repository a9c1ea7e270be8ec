"""GPUs that a fake NVML lists, and the cores to which their workers are pinned."""

import os
from types import SimpleNamespace

import pytest

from attnbench import Workload
from attnbench.benchmarks.selection import _choose_devices
from attnbench.plan import devices
from attnbench.plan.cells import Plan, interchangeable, make_plan
from attnbench.plan.devices import Device, choose_devices, cores_near_gpus, list_devices


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
def nvml(monkeypatch, system):
    """Replace NVML with a fake that has three GPUs, two of which are of the same model."""
    names = ["H200", "H200", "L4"]
    calls = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: "570.1",
        "nvmlDeviceGetCount": lambda: 3,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda index: names[index],
        "nvmlDeviceGetUUID": lambda index: f"GPU-{index}",
        "nvmlDeviceGetMemoryInfo": lambda index: SimpleNamespace(total=1 << 30),
        "nvmlDeviceGetPciInfo": lambda index: SimpleNamespace(busId=GPUS[index]),
    }
    for name, call in calls.items():
        monkeypatch.setattr(devices.pynvml, name, call)
    monkeypatch.setattr(devices, "cores_near_gpus", lambda ids, allowed: cores_near_gpus(ids, set(range(16)), system))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


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
    assert _choose_devices(["cuda:2", "cpu"]) == {"cuda:2": "cuda:0", "cpu": "cpu"}
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-2"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2")
    assert _choose_devices([]) == {"cuda:1": "cuda:0"}
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-1"
