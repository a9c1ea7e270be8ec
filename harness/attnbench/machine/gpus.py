"""The NVIDIA GPUs and MIG instances of this machine, as NVML lists them and as CUDA numbers them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pynvml

from attnbench.machine.finding import Problem

VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Gpu:
    """A GPU, or a MIG instance, which is a part of a GPU that CUDA treats as a device of its own.

    - `index`: NVML's number of the GPU; GPUs are numbered in the order of their PCI addresses
    - `exclusive`: whether only one process at a time may use the GPU (compute mode EXCLUSIVE_PROCESS)
    - `parent`: the UUID of the GPU that a MIG instance is a part of; None for a GPU
    """

    index: int
    uuid: str
    model: str
    memory_bytes: int
    bus_id: str
    exclusive: bool = False
    parent: str | None = None


@dataclass(frozen=True)
class GpuList:
    """All that NVML says about this machine's GPUs.

    - `unusable`: why a GPU can't be used, by NVML's number of the GPU: a Problem, or NVML's own text
    - `driver`: the version of the driver, such as `575.57.08`
    - `driver_cuda`: the newest version of CUDA that the installed libcuda supports, as (major, minor)
    - `problem`: why NVML itself can't be used
    """

    gpus: tuple[Gpu, ...] = ()
    unusable: tuple[tuple[int, Problem | str], ...] = ()
    driver: str | None = None
    driver_cuda: tuple[int, int] | None = None
    problem: str | None = None

    @property
    def visible(self) -> list[Gpu]:
        """The usable GPUs that CUDA_VISIBLE_DEVICES allows this process to use, in CUDA's order."""
        return visible(self.gpus, os.environ.get(VISIBLE))


def list_gpus(nvml: Any = None) -> GpuList:
    """Return the GPUs of this machine. `nvml` is the pynvml module unless a test replaces it.

    Each GPU is queried separately, because NVML also counts GPUs that this process may not use: in a Slurm job, for
    example, the GPUs of other jobs.
    """
    nvml = pynvml if nvml is None else nvml
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return GpuList(problem=f"NVML can't be used: {error}")
    try:
        driver, count = text(nvml.nvmlSystemGetDriverVersion()), nvml.nvmlDeviceGetCount()
        gpus: list[Gpu] = []
        unusable: list[tuple[int, Problem | str]] = []
        for index in range(count):
            try:
                gpus += _parts(nvml, nvml.nvmlDeviceGetHandleByIndex(index), index)
            except _UnusableError as error:
                unusable.append((index, error.problem))
            except nvml.NVMLError as error:
                unusable.append((index, str(error)))
        return GpuList(tuple(gpus), tuple(unusable), driver, _driver_cuda(nvml))
    except nvml.NVMLError as error:
        return GpuList(problem=f"NVML can't list the GPUs: {error}")
    finally:
        nvml.nvmlShutdown()


class _UnusableError(Exception):
    """A GPU can't be used because of `problem`."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.problem = Problem(reason, remedy)


def _driver_cuda(nvml: Any) -> tuple[int, int] | None:
    """Return the version of CUDA that libcuda supports, which a compatibility package may raise above the driver's."""
    try:
        version = nvml.nvmlSystemGetCudaDriverVersion_v2()
    except nvml.NVMLError:
        return None
    return version // 1000, version % 1000 // 10


