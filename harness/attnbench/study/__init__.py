"""Studies of common claims about attention, on the supervisor's side: each writes rows, a figure and a finding."""

from __future__ import annotations

from importlib import import_module

from attnbench.errors import unknown
from attnbench.study.study import Rows, Settings, Study, StudyResult, make

MODULES = {
    "parallelism": "parallelism",
    "memory": "memory",
    "scaling-factor": "scaling_factor",
    "context": "context",
    "bidirectional": "bidirectional",
    "gpus": "gpus",
    "heads": "heads",
    "weights": "weights",
    "steps": "steps",
}

__all__ = ["MODULES", "Rows", "Settings", "Study", "StudyResult", "find_study", "make"]


def find_study(name: str) -> Study:
    """Return a study by its name; raises UsageError, with the nearest name, if there is no such study."""
    if name not in MODULES:
        raise unknown("study", name, MODULES)
    study: Study = import_module(f"attnbench.study.{MODULES[name]}").STUDY
    return study
