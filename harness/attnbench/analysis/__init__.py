"""Analysis of the records of runs: speed-ups, verdicts, rankings and fits, as data for the report to format.

This package runs in the supervisor, so it imports neither torch nor a plugin.
"""

from __future__ import annotations

from attnbench.analysis.results import Results, load

__all__ = ["Results", "load"]
