"""What each variant is held to, and which optional properties it was found to have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attnbench.plugins.variant import TRAITS
from attnbench.report.table import Table, row
from attnbench.untrusted import mapping

TITLE = "What the variants are held to, and their traits"
NOTES = (
    (
        "A tier says what is demanded: fused keeps scores in float32 and meets the strict error rule; plain stores them"
        " in the workload's dtype and is judged against a textbook implementation that does; quantised computes in"
        " 8 bits."
    ),
    "Traits are found out and not demanded, except of a variant that claims them: honest implementations differ.",
)


def standards(manifests: Iterable[dict[str, Any]]) -> Table:
    """Give each timed variant's tier and traits, on each device of each run that tells of them."""
    rows = dict.fromkeys(found for manifest in manifests for found in _rows(manifest))
    return Table(TITLE, ("variant", "device", "tier", *TRAITS), tuple(row(*one) for one in rows), NOTES, labels=3)


def _rows(manifest: dict[str, Any]) -> Iterable[tuple[str, ...]]:
    told = mapping(manifest.get("variants"))
    for device, variants in sorted(mapping(manifest.get("traits")).items()):
        for name, traits in sorted(mapping(variants).items()):
            found = [str(mapping(traits).get(trait, "not run")) for trait in TRAITS]
            yield name, device, str(mapping(told.get(name)).get("tier", "")), *found
