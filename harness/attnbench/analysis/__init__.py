"""Supervisor side: what the records of runs show (speed-ups, verdicts, rankings, fits), as data without any format."""

from __future__ import annotations

from attnbench.analysis.results import Results, load

__all__ = ["Results", "load"]
