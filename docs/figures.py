"""Draw the documentation's figures from values that the code computes."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import grimp
import matplotlib as mpl
import networkx as nx

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from attnbench import Workload
from attnbench.study import Settings, find_study
from attnbench.study.steps import draw as draw_steps

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
PARTS = {  # additional figures for the `steps` study; each value lists the steps that the figure shows
    "embeddings": ("embeddings",), "query_key_value": ("query", "key", "value"), "scores": ("scores", "scaled"),
    "softmax": ("weights",), "output": ("weights", "value", "output"), "heads": ("heads",),
}  # fmt: skip
STYLE = {
    "font.size": 9,
    "svg.hashsalt": "attnbench",  # makes SVG files reproducible
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
}
TORCH_FREE, WITH_TORCH = ("#e8f0fa", "#2166ac"), ("#fdeadb", "#b35806")  # fill and border colours of the boxes
COLUMNS = (-3.4, 0.9, 3.8)  # the x positions of the supervisor, shared and worker columns
MASKS = (
    ("none", 8, 8), ("causal", 8, 8), ("window:2:0", 8, 8), ("window:2:1", 8, 8),
    ("prefix:3", 8, 8), ("document", 16, 16), ("causal", 4, 8), ("causal-top-left", 4, 8),
)  # fmt: skip


def studies(folder: Path) -> None:
    """Write the figures and findings of the studies that need no timings."""
    for name in ("steps", "scaling-factor", "weights"):
        study = find_study(name)
        rows = study.collect(Settings(), folder)
        _save(study.draw(rows), folder / f"{name}.svg")
        (folder / f"{name}.md").write_text(study.conclude(rows) + "\n", encoding="utf-8")
        if name == "steps":
            for step, parts in PARTS.items():
                _save(draw_steps(rows, parts), folder / f"{step}.svg")


def masks(path: Path) -> None:
    """Draw which keys are visible to each query under each mask, according to `Workload.visible_keys`."""
    with plt.rc_context(STYLE):
        figure, rows = plt.subplots(2, 4, figsize=(10, 5.2))
        for axes, (mask, seq_q, seq_k) in zip(rows.flat, MASKS, strict=True):
            workload = Workload(heads=1, seq_q=seq_q, seq_k=seq_k, head_dim=1, mask=mask)
            visible = np.zeros((seq_q, seq_k))
            for row, keys in enumerate(workload.visible_keys()):
                visible[row, keys.start : keys.stop] = 1
            axes.pcolormesh(visible, cmap="Blues", vmin=0, vmax=1.4, edgecolors="white", linewidth=1.5)
            axes.invert_yaxis()
            axes.set_aspect("equal")
            axes.set_title(f"{mask}\n{workload.visible_pairs} of {seq_q * seq_k} pairs", fontsize=9)
            axes.set(xticks=[], yticks=[], xlabel="key", ylabel="query")
        figure.tight_layout()
        _save(figure, path)


def layers(path: Path) -> None:
    """Draw the package's parts in three columns, and the imports between them as arrows that point down.

    Parts that may import torch are in the worker's column. Torch-free parts that `worker` imports are in the column for
    both sides, and all other parts are in the supervisor's column. To keep the figure readable, an import is left out
    if a chain of other imports implies it.
    """
    layers, torch_free = _contracts()
    imports = _imports([name for layer in layers for name in layer])
    place = _places(imports, torch_free)
    depth = max(-y for _, y in place.values())
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(9, 0.55 * depth + 1.2))
        for importer, imported in sorted(nx.transitive_reduction(imports).edges):
            _arrow(axes, place[importer], place[imported])
        for name, (x, y) in place.items():
            face, edge = TORCH_FREE if name in torch_free else WITH_TORCH
            box = {"boxstyle": "round,pad=0.35", "facecolor": face, "edgecolor": edge}
            axes.text(x, y, name, ha="center", va="center", bbox=box, zorder=3)
        for x, title in zip(COLUMNS, ("supervisor", "both sides", "worker side: imports torch"), strict=True):
            axes.text(x, 1, title, ha="center", va="center", fontweight="bold")
        axes.set(xlim=(-5.6, 5.4), ylim=(-depth - 0.6, 1.5))
        axes.axis("off")
        figure.tight_layout()
        _save(figure, path)


def _places(imports: nx.DiGraph, torch_free: set[str]) -> dict[str, tuple[float, float]]:
    """Return the position at which each part is drawn, in its side's column and below all parts that import it."""
    shared = nx.descendants(imports, "worker") & torch_free
    cells: dict[tuple[int, int], list[str]] = {}
    for level, names in enumerate(nx.topological_generations(imports)):
        for name in sorted(names):
            side = 2 if name not in torch_free else 1 if name in shared else 0
            cells.setdefault((level, side), []).append(name)
    return {
        name: (COLUMNS[side] + 1.5 * (index - (len(names) - 1) / 2), -level)
        for (level, side), names in cells.items()
        for index, name in enumerate(names)
    }


def _contracts() -> tuple[list[list[str]], set[str]]:
    """Return the layers in import-linter's contracts, from top to bottom, and the parts that may not import torch."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    (wall,) = (contract for contract in contracts if "torch" in contract.get("forbidden_modules", ()))
    return (
        [[part.strip() for part in layer.split("|")] for layer in layers],
        {name.removeprefix("attnbench.") for name in wall["source_modules"]},
    )


def _imports(names: list[str]) -> nx.DiGraph:
    """Return a graph of the imports between the named modules and packages, read from their source."""
    graph = grimp.build_graph("attnbench", exclude_type_checking_imports=True, cache_dir=None)
    imports = nx.DiGraph()
    imports.add_nodes_from(names)
    for importer in names:
        for imported in names:
            if importer != imported and graph.direct_import_exists(
                importer=f"attnbench.{importer}", imported=f"attnbench.{imported}", as_packages=True
            ):
                imports.add_edge(importer, imported)
    return imports


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    bent = start[0] == end[0] and start[1] - end[1] > 1  # the arrow must bend around the boxes between its ends
    style = {
        "arrowstyle": "-|>",
        "color": "#8795a5",
        "lw": 0.9,
        "shrinkA": 9,
        "shrinkB": 9,
        "connectionstyle": f"arc3,rad={0.35 if bent else 0}",
    }
    axes.annotate("", end, start, arrowprops=style)


def _save(figure: Figure, path: Path) -> None:
    with plt.rc_context(STYLE):
        figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
