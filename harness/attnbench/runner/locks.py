"""Locks that prevent two runs from using the same device or writing to the same folder at the same time.

When a process exits, the kernel releases all locks that the process holds.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from attnbench.errors import UsageError
from attnbench.plan.devices import Device, list_devices
from attnbench.user_cache import cache_folder

POLL_S = 0.2


@contextmanager
def hold(devices: Sequence[Device]) -> Iterator[None]:
    """Hold the locks of the devices while the context is active.

    A device is locked by its UUID. Locking the device `cpu` also locks each single core. Worker processes don't inherit
    the locks, so a worker that outlives its supervisor does not block the device. Raises UsageError if another process
    holds one of the locks.
    """
    slots = [device for device in list_devices() if device.kind == "cpu" and device.name != "cpu"]
    wanted = {member.uuid: member.name for device in devices for member in device.members or (device,)}
    if any(device.name == "cpu" for device in devices):
        wanted |= {slot.uuid: slot.name for slot in slots}
    with ExitStack() as held:
        for uuid, name in sorted(wanted.items()):
            try:
                held.enter_context(_lock(uuid))
            except Timeout:
                raise UsageError(
                    f"device {name} is in use by another attnbench run: wait until it ends or choose another device"
                ) from None
        yield


@contextmanager
def hold_one(devices: Sequence[Device], wait_s: float) -> Iterator[Device]:
    """Lock the first device that is free, yield the device, and hold its lock while the context is active.

    Raises UsageError if no device becomes free within `wait_s` seconds.
    """
    deadline = time.monotonic() + wait_s
    with ExitStack() as held:
        while time.monotonic() < deadline:
            for device in devices:
                try:
                    held.enter_context(_lock(device.uuid))
                except Timeout:
                    continue
                yield device
                return
            time.sleep(POLL_S)
    names = ", ".join(device.name for device in devices)
    raise UsageError(
        f"none of the devices {names} became free within {wait_s:.0f} s: they are in use by other attnbench runs"
    )


def _lock(uuid: str) -> FileLock:
    folder = cache_folder() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{re.sub(r'[^A-Za-z0-9-]', '_', uuid)}.lock", timeout=0)


@contextmanager
def hold_run(run: Path) -> Iterator[None]:
    """Hold the lock of a run's folder while the context is active.

    Raises UsageError if another process is executing the run.
    """
    try:
        with FileLock(run / ".lock", timeout=0):
            yield
    except Timeout:
        raise UsageError(f"run {str(run)!r} is being executed by another process: wait until it ends") from None
