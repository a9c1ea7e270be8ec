"""The wheels that a GPU machine without a network may lack: fetch them here, and install them there."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "gpu" / "wheels"
# Images with torch usually have these large packages. `--also` fetches those that are missing.
ON_IMAGE = ("torch", "triton", "numpy", "pandas", "pyarrow", "scipy", "matplotlib")
# Libraries that run on any recent torch. xformers is not among them: its wheels are built for CUDA 12, so its extension
# can't be loaded beside a torch that is built for CUDA 13.
LIBRARIES = ("sageattention<2",)
GLIBC_MINORS = range(34, 4, -1)  # manylinux_2_34 is the newest platform to try, and manylinux_2_5 the oldest
ALIASES = ("manylinux2014", "manylinux2010", "manylinux1")  # older names of manylinux_2_17, _2_12 and _2_5


def requirements() -> list[str]:
    """Return the requirements of attnbench, as in pyproject.toml, without the packages in ON_IMAGE."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [each for each in project["dependencies"] if name_of(each) not in ON_IMAGE]


def name_of(requirement: str) -> str:
    """Return the normalised name of the package that a requirement asks for."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement, maxsplit=1)[0]).lower()


def target_options(python: str, machine: str) -> list[str]:
    """Return pip's options for wheels that run on Linux with this version of CPython and this processor."""
    platforms = (*(f"manylinux_2_{minor}" for minor in GLIBC_MINORS), *ALIASES)
    named = [f"--platform={platform}_{machine}" for platform in platforms]
    return ["--only-binary=:all:", f"--python-version={python}", "--implementation=cp", *named]


def fetch(folder: Path, python: str, machine: str, also: Sequence[str]) -> int:
    """Replace the wheels in `folder` with one of attnbench and those of the packages it needs, and return pip's status.

    The packages that the requirements need in turn are fetched too. Those of `also` are fetched alone, because most
    attention libraries need torch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.whl"):
        old.unlink()
    pip = [sys.executable, "-m", "pip"]
    download = [*pip, "download", "--quiet", f"--dest={folder}", *target_options(python, machine)]
    commands = [
        [*pip, "wheel", "--quiet", "--no-deps", f"--wheel-dir={folder}", str(ROOT)],
        [*download, *requirements()],
        *([*download, "--no-deps", each] for each in also),
    ]
    status = max(subprocess.run(command, check=False).returncode for command in commands)
    found = sorted(folder.glob("*.whl"))
    print(*(path.name for path in found), sep="\n")
    size = sum(path.stat().st_size for path in found)
    print(f"{len(found)} wheels for Python {python} on {machine}, {size >> 10} KiB")
    print(f"expected on the GPU machine: {', '.join(ON_IMAGE)}; --also fetches what it lacks")
    print("left out: xformers, whose wheels need CUDA 12 and can't be loaded beside a torch for CUDA 13")
    return status


def install(folder: Path, site: Path) -> tuple[str, ...] | None:
    """Return the command that installs all wheels of a folder into the folder `site`, or None if there are no wheels.

    pip refuses wheels that do not fit this interpreter, and names them.
    """
    found = sorted(map(str, folder.glob("*.whl")))
    options = ("--quiet", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir", f"--target={site}")
    return (sys.executable, "-m", "pip", "install", *options, *found) if found else None
