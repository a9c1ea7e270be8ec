"""The properties of this machine and of its software that could change a measurement."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnbench.plan.devices import Device

CORE_PACKAGES = ("attnbench", "torch", "triton", "numpy")


def environment_of(device: Device, packages: Iterable[str]) -> dict[str, Any]:
    """Return a description of a device's environment. Its `environment_id` is a hash of all other entries.

    `packages` are the distributions that variants declare (`Catalog.packages`). The description contains the installed
    versions of these distributions and of CORE_PACKAGES.
    """
    facts = {
        "device_name": device.model,
        "device_memory_bytes": device.memory_bytes,
        "driver": device.driver,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "packages": package_versions((*CORE_PACKAGES, *packages)),
    }
    return {"environment_id": short_hash(facts), **facts}


def package_versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the installed version of each distribution by name. Distributions that are not installed are left out."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine_facts() -> dict[str, Any]:
    """Return facts that do not affect measurements but help to interpret them: host, command and git state."""
    return {"host": platform.node(), "command": [Path(sys.argv[0]).name, *sys.argv[1:]], "git": git_state()}


def git_state() -> dict[str, Any] | None:
    """Return the current commit and whether there are uncommitted changes, or None outside a git repository."""
    try:
        commit = _git("rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def short_hash(value: Mapping[str, Any]) -> str:
    """Return a hash of a JSON object as 16 hexadecimal digits. The order of the object's keys does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=5, check=True)  # noqa: S607 - runs the git on the user's PATH
    return done.stdout.strip()
