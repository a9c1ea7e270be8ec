"""attnbench: check implementations of attention for correctness, and then measure how fast they are."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from attnbench.plugins.variant import Variant, variant
from attnbench.workloads.mask import Mask
from attnbench.workloads.workload import Workload

if TYPE_CHECKING:
    from attnbench.analysis import load
    from attnbench.api import Run, run
    from attnbench.dispatch import attention, best
    from attnbench.hookspecs import hookimpl
    from attnbench.tensors.inputs import Inputs

__version__ = "0.1.0"
__all__ = [
    "Inputs", "Mask", "Run", "Variant", "Workload", "attention", "best", "hookimpl", "load", "run", "variant",
]  # fmt: skip

_LAZY = {  # imported on first use, so that --help does not have to import torch, pandas or pluggy
    "Inputs": "attnbench.tensors.inputs",
    "Run": "attnbench.api",
    "attention": "attnbench.dispatch",
    "best": "attnbench.dispatch",
    "hookimpl": "attnbench.hookspecs",
    "load": "attnbench.analysis",
    "run": "attnbench.api",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'attnbench' has no attribute {name!r}: it has {', '.join(__all__)}")
