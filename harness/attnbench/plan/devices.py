"""The devices of this machine, found without importing torch."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pynvml

from attnbench.errors import UsageError, unknown
from attnbench.plan.core_affinity import cores_near_gpus

# OpenMP's idle threads spin for up to 10 ms (GNU, measured) or 200 ms (Intel, by default) before they sleep: those of
# one worker would take a core from the next one's block. With these it is less than half a millisecond (GNU).
SHORT_SPINS = {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "1"}


@dataclass(frozen=True)
class Device:
    """A device that cells run on.

    `cpu` is the whole machine, `cpu:N` one core of it (a slot: its worker is pinned there and runs one thread),
    `cuda:N` a GPU in the order of the PCI bus. `uuid` tells two of one model apart. A team has `members`, which work
    at once; its name is theirs, joined by `+`.
    """

    name: str
    model: str
    uuid: str
    driver: str | None = None
    memory_bytes: int | None = None
    near_cores: tuple[int, ...] = ()  # cores of its own, near it
    members: tuple[Device, ...] = ()

    @classmethod
    def team(cls, members: Sequence[Device]) -> Device:
        """Join devices of one kind."""
        name, uuid = ("+".join(getattr(member, field) for member in members) for field in ("name", "uuid"))
        memory = members[0].memory_bytes
        whole = None if memory is None else memory * len(members)
        near = tuple(core for member in members for core in sorted(member.cores or ()))
        return cls(name, f"{len(members)} x {members[0].model}", uuid, members[0].driver, whole, near, tuple(members))

    @property
    def size(self) -> int:
        """How many devices it is."""
        return len(self.members) or 1

    @property
    def kind(self) -> str:
        """'cpu' or 'cuda'."""
        return self.name.partition(":")[0]

    def worker_environment(self) -> dict[str, str]:
        """Give the environment in which a worker sees this device alone."""
        if self.kind == "cuda":
            return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": self.uuid.replace("+", ",")}
        threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} if self.cores is not None else {}
        spinning = {name: value for name, value in SHORT_SPINS.items() if name not in os.environ}
        return {"CUDA_VISIBLE_DEVICES": "", **spinning, **threads}

    @property
    def core(self) -> int | None:
        """The core that a `cpu:N` slot is pinned to."""
        index = self.name.partition(":")[2]
        return sorted(os.sched_getaffinity(0))[int(index)] if self.kind == "cpu" and index.isdigit() else None

    @property
    def cores(self) -> frozenset[int] | None:
        """The cores that a worker of this device is pinned to: no other device's; None leaves it all."""
        return frozenset(self.near_cores or (() if self.core is None else (self.core,))) or None

    @property
    def torch_name(self) -> str:
        """The device as the worker's torch calls it; a worker sees its one GPU as cuda:0."""
        return "cuda:0" if self.kind == "cuda" else "cpu"


def list_devices() -> list[Device]:
    """List GPUs (NVML), then the CPU and its one-core slots."""
    return [*_gpus(), *_cpus()]


def choose_devices(names: list[str]) -> list[Device]:
    """Pick devices by name: `cuda` means every GPU; nothing means every GPU, or the CPU where there is none.

    Raises UsageError for a device that this machine has not.
    """
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
            raise UsageError(f"device {name!r} is not here: this machine has {', '.join(known)}")
        else:
            raise unknown("device", name, known)
    if "cpu" in chosen and any(name.startswith("cpu:") and "+" not in name for name in chosen):
        raise UsageError("device 'cpu' is all cores and 'cpu:N' one of them: choose either, or timings disturb another")
    return list(chosen.values())


def _gpus() -> list[Device]:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        near = cores_near_gpus(
            [_text(pynvml.nvmlDeviceGetPciInfo(handle).busId) for handle in handles], os.sched_getaffinity(0)
        )
        found = [
            Device(
                name=f"cuda:{index}",
                model=_text(pynvml.nvmlDeviceGetName(handle)),
                uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
                driver=driver,
                memory_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
                near_cores=cores,
            )
            for index, (handle, cores) in enumerate(zip(handles, near, strict=True))
        ]
    except pynvml.NVMLError:
        return []
    finally:
        pynvml.nvmlShutdown()
    return _visible(found)


def _visible(gpus: list[Device]) -> list[Device]:
    """Keep the GPUs that CUDA_VISIBLE_DEVICES lets this process see."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return gpus
    wanted = [entry.strip() for entry in allowed.split(",") if entry.strip()]
    return [gpu for gpu in gpus if any(gpu.name == f"cuda:{entry}" or gpu.uuid.startswith(entry) for entry in wanted)]


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


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