def _parts(nvml: Any, handle: Any, index: int) -> Iterator[Gpu]:
    """Yield the GPU, or its MIG instances if it is split. Raises an error with the reason if it can't be used."""
    mode = compute_mode(nvml, handle)
    if mode == nvml.NVML_COMPUTEMODE_PROHIBITED:
        raise _UnusableError("its compute mode is PROHIBITED", f"sudo nvidia-smi -i {index} -c DEFAULT")
    uuid, bus_id = text(nvml.nvmlDeviceGetUUID(handle)), text(nvml.nvmlDeviceGetPciInfo(handle).busId)
    if not mig_enabled(nvml, handle):
        memory = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
        exclusive = mode == nvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS
        yield Gpu(index, uuid, text(nvml.nvmlDeviceGetName(handle)), memory, bus_id, exclusive)
        return
    instances = list(_instances(nvml, handle))
    if not instances:
        raise _UnusableError(
            "it is in MIG mode and has no instance that this process may use",
            f"create one with sudo nvidia-smi mig -i {index} -cgi PROFILE -C, or run sudo nvidia-smi -i {index} -mig 0",
        )
    for instance in instances:
        memory = int(nvml.nvmlDeviceGetMemoryInfo(instance).total)
        model = text(nvml.nvmlDeviceGetName(instance))
        yield Gpu(index, text(nvml.nvmlDeviceGetUUID(instance)), model, memory, bus_id, parent=uuid)


def _instances(nvml: Any, handle: Any) -> Iterator[Any]:
    for position in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            yield nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, position)
        except nvml.NVMLError:  # there is no instance at this position, or it belongs to someone else
            continue


def compute_mode(nvml: Any, handle: Any) -> int:
    """Return the compute mode of a GPU. It is DEFAULT if NVML does not report it."""
    try:
        return int(nvml.nvmlDeviceGetComputeMode(handle))
    except nvml.NVMLError:
        return int(nvml.NVML_COMPUTEMODE_DEFAULT)


def mig_enabled(nvml: Any, handle: Any) -> bool:
    """Return whether a GPU is split into MIG instances. A GPU that does not support MIG is not split."""
    try:
        return bool(nvml.nvmlDeviceGetMigMode(handle)[0])
    except nvml.NVMLError:
        return False


def visible(gpus: Sequence[Gpu], wanted: str | None) -> list[Gpu]:
    """Return the devices that remain if CUDA_VISIBLE_DEVICES is `wanted`, in the order in which CUDA numbers them.

    `wanted` is a list of indices, or a list of beginnings of UUIDs, each of which must fit only one device. The list
    ends at its first invalid entry, and a repeated entry makes it empty (see CUDA_VISIBLE_DEVICES in the CUDA
    programming guide, and `_parse_visible_devices` in torch.cuda). An index counts the GPUs that this process may use,
    in the order of their PCI addresses. For a GPU that is split by MIG, CUDA takes its first instance.
    """
    if wanted is None:
        return list(gpus)
    entries = [entry.strip() for entry in wanted.split(",")]
    prefix = next((start for start in ("GPU-", "MIG-") if wanted.strip().startswith(start)), None)
    chosen: list[Gpu] = []
    for entry in entries:
        found = _at(gpus, entry) if prefix is None else _beginning(gpus, entry, prefix)
        if found is None:
            break
        if found in chosen:
            return []
        chosen.append(found)
    return chosen


def _at(gpus: Sequence[Gpu], entry: str) -> Gpu | None:
    """Return the device at an index. As in C's strtol, text after the number is ignored."""
    number = re.match(r"\+?\d+", entry)
    first: dict[int, Gpu] = {}
    for gpu in gpus:
        first.setdefault(gpu.index, gpu)
    return list(first.values())[int(number[0])] if number and int(number[0]) < len(first) else None


def _beginning(gpus: Sequence[Gpu], entry: str, prefix: str) -> Gpu | None:
    """Return the device whose UUID begins with `entry`, or None if there is no such device or more than one."""
    fitting: dict[str, Gpu] = {}
    for gpu in gpus:
        uuid = gpu.uuid if prefix == "MIG-" else gpu.parent or gpu.uuid
        if entry.startswith(prefix) and uuid.startswith(entry):
            fitting.setdefault(uuid, gpu)
    return next(iter(fitting.values())) if len(fitting) == 1 else None


def text(value: str | bytes) -> str:
    """Return NVML's text, which some versions of pynvml return as bytes."""
    return value.decode() if isinstance(value, bytes) else value
