"""Whether Triton can compile the C module with which it launches kernels."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from attnbench.machine.finding import Problem


def triton_compiler_problem() -> str | None:
    """Return what Triton lacks to launch kernels on a GPU, and the remedy, or None if it lacks nothing."""
    problem = compiler_problem()
    return None if problem is None else str(problem)


def compiler_problem() -> Problem | None:
    """Return what Triton lacks, as `triton_compiler_problem` does, with the remedy apart.

    Triton compiles a C module on each machine. It calls the compiler in the environment variable CC or, if it is not
    set, gcc or clang, and needs Python.h (see `_build` in triton/runtime/build.py). The interpreter needs no compiler.
    """
    if os.environ.get("TRITON_INTERPRET") == "1":
        return None
    compiler = os.environ.get("CC")
    if compiler is not None and shutil.which(compiler) is None:
        return Problem(
            f"Triton needs a C compiler, and CC={compiler!r} is not a program", "unset CC or set it to a compiler"
        )
    if compiler is None and not (shutil.which("gcc") or shutil.which("clang")):
        return Problem(
            "Triton needs a C compiler, and there is neither gcc nor clang",
            "apt install gcc, dnf install gcc, or set CC",
        )
    folders = header_folders()
    if any((folder / "Python.h").is_file() for folder in folders):
        return None
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return Problem(
        f"Triton needs Python.h, which is not in {folders[0]}",
        f"apt install {name}-dev, or dnf install {name}-devel (python3-devel for the system's own Python)",
    )


def header_folders() -> list[Path]:
    """Return the folders in which a compiler looks for Python.h: Triton's own, and those in environment variables."""
    scheme = sysconfig.get_default_scheme()
    own = sysconfig.get_paths("posix_prefix" if scheme == "posix_local" else scheme)["include"]  # as in Triton
    others = [os.environ.get(name, "") for name in ("CPATH", "C_INCLUDE_PATH")]
    return [Path(own), *(Path(folder) for value in others for folder in value.split(os.pathsep) if folder)]
