"""The peak rates of a device.

The rates are measured once for each environment, in a worker that loads no plugin, and are then cached.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from attnbench.errors import AttnbenchError
from attnbench.isolation.worker_process import WorkerLostError, WorkerProcess
from attnbench.messages import PeaksReply, PeaksRequest, failure_reason
from attnbench.stats.roofline import MachineLimits, Peaks
from attnbench.user_cache import read_cached, write_cached

if TYPE_CHECKING:
    from attnbench.plan.devices import Device

DEADLINE_S = 300.0


def measured_peaks(device: Device, dtypes: Iterable[str], environment_id: str) -> dict[str, Any]:
    """Return a dict with the peak rates of a device and with facts about its environment that only torch can report.

    The entry `limits` contains, for each dtype and for float32, the peak rates of copying (bytes/s) and matrix
    multiplication (FLOP/s). Float32 is included because variants may compute in it, whatever the dtype of their inputs
    is. The entry `facts` contains the facts. Cached rates are used only in the environment in which they were measured.
    If the cache can't be read, the rates are measured again. Raises AttnbenchError if torch can't use the device,
    because then no cell could run on it.
    """
    name = _file_name(device, environment_id)
    known = _known(name)
    wanted = sorted({*dtypes, "float32"} - known["limits"].keys())
    if not wanted:
        return known
    found = _measure(device, wanted)
    answer = {"limits": {**known["limits"], **found.peaks}, "facts": found.facts}
    write_cached(name, answer)
    return answer


def cached_peaks(device: Device, environment_id: str) -> dict[str, Peaks]:
    """Return the peak rates of a device that have been measured in its environment before, by dtype."""
    limits = _known(_file_name(device, environment_id))["limits"]
    return {dtype: Peaks.from_json(rates) for dtype, rates in limits.items()}


def cached_limits(device: Device, environment_id: str) -> MachineLimits:
    """Return the limits of a device that have been measured in its environment before."""
    size = _known(_file_name(device, environment_id))["facts"].get("cache_bytes")
    return MachineLimits(cached_peaks(device, environment_id), size if isinstance(size, int) else None)


def _file_name(device: Device, environment_id: str) -> str:
    return f"peaks-{environment_id}-{device.name.replace(':', '-')}.json"


def _measure(device: Device, dtypes: list[str]) -> PeaksReply:
    worker = WorkerProcess(device.worker_environment(), device.cores)
    try:
        reply = worker.request(PeaksRequest(device.torch_name, dtypes), lambda _: DEADLINE_S)
    except WorkerLostError as lost:
        raise AttnbenchError(f"device {device.name} can't be used: {lost.reason}") from lost
    finally:
        worker.stop()
    if isinstance(reply, PeaksReply):
        return reply
    raise AttnbenchError(f"device {device.name} can't be used: {failure_reason(reply)}")


def _known(name: str) -> dict[str, Any]:
    kept = read_cached(name)
    try:
        limits = {str(dtype): Peaks.from_json(each).to_json() for dtype, each in kept["limits"].items()}
        return {"limits": limits, "facts": dict(kept["facts"])}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {"limits": {}, "facts": {}}
