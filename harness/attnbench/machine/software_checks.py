"""Checks whether driver, torch, Triton and the libraries of variants fit together, without importing them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from attnbench.machine.finding import Finding, Problem, finding_of
from attnbench.machine.gpu_support import TorchBuild, gpu_problem, installed_torch
from attnbench.machine.triton_compiler import compiler_problem

if TYPE_CHECKING:
    from attnbench.machine.gpus import GpuList

LOADER = "attnbench.worker.extensions"  # loads a library in a process of its own, because it imports torch
LOADING_TIMEOUT_S = 120
# For each library whose compiled part may not fit torch: what would help.
REMEDIES: Mapping[str, str] = MappingProxyType(
    {
        "xformers": (
            "install a torch for the CUDA that xformers was built for, or pip uninstall xformers (docs/faq.md, "
            "'Which version of torch do I need?')"
        ),
        "flash_attn": (
            "build it again for this torch: pip install --force-reinstall --no-deps --no-build-isolation "
            "--no-cache-dir flash-attn"
        ),
        "triton": "install the version that torch requires (pip check names it)",
    }
)


def software(root: Path, listed: GpuList, *, load_extensions: bool) -> list[Finding]:
    """Return the findings on the software that GPUs need. On a machine without GPUs, there are none.

    `root` is the folder that contains `dev`. With `load_extensions`, the compiled part of each library in REMEDIES that
    is installed is loaded, each in a separate process.
    """
    problem, torch = gpu_problem(root, listed), installed_torch()
    if problem is None and not listed.visible:
        return []
    fitting = f"driver {listed.driver}, and {_described(torch)}"
    findings = [finding_of("gpu software", problem, fitting)]
    findings.append(finding_of("compiler", compiler_problem(), "Triton finds a C compiler and Python.h"))
    if load_extensions and problem is None:
        libraries = [name for name in REMEDIES if find_spec(name) is not None]
        with ThreadPoolExecutor() as pool:
            errors = pool.map(loading_error, libraries)
        for name, error in zip(libraries, errors, strict=True):
            unloadable = (
                None if error is None else Problem(f"its compiled part can't be loaded: {error}", REMEDIES[name])
            )
            findings.append(finding_of(name, unloadable, "its compiled part can be loaded"))
    return findings


def _described(torch: TorchBuild | None) -> str:
    return "torch is not installed" if torch is None else f"torch {torch.version} is built for CUDA {torch.cuda}"


def loading_error(library: str) -> str | None:
    """Load the compiled part of a library in a new process. Return the error, or None if it could be loaded."""
    command = [sys.executable, "-m", LOADER, library]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LOADING_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"no answer within {LOADING_TIMEOUT_S} s"
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f"the process was ended by signal {-done.returncode}"
    return (done.stderr.strip().splitlines() or ["no message"])[-1]
