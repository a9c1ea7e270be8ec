"""Masks are cached by lengths and kind of mask alone."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Masks are cached by lengths and kind of mask alone."""

    name = "cache-keyed-on-lengths"

    cache: dict = {}  # noqa: RUF012 - sharing the cache is the bug

    def visible(self, workload, inputs, rows, columns):
        """Use the mask of the first workload with the same lengths and kind of mask."""
        mask = workload.mask
        place = (workload.seq_q, workload.seq_k, mask.kind, int(rows[0]), int(columns[0]))
        if mask.kind in ("padding", "document"):
            return super().visible(workload, inputs, rows, columns)
        return self.cache.setdefault(place, super().visible(workload, inputs, rows, columns))


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
