"""All sequences use the documents of the first sequence."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """All sequences use the documents of the first sequence."""

    name = "documents-of-first-sequence"

    def visible(self, workload, inputs, rows, columns):
        """Use the documents of the first sequence for all sequences."""
        if workload.mask.kind != "document":
            return super().visible(workload, inputs, rows, columns)
        documents = inputs.document_ids[:1]
        return (documents[:, rows][:, :, None] == documents[:, columns][:, None, :])[:, None]


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
