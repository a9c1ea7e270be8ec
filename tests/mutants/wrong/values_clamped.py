"""For float16 and bfloat16 inputs, the values are clamped to ±448."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """For float16 and bfloat16 inputs, the values are clamped to ±448."""

    name = "values-clamped"

    def attend(self, workload, inputs, query, key, value):
        """Clamp the values to ±448 if the inputs are float16 or bfloat16."""
        clamped = value if workload.dtype == "float32" else value.clamp(-448, 448)
        return super().attend(workload, inputs, query, key, clamped)


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
