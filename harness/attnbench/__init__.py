"""attnbench: measure implementations of attention, correct first, then timed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from attnbench.mask import Mask
from attnbench.variant import Variant, variant
from attnbench.workload import Workload

if TYPE_CHECKING:
    from attnbench.analysis import load
    from attnbench.dispatch import attention, best
    from attnbench.hookspecs import hookimpl
    from attnbench.inputs import Inputs
    from attnbench.interactive import Run, run

__version__ = "0.1.0"
__all__ = [
    "Inputs", "Mask", "Run", "Variant", "Workload", "attention", "best", "hookimpl", "load", "run", "variant",
]  # fmt: skip

_LATE = {  # these need torch, pandas or pluggy, and --help is to answer at once
    "Inputs": "attnbench.inputs",
    "Run": "attnbench.interactive",
    "attention": "attnbench.dispatch",
    "best": "attnbench.dispatch",
    "hookimpl": "attnbench.hookspecs",
    "load": "attnbench.analysis",
    "run": "attnbench.interactive",
}


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(import_module(_LATE[name]), name)
    raise AttributeError(f"module 'attnbench' has no attribute {name!r}: it has {', '.join(__all__)}")
