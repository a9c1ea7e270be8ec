"""The `weights` study, which shows the effect of the causal mask on an attention map."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.study.figure import heat_maps
from attnbench.study.study import Rows, Settings, Study, compute, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SENTENCE = "the cat sat on the mat because the cat was tired"
TITLES = {"none": "no mask", "causal": "causal mask"}


def collect(settings: Settings, folder: Path) -> Rows:  # noqa: ARG001 - every study's `collect` takes a folder
    """Compute the attention weights of a sentence without a mask and with the causal mask."""
    return compute("weights", {"sentence": SENTENCE, **settings.sizes})


def draw(rows: Rows) -> Figure:
    """Draw the attention map for each mask as a heat map, with one colour scale for all maps."""
    maps = [(TITLES[row["mask"]], row["words"], row["weights"]) for row in rows]
    return heat_maps(maps, "key: the word attended to", "query: the word that attends")


def conclude(rows: Rows) -> str:
    """Return a paragraph on how much weight the mask moves from later words to earlier words."""
    by_mask = {row["mask"]: row["weights"] for row in rows}
    words, length = rows[0]["words"], len(rows[0]["words"])
    later = {mask: sum(sum(row[index + 1 :]) for index, row in enumerate(w)) / length for mask, w in by_mask.items()}
    sums = [sum(row) for weights in by_mask.values() for row in weights]
    first = {mask: sum(row[0] for row in weights) / length for mask, weights in by_mask.items()}
    return (
        f"In a sentence of {length} words ({len(set(words))} different ones, with random embeddings that are not "
        f"trained), {100 * later['none']:.1f}% of all weight lies on later words without a mask and "
        f"{100 * later['causal']:.1f}% with the causal mask. Every row still sums to 1 (from {min(sums):.6f} to "
        f"{max(sums):.6f}), so earlier words gain what later ones lose: the mean weight on the first word, "
        f"'{words[0]}', goes from {number(first['none'])} to {number(first['causal'])}, and the first word sees only "
        f"itself (weight {number(by_mask['causal'][0][0])})."
    )


STUDY = Study("weights", "What does the causal mask do to an attention map?", collect, draw, conclude)
