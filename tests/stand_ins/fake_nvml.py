"""A stand-in for pynvml, whose GPUs and answers tests choose."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class NVMLError(Exception):
    """The error that the stand-in raises."""


class NVMLError_NotFound(NVMLError):  # noqa: N801, N818 - NVML's own name
    """The error that NVML raises if it has nothing to report."""


class FakeNvml:
    """A fake pynvml with the given GPUs.

    Each GPU is a dict from the name of a query, without `nvmlDeviceGet`, to its answer. An answer that is an exception
    is raised, a function is called with the query's arguments, and an iterator returns one answer per call. A query
    without an answer raises NVMLError. `Handle` is the error of a GPU whose handle can't be had. `instances` are the
    MIG instances of a GPU: a list of such dicts, or of exceptions. `system` holds the answers of `nvmlSystemGet...`.
    """

    NVMLError, NVMLError_NotFound = NVMLError, NVMLError_NotFound
    NVML_COMPUTEMODE_DEFAULT, NVML_COMPUTEMODE_PROHIBITED, NVML_COMPUTEMODE_EXCLUSIVE_PROCESS = 0, 2, 3
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED = NVML_VOLATILE_ECC = NVML_TEMPERATURE_GPU = NVML_CLOCK_SM = 0
    NVML_FI_DEV_POWER_INSTANT, NVML_SUCCESS = 186, 0
    NVML_PERF_POLICY_POWER, NVML_PERF_POLICY_THERMAL, NVML_PERF_POLICY_SYNC_BOOST = 0, 1, 2
    NVML_PERF_POLICY_BOARD_LIMIT, NVML_PERF_POLICY_RELIABILITY = 3, 5

    def __init__(self, *gpus: dict[str, Any], **system: Any) -> None:
        self.gpus = gpus
        self.system = {"DriverVersion": "580.65.06", "CudaDriverVersion_v2": 13000, **system}

    def nvmlInit(self):  # noqa: N802 - NVML's own name
        """Do nothing, or raise the exception in `system["Init"]`."""
        if "Init" in self.system:
            raise self.system["Init"]

    def nvmlShutdown(self):  # noqa: N802 - NVML's own name
        """Do nothing."""

    def nvmlDeviceGetCount(self):  # noqa: N802 - NVML's own name
        """Return the number of GPUs, including those whose handle can't be had."""
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802 - NVML's own name
        """Return the GPU itself as its handle."""
        gpu = self.gpus[index]
        if "Handle" in gpu:
            raise gpu["Handle"]
        return gpu

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802 - NVML's own name
        """Return the GPU or MIG instance with this UUID."""
        every = [each for gpu in self.gpus for each in (gpu, *gpu.get("instances", ())) if isinstance(each, dict)]
        found = next((each for each in every if each.get("UUID") == uuid), None)
        if found is None:
            raise NVMLError("Not Found")
        return found

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, instance):  # noqa: N802 - NVML's own name
        """Return the GPU that a MIG instance is a part of."""
        parent = next((gpu for gpu in self.gpus if instance in gpu.get("instances", ())), None)
        if parent is None:
            raise NVMLError("Invalid Argument")
        return parent

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu):  # noqa: N802 - NVML's own name
        """Return the number of positions for MIG instances."""
        return len(gpu.get("instances", ()))

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu, index):  # noqa: N802 - NVML's own name
        """Return the MIG instance at a position, or raise the exception there."""
        instance = gpu["instances"][index]
        if isinstance(instance, Exception):
            raise instance
        return instance

    def __getattr__(self, name: str) -> Any:
        if name.startswith("nvmlSystemGet"):
            return lambda: self.system[name.removeprefix("nvmlSystemGet")]
        if not name.startswith("nvmlDeviceGet"):
            raise AttributeError(name)

        def ask(handle: dict[str, Any], *arguments: Any) -> Any:
            answer = handle.get(name.removeprefix("nvmlDeviceGet"), NVMLError("Not Supported"))
            if isinstance(answer, Exception):
                raise answer
            if callable(answer):
                return answer(*arguments)
            return next(answer) if hasattr(answer, "__next__") else answer

        return ask


def gpu(number: int, model: str = "H200", **answers: Any) -> dict[str, Any]:
    """Return a GPU with a UUID, a PCI address and 1 GiB of memory, and with further answers."""
    return {
        "Name": model,
        "UUID": f"GPU-{number}{number}{number}{number}",
        "MemoryInfo": SimpleNamespace(total=1 << 30),
        "PciInfo": SimpleNamespace(busId=f"00000000:{number + 1:02X}:00.0"),
        **answers,
    }


def split(number: int, *instances: Any, **answers: Any) -> dict[str, Any]:
    """Return a GPU in MIG mode with these instances."""
    return gpu(number, MigMode=(1, 1), instances=list(instances), **answers)


def instance(name: str, gib: int = 1) -> dict[str, Any]:
    """Return a MIG instance with `gib` GiB of memory, whose UUID is `MIG-` and the name."""
    return {"Name": f"H200 MIG {name}", "UUID": f"MIG-{name}", "MemoryInfo": SimpleNamespace(total=gib << 30)}
