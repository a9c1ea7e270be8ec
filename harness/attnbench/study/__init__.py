"""Studies of common claims about attention. Each study writes its measured rows, a figure and a finding.

This package runs in the supervisor, so it imports neither torch nor a plugin.
"""

from __future__ import annotations

from importlib import import_module

from attnbench.errors import unknown
from attnbench.study.study import Rows, Settings, Study, StudyResult, make

MODULES = {  # the module of each study, by name
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
    """Return the study with this name. Raises UsageError, which suggests the nearest name, if there is none."""
    if name not in MODULES:
        raise unknown("study", name, MODULES)
    study: Study = import_module(f"attnbench.study.{MODULES[name]}").STUDY
    return study
