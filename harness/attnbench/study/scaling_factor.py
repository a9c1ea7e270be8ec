"""The `scaling-factor` study, which shows the effect of dividing the scores by sqrt(head_dim)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.study.figure import Panel, derived, lines
from attnbench.study.study import Rows, Settings, Study, compute, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABELS = {True: "scores / sqrt(head_dim)", False: "unscaled scores"}


def collect(settings: Settings, folder: Path) -> Rows:  # noqa: ARG001 - every study's `collect` takes a folder
    """Compute the variance of the scores, the entropy of the weights and the gradient norm for each head_dim."""
    return compute("scaling-factor", settings.sizes)


def draw(rows: Rows) -> Figure:
    """Draw variance, entropy and gradient norm against head_dim, for scaled and unscaled scores."""
    rows = derived(rows, "label", lambda row: LABELS[row["scaled"]])  # type: ignore[arg-type, return-value]
    panels = (
        Panel("head_dim", "head_dim", "variance", "variance of the scores", "label"),
        Panel("head_dim", "head_dim", "entropy", "entropy of the weights (nats)", "label", log_y=False),
        Panel("head_dim", "head_dim", "gradient_norm", "norm of softmax's derivative", "label"),
    )
    return lines([(panel, rows) for panel in panels])


def conclude(rows: Rows) -> str:
    """Return a paragraph on how each quantity changes from the smallest to the largest head_dim."""
    ends = {}
    for scaled in (True, False):
        by_head_dim = sorted((row for row in rows if row["scaled"] is scaled), key=lambda row: row["head_dim"])
        ends[scaled] = by_head_dim[0], by_head_dim[-1]
    (first, last), (kept_first, kept_last) = ends[False], ends[True]
    uniform_entropy = last["most_entropy"]
    return (
        f"From head_dim {first['head_dim']} to {last['head_dim']}, the variance of unscaled scores goes from "
        f"{number(first['variance'])} to {number(last['variance'])}; the entropy of the weights from "
        f"{number(first['entropy'])} to {number(last['entropy'])} nats, where uniform weights would have "
        f"{number(uniform_entropy)}; and the norm of softmax's derivative from {number(first['gradient_norm'])} to "
        f"{number(last['gradient_norm'])}. Divided by sqrt(head_dim), the variance is "
        f"{number(kept_first['variance'])} and {number(kept_last['variance'])}, the entropy "
        f"{number(kept_first['entropy'])} and {number(kept_last['entropy'])} nats, and the derivative's norm "
        f"{number(kept_first['gradient_norm'])} and {number(kept_last['gradient_norm'])}."
    )


STUDY = Study("scaling-factor", "What does dividing the scores by sqrt(head_dim) do?", collect, draw, conclude)
