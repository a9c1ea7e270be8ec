"""Locks that keep two runs from measuring on one device, or writing to one folder, at the same time.

The kernel releases a lock when the process that holds it ends.
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

LOOK_EVERY_S = 0.2


@contextmanager
def hold(devices: Sequence[Device]) -> Iterator[None]:
    """Hold the locks of devices, which are named by GPU UUID. `cpu` also holds the locks of all its single cores.

    Worker processes don't inherit the locks, so a worker that outlives its supervisor holds none. Raises UsageError if
    another process holds one of the locks.
    """
    slots = [device for device in list_devices() if device.name.startswith("cpu:")]
    wanted = {member.uuid: member.name for device in devices for member in device.members or (device,)}
    if any(device.name == "cpu" for device in devices):
        wanted |= {slot.uuid: slot.name for slot in slots}
    with ExitStack() as held:
        for uuid, name in sorted(wanted.items()):
            try:
                held.enter_context(_lock(uuid))
            except Timeout:
                raise UsageError(
                    f"device {name} is measured by another run of attnbench: wait for it, or choose another device"
                ) from None
        yield


@contextmanager
def hold_one(devices: Sequence[Device], wait_s: float) -> Iterator[Device]:
    """Hold the lock of the first free device; raises UsageError if none gets free within `wait_s` seconds."""
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
            time.sleep(LOOK_EVERY_S)
    names = ", ".join(device.name for device in devices)
    raise UsageError(f"none of {names} got free within {wait_s:.0f} s: another run of attnbench measures on them")


def _lock(uuid: str) -> FileLock:
    folder = cache_folder() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{re.sub(r'[^A-Za-z0-9-]', '_', uuid)}.lock", timeout=0)


@contextmanager
def hold_run(run: Path) -> Iterator[None]:
    """Hold the lock of a run's folder; raises UsageError if another process is executing the run."""
    try:
        with FileLock(run / ".lock", timeout=0):
            yield
    except Timeout:
        raise UsageError(f"run {str(run)!r} is being executed by another attnbench: wait until it ends") from None
