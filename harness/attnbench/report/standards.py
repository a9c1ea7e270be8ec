"""The table of standards: each variant's conformance tier, and the optional traits that it was found to have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attnbench.plugins.variant import TRAITS
from attnbench.report.table import Table, row
from attnbench.untrusted import mapping

TITLE = "Conformance tiers and traits"
NOTES = (
    (
        "A tier sets the requirements: fused keeps scores in float32 and meets the strict error rule; plain stores them"
        " in the workload's dtype and is judged against a textbook implementation that does; quantised computes in"
        " 8 bits."
    ),
    "Traits are measured; only a variant that claims a trait must have it, because correct implementations differ.",
)


def standards(manifests: Iterable[dict[str, Any]]) -> Table:
    """Return each timed variant's tier and traits, on each device of the runs whose manifests have them."""
    rows = dict.fromkeys(fields for manifest in manifests for fields in _rows(manifest))
    return Table(TITLE, ("variant", "device", "tier", *TRAITS), tuple(row(*fields) for fields in rows), NOTES, labels=3)


def _rows(manifest: dict[str, Any]) -> Iterable[tuple[str, ...]]:
    declared = mapping(manifest.get("variants"))
    for device, variants in sorted(mapping(manifest.get("traits")).items()):
        for name, traits in sorted(mapping(variants).items()):
            found = [str(mapping(traits).get(trait, "not run")) for trait in TRAITS]
            yield name, device, str(mapping(declared.get(name)).get("tier", "")), *found
