"""From records to what they say: frames, speed-ups with intervals, rankings, fits and frontiers."""

from __future__ import annotations

from attnbench.analysis.load_runs import load

__all__ = ["load"]
