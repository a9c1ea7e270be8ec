"""`attnbench check`: the conformance suite."""

from __future__ import annotations


def check() -> None:
    """Run the conformance suite on variants."""
