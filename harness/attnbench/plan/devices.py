"""The devices of this machine and the cores near each GPU, listed without importing torch."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from attnbench.device_names import device_index, device_type
from attnbench.errors import UsageError, unknown
from attnbench.machine.gpu_support import gpu_problem
from attnbench.machine.gpus import list_gpus

SYSTEM = Path("/sys")


def cores_near_gpus(bus_ids: Sequence[str], allowed: set[int], system: Path = SYSTEM) -> list[tuple[int, ...]]:
    """Divide the allowed cores among GPUs, so that each GPU gets cores near it, and return the cores of each GPU.

    `bus_ids` are the PCI addresses of the GPUs, such as `00000000:3B:00.0`. All hardware threads of a core go to the
    same GPU. If there are too few cores to give each GPU at least one, no GPU gets any, and all tuples are empty.
    """
    near = [_local_cores(bus_id, system) & allowed or allowed for bus_id in bus_ids]
    shares: list[list[int]] = [[] for _ in bus_ids]
    claimed: dict[tuple[int, ...], dict[int, list[int]]] = {}
    for core in sorted(allowed):
        claimants = tuple(gpu for gpu, cores in enumerate(near) if core in cores)
        claimed.setdefault(claimants, {}).setdefault(_first_sibling(core, system), []).append(core)
    for claimants, threads in claimed.items():
        for position, siblings in enumerate(threads.values()):
            if claimants:
                shares[claimants[position * len(claimants) // len(threads)]] += siblings
    return [tuple(sorted(share)) for share in shares] if all(shares) else [()] * len(bus_ids)


def _local_cores(bus_id: str, system: Path) -> set[int]:
    domain, _, rest = bus_id.lower().partition(":")
    return _read_list(system / "bus" / "pci" / "devices" / f"{domain[-4:]}:{rest}" / "local_cpulist")


def _first_sibling(core: int, system: Path) -> int:
    siblings = _read_list(system / "devices" / "system" / "cpu" / f"cpu{core}" / "topology" / "thread_siblings_list")
    return min(siblings, default=core)


def _read_list(path: Path) -> set[int]:
    """Return the core numbers in a file with text such as `0-3,8`, or an empty set if the file can't be read."""
    try:
        text = path.read_text(encoding="ascii").strip()
        ends = [part.partition("-") for part in text.split(",") if part]
        return {core for low, _, high in ends for core in range(int(low), int(high or low) + 1)}
    except (OSError, ValueError):
        return set()


# Idle OpenMP threads spin for up to 10 ms (GNU, measured) or 200 ms (Intel, by default) before they sleep. While they
# spin, they would disturb the next worker, which is already timing its block. With these settings, GNU's threads spin
# for less than 0.5 ms.
SHORT_SPINS = {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "1"}


@dataclass(frozen=True)
class Device:
    """A device that cells run on.

    `cpu` is the whole CPU. `cpu:N` is a slot for a worker that is pinned to one core and runs one thread. `cuda:N` is a
    GPU or a MIG instance; they are numbered in the order of CUDA_VISIBLE_DEVICES or, if it is not set, of their PCI
    addresses. `uuid` distinguishes devices of the same model. A team is a device that consists of several other
    devices, its `members`. A team's name consists of its members' names, joined by `+`.
    """

    name: str
    model: str
    uuid: str
    driver: str | None = None
    memory_bytes: int | None = None
    near_cores: tuple[int, ...] = ()  # the cores that are reserved for the worker of a GPU or a team
    members: tuple[Device, ...] = ()
    exclusive: bool = False  # whether only one process at a time can use the GPU (compute mode EXCLUSIVE_PROCESS)

    @classmethod
    def team(cls, members: Sequence[Device]) -> Device:
        """Return the team that consists of `members`, which must be of the same kind and model."""
        name, uuid = ("+".join(getattr(member, field) for member in members) for field in ("name", "uuid"))
        memory = members[0].memory_bytes
        whole = None if memory is None else memory * len(members)
        near = tuple(core for member in members for core in sorted(member.cores or ()))
        model, exclusive = f"{len(members)} x {members[0].model}", any(member.exclusive for member in members)
        return cls(name, model, uuid, members[0].driver, whole, near, tuple(members), exclusive)

    @property
    def size(self) -> int:
        """The number of members of a team, or 1 for a single device."""
        return len(self.members) or 1

    @property
    def kind(self) -> str:
        """The type of the device: 'cpu' or 'cuda'."""
        return device_type(self.name)

    def worker_environment(self) -> dict[str, str]:
        """Return the environment variables that restrict a worker to this device."""
        if self.kind == "cuda":
            return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": self.uuid.replace("+", ",")}
        threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} if self.cores is not None else {}
        spinning = {name: value for name, value in SHORT_SPINS.items() if name not in os.environ}
        return {"CUDA_VISIBLE_DEVICES": "", **spinning, **threads}

    @property
    def core(self) -> int | None:
        """The core to which the worker of a `cpu:N` slot is pinned, or None for other devices."""
        index = device_index(self.name)
        return None if index is None or self.kind != "cpu" else sorted(os.sched_getaffinity(0))[index]

    @property
    def cores(self) -> frozenset[int] | None:
        """The cores to which the worker of this device is pinned, or None if the worker may use all cores."""
        return frozenset(self.near_cores or (() if self.core is None else (self.core,))) or None

    @property
    def torch_name(self) -> str:
        """The device's name for torch in a worker, in which the only visible GPU is cuda:0."""
        return "cuda:0" if self.kind == "cuda" else "cpu"


