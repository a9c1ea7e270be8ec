"""Speed-ups, verdicts, rankings and fits, computed from the records of runs. This package runs in the supervisor."""

from __future__ import annotations

from attnbench.analysis.results import Results, load

__all__ = ["Results", "load"]
