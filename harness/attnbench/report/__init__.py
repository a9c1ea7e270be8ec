"""Tables, figures and pages: pure functions of a frame."""

from __future__ import annotations

from attnbench.report.exporting import FORMATS, export
from attnbench.report.tables import headline
from attnbench.report.write import write_report

__all__ = ["FORMATS", "export", "headline", "write_report"]
