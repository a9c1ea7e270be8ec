"""Locks that prevent two runs from using the same device or writing to the same folder at the same time.

When a process exits, the kernel releases all locks that the process holds.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, SoftFileLock, Timeout

from attnbench.errors import StorageError, UsageError, describe
from attnbench.plan.devices import Device, list_devices
from attnbench.user_cache import cache_folder, temporary_folder

POLL_S = 0.2
# A file system answers a request for a lock with one of these errors if it has no locks, like NFS without its daemon.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def hold(devices: Sequence[Device]) -> Iterator[None]:
    """Hold the locks of the devices while the context is active.

    A device is locked by its UUID. Locking the device `cpu` also locks each single core. Worker processes don't inherit
    the locks, so a worker that outlives its supervisor does not block the device. Raises UsageError if another process
    holds one of the locks, and StorageError if no folder for locks can be used.
    """
    slots = [device for device in list_devices() if device.kind == "cpu" and device.name != "cpu"]
    wanted = {member.uuid: member.name for device in devices for member in device.members or (device,)}
    if any(device.name == "cpu" for device in devices):
        wanted |= {slot.uuid: slot.name for slot in slots}
    with ExitStack() as held:
        for uuid, name in sorted(wanted.items()):
            try:
                held.enter_context(_locked(uuid, cache_folder, temporary_folder))
            except Timeout:
                raise UsageError(
                    f"device {name} is in use by another attnbench run: wait until it ends or choose another device"
                ) from None
        yield


@contextmanager
def hold_one(devices: Sequence[Device], wait_s: float) -> Iterator[Device]:
    """Lock the first device that is free, yield the device, and hold its lock while the context is active.

    Raises UsageError if no device becomes free within `wait_s` seconds, and StorageError if no folder for locks can be
    used.
    """
    deadline = time.monotonic() + wait_s
    with ExitStack() as held:
        while time.monotonic() < deadline:
            for device in devices:
                try:
                    held.enter_context(_locked(device.uuid, cache_folder, temporary_folder))
                except Timeout:
                    continue
                yield device
                return
            time.sleep(POLL_S)
    names = ", ".join(device.name for device in devices)
    raise UsageError(
        f"none of the devices {names} became free within {wait_s:.0f} s: they are in use by other attnbench runs"
    )


@contextmanager
def hold_run(run: Path) -> Iterator[None]:
    """Hold the lock of a run's folder while the context is active.

    If the file system of the folder has no locks, the lock is a file in the temporary folder of this machine, so that
    it excludes only processes of this machine. Raises UsageError if another process is executing the run, and
    StorageError if the folder can't be written, or if no folder for locks can be used.
    """
    with ExitStack() as held:
        try:
            held.enter_context(_run_lock(run))
        except Timeout:
            raise UsageError(f"run {str(run)!r} is being executed by another process: wait until it ends") from None
        except OSError as error:
            raise StorageError(f"run {str(run)!r} can't be written: {describe(error)}") from None
        yield


def _run_lock(run: Path) -> FileLock:
    try:
        return _acquired(run / ".lock")
    except OSError as error:
        if error.errno != errno.ENOLCK:
            raise
    return _locked(hashlib.sha256(os.fsencode(run.resolve())).hexdigest(), temporary_folder)


def _locked(name: str, *folders: Callable[[], Path]) -> FileLock:
    """Return a lock that has been acquired, of the file `name` in the first of the folders that can be used.

    Raises Timeout if another process holds the lock, and StorageError if none of the folders can be used.
    """
    problems = []
    for folder in folders:
        try:
            file = folder() / "locks" / f"{re.sub(r'[^A-Za-z0-9-]', '_', name)}.lock"
            file.parent.mkdir(parents=True, exist_ok=True)
            return _acquired(file)
        except Timeout:
            raise
        except OSError as error:
            problems.append(describe(error))
    raise StorageError(
        f"no folder for the locks of devices and runs can be used ({'; '.join(problems)}): set XDG_CACHE_HOME to a "
        "folder that can be written and that is on a local disk"
    )


def _acquired(file: Path) -> FileLock:
    """Return an acquired lock. Raises Timeout if another process holds it, and OSError if the file can't be locked."""
    lock = FileLock(file, timeout=0)
    without_locks = OSError(errno.ENOLCK, "the file system has no locks", str(file))
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            lock.acquire()
    except NotImplementedError as error:
        raise without_locks from error
    except Timeout:
        raise
    except OSError as error:
        raise (without_locks if error.errno in NO_LOCKS else error) from error
    if isinstance(lock, SoftFileLock):  # filelock's substitute, which would outlive a process that is killed
        lock.release()
        raise without_locks
    return lock
