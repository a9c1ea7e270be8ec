"""Keys are read with the key strides from the workload's first `prepare` call."""

from __future__ import annotations

from dataclasses import replace

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """Keys are read with the key strides from the workload's first `prepare` call."""

    name = "strides-of-first-call"

    known: dict = {}  # noqa: RUF012 - sharing the strides is the bug

    def prepare(self, workload, inputs):
        """Store the key strides in the first call for a workload, and use them in all later calls for it."""
        stride = self.known.setdefault(workload, inputs.key.stride())
        if inputs.key.stride() == stride or not inputs.key.numel():
            return super().prepare(workload, inputs)
        reach = sum((size - 1) * step for size, step in zip(inputs.key.shape, stride, strict=True))
        reach += inputs.key.storage_offset()
        if reach >= inputs.key.untyped_storage().nbytes() // inputs.key.element_size():
            return super().prepare(workload, inputs)
        return super().prepare(workload, replace(inputs, key=inputs.key.as_strided(inputs.key.shape, stride)))


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
