"""Studies of common claims about attention, each with a figure and a finding. This package runs in the supervisor."""

from __future__ import annotations

from importlib import import_module

from attnbench.errors import unknown
from attnbench.study.study import Rows, Settings, Study, StudyResult, make

MODULES = {  # maps the name of each study to its module
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
    """Return the study with this name.

    Raises UsageError if there is no such study. The error message suggests the closest name.
    """
    if name not in MODULES:
        raise unknown("study", name, MODULES)
    study: Study = import_module(f"attnbench.study.{MODULES[name]}").STUDY
    return study
