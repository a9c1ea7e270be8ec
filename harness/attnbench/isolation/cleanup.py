"""What a worker could leave behind: processes that left its group, and temporary files."""

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

from attnbench.isolation.forkserver_main import MARK, TOKEN_LENGTH

PREFIX = "attnbench-worker-"
SWEEPS = 20  # of processes that start others while they are ended


class Remains:
    """Marks a worker's environment, which its descendants inherit, and gives it a temporary folder of its own."""

    def __init__(self) -> None:
        self._token = f"{MARK}={secrets.token_hex(TOKEN_LENGTH // 2)}".encode()
        self._folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))

    def environment(self) -> dict[str, str]:
        """Give the variables that a worker is started with; compiled kernels stay where others find them again."""
        name, _, token = self._token.decode().partition("=")
        kept = {} if "TORCHINDUCTOR_CACHE_DIR" in os.environ else {"TORCHINDUCTOR_CACHE_DIR": _inductor_cache()}
        return {name: token, "TMPDIR": str(self._folder), **kept}

    def clear(self) -> None:
        """End every process that bears the mark, wherever it has gone, and remove the temporary folder."""
        for _ in range(SWEEPS):
            found = [process for process in _processes() if self._marks(process)]
            for process in found:
                with contextlib.suppress(OSError):
                    os.kill(process, signal.SIGKILL)
            if not found:
                break
            time.sleep(0.01)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _marks(self, process: int) -> bool:
        with contextlib.suppress(OSError):
            return self._token in Path(f"/proc/{process}/environ").read_bytes()
        return False


def clear_abandoned() -> None:
    """Remove the temporary folders of supervisors that were killed before they could."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        owner = folder.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdecimal() and not Path(f"/proc/{owner}").exists() and Path("/proc/self").exists():
            shutil.rmtree(folder, ignore_errors=True)


def _processes() -> list[int]:
    with contextlib.suppress(OSError):
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208 - names alone are wanted
    return []


def _inductor_cache() -> str:
    """Give the folder that torch would choose by itself, under the user's own temporary folder."""
    return str(Path(tempfile.gettempdir()) / f"torchinductor_{getpass.getuser()}")
