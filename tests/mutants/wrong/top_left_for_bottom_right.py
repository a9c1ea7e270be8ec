"""Causal, prefix and window masks are aligned to the top left instead of the bottom right."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Causal, prefix and window masks are aligned to the top left instead of the bottom right."""

    name = "top-left-for-bottom-right"

    def offset(self, workload):
        """Align query 0 with key 0."""
        return 0


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
