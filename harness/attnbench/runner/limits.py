"""What a device does at most, measured in a worker that loads no plugin."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from attnbench.errors import AttnbenchError
from attnbench.runner.process import WorkerLostError, WorkerProcess

if TYPE_CHECKING:
    from attnbench.runner.devices import Device

DEADLINE_S = 300.0


def measured_limits(device: Device, dtypes: Iterable[str], environment_id: str) -> dict[str, Any]:
    """Give `limits` by dtype (copy bandwidth, matmul rate) and `facts` of the environment.

    Raises AttnbenchError where torch does not run on the device at all: no cell could.
    """
    worker = WorkerProcess(device.worker_environment(), device.cores)
    try:
        reply = worker.request(
            "limits",
            lambda _: DEADLINE_S,
            device=device.torch_name,
            dtypes=sorted(set(dtypes)),
            environment_id=environment_id,
        )
    except WorkerLostError as lost:
        raise AttnbenchError(f"device {device.name} can't be used: {lost.reason}") from lost
    finally:
        worker.stop()
    if reply["status"] != "ready":
        raise AttnbenchError(f"device {device.name} can't be used: {reply['reason']}")
    return {"limits": reply["limits"], "facts": reply["facts"]}
