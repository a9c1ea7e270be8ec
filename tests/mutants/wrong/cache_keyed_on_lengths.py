"""Masks are cached by kind and sequence lengths, ignoring window and prefix sizes."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Masks are cached by kind and sequence lengths, ignoring window and prefix sizes."""

    name = "cache-keyed-on-lengths"

    cache: dict = {}  # noqa: RUF012 - sharing the cache is the bug

    def visible(self, workload, inputs, rows, columns):
        """Reuse the mask of the first workload with the same mask kind and sequence lengths."""
        mask = workload.mask
        place = (workload.seq_q, workload.seq_k, mask.kind, int(rows[0]), int(columns[0]))
        if mask.kind in ("padding", "document"):
            return super().visible(workload, inputs, rows, columns)
        return self.cache.setdefault(place, super().visible(workload, inputs, rows, columns))


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
