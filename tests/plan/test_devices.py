"""GPUs as NVML lists them, on stand-ins, and the cores that their workers are pinned to."""

from types import SimpleNamespace

import pytest

from attnbench import Workload
from attnbench.plan import devices
from attnbench.plan.cells import Plan, interchangeable, make_plan
from attnbench.plan.core_affinity import cores_near_gpus
from attnbench.plan.devices import Device, choose_devices, list_devices


@pytest.fixture
def system(tmp_path):
    """Make a stand-in for /sys: two sockets of four cores with two threads each, two GPUs on the first, one apart."""
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


def test_cores_are_near_and_no_two_gpus_share_one(system):
    """Each GPU gets cores of its own socket, the threads of one core go to one GPU, and none is given twice."""
    assert cores_near_gpus(GPUS, set(range(16)), system) == [(0, 1, 8, 9), (2, 3, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15)]


def test_cores_that_are_not_ours_are_left_out(system, tmp_path):
    """Only cores that this process may use are given; where a GPU would have none, none is pinned."""
    assert cores_near_gpus(GPUS, {0, 1, 8, 5}, system) == [(0, 8), (1,), (5,)]
    assert cores_near_gpus(GPUS, {0, 5}, system) == [(), (), ()]
    assert cores_near_gpus(GPUS[:1], {2, 3}, tmp_path / "nowhere") == [(2, 3)]


@pytest.fixture
def nvml(monkeypatch, system):
    """Put three GPUs, two of them interchangeable, in NVML's place."""
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


def test_all_gpus_are_taken_and_each_is_pinned_near_itself(nvml):
    """Without a choice every GPU of the machine works, each worker on cores of its own."""
    chosen = choose_devices([])
    assert [device.name for device in chosen] == ["cuda:0", "cuda:1", "cuda:2"]
    cores = [device.cores for device in chosen]
    assert all(cores)
    assert len(frozenset().union(*cores)) == sum(len(each) for each in cores)
    assert next(device for device in list_devices() if device.name == "cpu").cores is None


def test_gpus_of_one_model_share_the_cells_and_others_do_not(nvml):
    """Cells are planned once a model: two alike GPUs make a pool, another model measures all cells too."""
    chosen = choose_devices(["cuda"])
    environment = {"device_name": "x", "driver": "y", "packages": {}}
    workload = Workload(heads=2, seq_q=16, head_dim=8)
    variant = SimpleNamespace(name="v", sha256="s", packages=())
    protocols = {"cuda": SimpleNamespace(protocol_id="p")}
    environments = {device.name: environment for device in chosen}
    plan = make_plan([variant], [workload], chosen, protocols, environments)
    assert [cell.device.name for cell in plan.cells] == ["cuda:0", "cuda:2"]
    assert [[device.name for device in pool] for pool in plan.device_groups] == [["cuda:0", "cuda:1"], ["cuda:2"]]
    apart = make_plan([variant], [workload], chosen, protocols, environments, every_device=True)
    assert [[device.name for device in pool] for pool in apart.device_groups] == [["cuda:0"], ["cuda:1"], ["cuda:2"]]


def test_another_driver_is_another_device():
    """Two GPUs of one name are alike only under one driver."""
    one = Device("cuda:0", "H200", "a", "570")
    assert interchangeable(one, Device("cuda:1", "H200", "b", "570"))
    assert not interchangeable(one, Device("cuda:1", "H200", "b", "560"))
    assert Plan((), {}, {}).devices == []
