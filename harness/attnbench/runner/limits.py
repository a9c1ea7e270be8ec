"""What a device does at most: measured once an environment, in a worker that loads no plugin, and kept."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.cache import cache_folder
from attnbench.errors import AttnbenchError
from attnbench.measure.roofline import Limits
from attnbench.runner.process import WorkerLostError, WorkerProcess

if TYPE_CHECKING:
    from attnbench.runner.devices import Device

DEADLINE_S = 300.0


def measured_limits(device: Device, dtypes: Iterable[str], environment_id: str) -> dict[str, Any]:
    """Give `limits` by dtype (copy bandwidth, matmul rate) and `facts` of the environment.

    `environment_id` names device, driver and versions: what was measured under another is not used. A cache that can't
    be read or written costs the time of measuring again, no more. Raises AttnbenchError where torch does not run on the
    device at all: no cell could.
    """
    path = cache_folder() / f"limits-{environment_id}-{device.name.replace(':', '-')}.json"
    known = _read(path)
    wanted = sorted(set(dtypes) - known["limits"].keys())
    if not wanted:
        return known
    found = _measure(device, wanted)
    answer = {"limits": {**known["limits"], **found["limits"]}, "facts": found["facts"]}
    _write(path, answer)
    return answer


def _measure(device: Device, dtypes: list[str]) -> dict[str, Any]:
    worker = WorkerProcess(device.worker_environment(), device.cores)
    try:
        reply = worker.request("limits", lambda _: DEADLINE_S, device=device.torch_name, dtypes=dtypes)
    except WorkerLostError as lost:
        raise AttnbenchError(f"device {device.name} can't be used: {lost.reason}") from lost
    finally:
        worker.stop()
    if reply["status"] != "ready":
        raise AttnbenchError(f"device {device.name} can't be used: {reply['reason']}")
    return reply


def _read(path: Path) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        limits = {str(dtype): Limits.from_json(each).to_json() for dtype, each in kept["limits"].items()}
        return {"limits": limits, "facts": dict(kept["facts"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {"limits": {}, "facts": {}}


def _write(path: Path, answer: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            json.dump(answer, file)
        Path(file.name).replace(path)
    except OSError:
        pass
