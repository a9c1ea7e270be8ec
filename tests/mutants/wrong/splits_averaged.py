"""With few queries and many keys, the outputs for the two halves of the keys are averaged with equal weight."""

from __future__ import annotations

from dataclasses import replace

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """With few queries and many keys, the outputs for the two halves of the keys are averaged with equal weight."""

    name = "splits-averaged"

    def attend(self, workload, inputs, query, key, value):
        """Average the outputs for the two halves of the keys without weighting them by their log-sum-exps."""
        whole = super().attend(workload, inputs, query, key, value)
        if workload.seq_q > 16 or workload.seq_k < 512 or workload.mask.kind != "none":
            return whole
        half = workload.seq_k // 2
        shorter = replace(workload, seq_k=half)
        first = super().attend(shorter, inputs, query, key[:, :, :half], value[:, :, :half])
        shorter = replace(workload, seq_k=workload.seq_k - half)
        second = super().attend(shorter, inputs, query, key[:, :, half:], value[:, :, half:])
        return (first[0] + second[0]) / 2, whole[1]


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
