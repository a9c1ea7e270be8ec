"""Choose the build of torch that fits the GPU's driver: `python torch_choice.py EXTRAS [DRIVER] < constraints.txt`.

`make` runs this file before anything is installed, so it imports only the standard library. It prints arguments for
`pip install`, and one line on stderr that says what it chose and why. Without DRIVER, it asks nvidia-smi.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

# The oldest driver for each major version of CUDA, from table 1 of NVIDIA's page on minor version compatibility:
# https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
MINIMUM_DRIVER: Mapping[int, int] = MappingProxyType({11: 450, 12: 525, 13: 580})
CUDA_12, CUDA_12_INDEX = "cu126", "https://download.pytorch.org/whl/cu126"
QUERY = ("nvidia-smi", "--query-gpu=driver_version,compute_cap", "--format=csv,noheader")
# CUDA 13 can't compile for older GPUs than this compute capability, and CUDA 12.6 can't compile for Blackwell.
OLDEST_FOR_CUDA_13, BLACKWELL = (7, 5), (10, 0)


@dataclass(frozen=True)
class Choice:
    """The build of torch to install.

    - `cuda_12`: whether to install the build for CUDA 12.6 instead of the one that pip installs by default
    - `without`: extras that do not work with the build
    - `reason`: one line for the user
    """

    reason: str
    cuda_12: bool = False
    without: tuple[str, ...] = ()


def choose(smi: str | None) -> Choice:
    """Return the build of torch to install.

    `smi` is the output of QUERY, the version of a driver, or None if there is no GPU.

    By default, pip installs a build for CUDA 13, beside which xformers 0.0.35 can't be loaded, because it was built for
    CUDA 12.
    """
    rows = re.findall(r"^\s*((\d+)[\d.]*)\s*(?:,\s*(\d+)\.(\d+)\s*)?$", smi or "", re.MULTILINE)
    if not rows:
        return Choice("no NVIDIA driver was found: installing the default build of torch")
    driver, major = rows[0][0], int(rows[0][1])
    capabilities = [(int(row[2]), int(row[3])) for row in rows if row[2]] or [OLDEST_FOR_CUDA_13]
    if major < MINIMUM_DRIVER[12]:
        return Choice(
            f"driver {driver} is too old for every CUDA build of torch, which needs {MINIMUM_DRIVER[12]} or later: "
            "update it to use the GPU; installing the default build of torch"
        )
    if max(capabilities) >= BLACKWELL:
        update = "" if major >= MINIMUM_DRIVER[13] else f", which needs driver {MINIMUM_DRIVER[13]} or later: update it"
        return _cuda_13(f"driver {driver} and a Blackwell GPU: torch for CUDA 13{update}")
    if major < MINIMUM_DRIVER[13]:
        return Choice(f"driver {driver}: torch for CUDA 12.6, from {CUDA_12_INDEX}", cuda_12=True)
    if min(capabilities) < OLDEST_FOR_CUDA_13:
        old = ".".join(map(str, min(capabilities)))
        return Choice(f"compute capability {old}: torch for CUDA 12.6, from {CUDA_12_INDEX}", cuda_12=True)
    return _cuda_13(f"driver {driver}: torch for CUDA 13")


def _cuda_13(reason: str) -> Choice:
    return Choice(f"{reason}; without xformers, which was built for CUDA 12", without=("xformers",))


def pip_arguments(choice: Choice, extras: Sequence[str], constraints: str) -> list[str]:
    """Return the arguments for `pip install` in a clone. `constraints` is the text of constraints.txt."""
    chosen = ",".join(extra for extra in extras if extra not in choice.without)
    arguments = ["-e", f".[{chosen}]"]
    if choice.cuda_12:
        pinned = re.search(r"^torch==([^\s+]+)", constraints, re.MULTILINE)
        version = f"=={pinned[1]}+{CUDA_12}" if pinned else ""
        arguments += ["--extra-index-url", CUDA_12_INDEX, f"torch{version}"]
    return arguments


def query() -> str | None:
    """Return the driver and compute capability of each GPU as nvidia-smi prints them, or None if it does not work."""
    try:
        return subprocess.run(QUERY, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None


if __name__ == "__main__":
    choice = choose(sys.argv[2] if len(sys.argv) > 2 else query())
    sys.stderr.write(f"{choice.reason}\n")
    sys.stdout.write(" ".join(pip_arguments(choice, sys.argv[1].split(","), sys.stdin.read())) + "\n")
