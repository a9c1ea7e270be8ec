"""Reports on runs, as tables, figures and pages. This package runs in the supervisor."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnbench.report.exporting import FORMATS, export
    from attnbench.report.tables import headline
    from attnbench.report.write import write_report

__all__ = ["FORMATS", "export", "headline", "write_report"]

_MODULES = {  # imported on first use, so that the process that draws figures does not load pandas
    "FORMATS": "attnbench.report.exporting",
    "export": "attnbench.report.exporting",
    "headline": "attnbench.report.tables",
    "write_report": "attnbench.report.write",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'attnbench.report' has no attribute {name!r}: it has {', '.join(__all__)}")
