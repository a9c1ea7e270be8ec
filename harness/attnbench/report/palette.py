"""The colour, marker and dash pattern of each variant, which are the same in all charts and figures of a report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# Okabe and Ito's palette without black and yellow, followed by colours from Tol's muted palette. Colour-blind readers
# can distinguish these colours, and the contrast is sufficient on both white and dark pages.
COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#aa4499", "#999933", "#44aa99", "#cc6677",
    "#8878cc", "#8c6d46",
)  # fmt: skip
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
DASHES: tuple[tuple[int, ...], ...] = ((), (5, 2), (2, 1.5), (6, 2, 1.5, 2))  # type: ignore[assignment]


@dataclass(frozen=True)
class Style:
    """The style in which a variant is drawn.

    `dash` contains the lengths of strokes and gaps in points, and is empty for a solid line.
    """

    colour: str
    marker: str
    dash: tuple[float, ...]


def palette(variants: Iterable[str]) -> dict[str, Style]:
    """Return a style for each variant.

    Styles are assigned to the variants in alphabetical order. After twelve variants, the colours repeat with different
    dash patterns.
    """
    names = sorted(set(variants))
    return {
        name: Style(
            COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)], DASHES[index // len(COLOURS) % len(DASHES)]
        )
        for index, name in enumerate(names)
    }
