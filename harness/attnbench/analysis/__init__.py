"""Analysis of recorded runs: speed-ups, verdicts, rankings and fitted exponents.

The report formats these results. This package runs in the supervisor and imports neither torch nor plugins.
"""

from __future__ import annotations

from attnbench.analysis.results import Results, load

__all__ = ["Results", "load"]
