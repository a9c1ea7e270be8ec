"""The document ids of the first sequence are used for all sequences."""

from __future__ import annotations

from tiled import Tiled

from attnbench import hookimpl


class Mutant(Tiled):
    """The document ids of the first sequence are used for all sequences."""

    name = "documents-of-first-sequence"

    def visible(self, workload, inputs, rows, columns):
        """Use the document ids of the first sequence for all sequences."""
        if workload.mask.kind != "document":
            return super().visible(workload, inputs, rows, columns)
        documents = inputs.document_ids[:1]
        return (documents[:, rows][:, :, None] == documents[:, columns][:, None, :])[:, None]


@hookimpl
def attnbench_variants():
    """Return the mutant."""
    return [Mutant()]
