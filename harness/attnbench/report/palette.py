"""One colour, marker and dash a variant, the same in every figure of a report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# Okabe and Ito's palette without black and yellow, then Tol's muted one: told apart by colour-blind readers, and
# with contrast enough on white and on dark paper.
COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#aa4499", "#999933", "#44aa99", "#cc6677",
    "#8878cc", "#8c6d46",
)  # fmt: skip
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
DASHES: tuple[tuple[int, ...], ...] = ((), (5, 2), (2, 1.5), (6, 2, 1.5, 2))  # type: ignore[assignment]


@dataclass(frozen=True)
class Style:
    """How a variant is drawn; `dash` is an on-off pattern in points, empty for a full line."""

    colour: str
    marker: str
    dash: tuple[float, ...]


def palette(variants: Iterable[str]) -> dict[str, Style]:
    """Give each variant a style by its place in the alphabet; past twelve, colours return with other dashes."""
    names = sorted(set(variants))
    return {
        name: Style(
            COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)], DASHES[index // len(COLOURS) % len(DASHES)]
        )
        for index, name in enumerate(names)
    }