def list_devices() -> list[Device]:
    """Return the GPUs that this process may use, followed by the CPU and a slot for each of its cores."""
    return [*_gpus(), *_cpus()]


def choose_devices(names: list[str]) -> list[Device]:
    """Return the devices with the given names.

    `cuda` stands for all GPUs, and names joined by `+` stand for a team. If there are no names, returns all GPUs, or
    the CPU if the machine has no GPU. Raises UsageError if the machine does not have one of the devices, if it has GPUs
    that can't be used and one of them would be chosen, or if the names include both `cpu` and a single core.
    """
    problem = gpu_problem() if not names or "cuda" in map(device_type, names) else None
    if problem is not None:
        raise UsageError(f"{problem}; -d cpu measures the CPU instead")
    known = {device.name: device for device in list_devices()}
    gpus = [device for device in known.values() if device.kind == "cuda"]
    if not names:
        return gpus or [known["cpu"]]
    chosen: dict[str, Device] = {}
    for name in names:
        if name == "cuda" and gpus:
            chosen.update((gpu.name, gpu) for gpu in gpus)
        elif name in known:
            chosen[name] = known[name]
        elif "+" in name and all(member in known for member in name.split("+")):
            chosen[name] = Device.team([known[member] for member in name.split("+")])
        elif re.fullmatch(r"cuda(:\d+)?", name):
            raise UsageError(f"device {name!r} is not on this machine, which has {', '.join(known)}")
        else:
            raise unknown("device", name, known)
    if "cpu" in chosen and any(device.core is not None for device in chosen.values()):
        raise UsageError(
            "devices 'cpu' (all cores) and 'cpu:N' (one core) would disturb each other's timings: choose only one"
        )
    return list(chosen.values())


def _gpus() -> list[Device]:
    listed = list_gpus()
    # Hidden GPUs get their share of the cores too, because another process may be using them.
    near = cores_near_gpus([gpu.bus_id for gpu in listed.gpus], os.sched_getaffinity(0))
    cores_of = {gpu.uuid: cores for gpu, cores in zip(listed.gpus, near, strict=True)}
    return [
        Device(
            name=f"cuda:{number}",
            model=gpu.model,
            uuid=gpu.uuid,
            driver=listed.driver,
            memory_bytes=gpu.memory_bytes,
            near_cores=cores_of[gpu.uuid],
            exclusive=gpu.exclusive,
        )
        for number, gpu in enumerate(listed.visible)
    ]


def _cpus() -> list[Device]:
    model, memory = _cpu_model(), psutil.virtual_memory().total
    cores = len(os.sched_getaffinity(0))
    slots = [Device(f"cpu:{index}", f"{model} (one core)", f"{platform.node()}/cpu:{index}") for index in range(cores)]
    return [Device("cpu", model, f"{platform.node()}/cpu", memory_bytes=memory), *slots]


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()
