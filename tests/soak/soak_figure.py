"""Draw the memory, descriptors and threads of a run's processes over time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

if TYPE_CHECKING:
    from process_samples import ProcessSample

COLOURS = {"supervisor": "#2166ac", "fork server": "#1b7837", "worker": "#b35806", "other": "#999999"}
PANELS = {
    "unshared memory (MiB)": lambda sample: sample.uss / 2**20,
    "open descriptors": lambda sample: sample.descriptors,
    "threads": lambda sample: sample.threads,
}
STYLE = {"font.size": 9, "svg.hashsalt": "attnbench", "axes.spines.top": False, "axes.spines.right": False}


def draw(samples: Sequence[ProcessSample], title: str, path: Path) -> None:
    """Write an SVG file with one line for each process and one panel for each quantity."""
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(len(PANELS), 1, figsize=(8, 7), sharex=True)
        ordered = sorted(samples, key=lambda sample: (sample.role == "supervisor", sample.pid, sample.seconds))
        for _, grouped in groupby(ordered, key=lambda sample: sample.pid):
            process = list(grouped)
            minutes = [sample.seconds / 60 for sample in process]
            for panel, (label, value) in zip(panels, PANELS.items(), strict=True):
                panel.plot(minutes, list(map(value, process)), color=COLOURS[process[0].role], linewidth=0.8)
                panel.set_ylabel(label)
        for panel in panels:
            panel.set_ylim(bottom=0)
        roles = sorted({sample.role for sample in samples}, key=list(COLOURS).index)
        panels[0].legend([plt.Line2D([], [], color=COLOURS[role]) for role in roles], roles, frameon=False)
        panels[-1].set_xlabel("minutes")
        panels[0].set_title(title)
        figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
        plt.close(figure)
