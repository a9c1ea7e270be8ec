"""What of this machine and its software could change a number."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnbench.plan.devices import Device

PACKAGES = (
    "attnbench", "torch", "triton", "xformers", "numpy", "flash-attn", "flash-attn-3", "flash-attn-4",
    "flashinfer-python", "sageattention", "transformer-engine",
)  # fmt: skip


def environment_of(device: Device) -> dict[str, Any]:
    """Describe the environment of one device; `environment_id` hashes the rest."""
    facts = {
        "device_name": device.model,
        "device_memory_bytes": device.memory_bytes,
        "driver": device.driver,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "packages": package_versions(),
    }
    return {"environment_id": short_hash(facts), **facts}


def package_versions() -> dict[str, str]:
    """Give the versions of the installed packages that make numbers."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine_facts() -> dict[str, Any]:
    """Say what is for people and changes no number: host, git state, command."""
    return {"host": platform.node(), "command": [Path(sys.argv[0]).name, *sys.argv[1:]], "git": git_state()}


def git_state() -> dict[str, Any] | None:
    """Give the commit of the working folder and whether it has changes; None outside a repository."""
    try:
        commit = _git("rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def short_hash(value: Mapping[str, Any]) -> str:
    """Hash a JSON value to 16 hexadecimal digits, the order of keys left aside."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=5, check=True)  # noqa: S607 - the user's own git
    return done.stdout.strip()
