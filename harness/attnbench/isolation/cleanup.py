"""Remove what a worker may leave behind: temporary files, and processes outside its process group."""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import tempfile
import time
from pathlib import Path

from attnbench.errors import StorageError, describe

MARK_VARIABLE = "ATTNBENCH_WORKER"  # the environment variable that contains a worker's mark
MARK_LENGTH = 32  # in characters
FOLDER_PREFIX = "attnbench-worker-"
MAX_PASSES = 20  # at most this many passes; several are needed if the processes to kill keep starting new ones


class WorkerCleanup:
    """The mark and the temporary folder of one worker, which identify everything that the worker leaves behind.

    The mark is the random value of an environment variable that every descendant of the worker inherits. The folder is
    created together with this object; raises StorageError if it can't be created.
    """

    def __init__(self) -> None:
        self._mark = secrets.token_hex(MARK_LENGTH // 2)
        try:
            self._folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-"))
        except OSError as error:
            raise StorageError(
                f"a worker has no temporary folder ({describe(error)}): set TMPDIR to a folder that can be written"
            ) from error

    def environment(self) -> dict[str, str]:
        """Return the environment variables that must be set when the worker is started.

        The cache of torch's compiled kernels is kept outside the temporary folder, so that later workers can reuse it.
        """
        variables = {MARK_VARIABLE: self._mark, "TMPDIR": str(self._folder)}
        if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
            variables["TORCHINDUCTOR_CACHE_DIR"] = _inductor_cache()
        return variables

    def clear(self) -> None:
        """Kill every process that has this mark, even in another session, and remove the temporary folder."""
        for _ in range(MAX_PASSES):
            marked = [pid for pid in _process_ids() if self._is_marked(pid)]
            for pid in marked:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            if not marked:
                break
            time.sleep(0.01)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _is_marked(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            return f"{MARK_VARIABLE}={self._mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
        return False


def clear_abandoned() -> None:
    """Remove the temporary folders that killed supervisors have left behind."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*-*"):
        supervisor = folder.name.removeprefix(FOLDER_PREFIX).partition("-")[0]
        if supervisor.isdecimal() and not Path(f"/proc/{supervisor}").exists() and Path("/proc/self").exists():
            shutil.rmtree(folder, ignore_errors=True)


def _process_ids() -> list[int]:
    with contextlib.suppress(OSError):
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208 - only names are needed
    return []


def _inductor_cache() -> str:
    """Return torch's default cache folder for compiled kernels, which lies outside the worker's temporary folder.

    A user without an entry in the system's list of users, as in some containers, has no name but a number.
    """
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # an OSError from Python 3.13 on
        user = f"uid_{os.getuid()}"
    return str(Path(tempfile.gettempdir()) / f"torchinductor_{user}")
