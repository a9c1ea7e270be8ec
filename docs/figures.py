"""Draw the figures of the documentation from what the code computes."""

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
PARTS = {  # the steps that each figure of part of the study `steps` shows
    "embeddings": ("embeddings",), "query_key_value": ("query", "key", "value"), "scores": ("scores", "scaled"),
    "softmax": ("weights",), "output": ("weights", "value", "output"), "heads": ("heads",),
}  # fmt: skip
STYLE = {
    "font.size": 9,
    "svg.hashsalt": "attnbench",  # makes the files reproducible
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
}
TORCH_FREE, WITH_TORCH = ("#e8f0fa", "#2166ac"), ("#fdeadb", "#b35806")  # fill and border of a part
MASKS = (
    ("none", 8, 8), ("causal", 8, 8), ("window:2:0", 8, 8), ("window:2:1", 8, 8),
    ("prefix:3", 8, 8), ("document", 16, 16), ("causal", 4, 8), ("causal-top-left", 4, 8),
)  # fmt: skip


def studies(folder: Path) -> None:
    """Write the figures and findings of the studies that time nothing."""
    for name in ("steps", "scaling-factor", "weights"):
        study = find_study(name)
        rows = study.collect(Settings(), folder)
        _save(study.draw(rows), folder / f"{name}.svg")
        (folder / f"{name}.md").write_text(study.conclude(rows) + "\n", encoding="utf-8")
        if name == "steps":
            for step, parts in PARTS.items():
                _save(draw_steps(rows, parts), folder / f"{step}.svg")


def masks(path: Path) -> None:
    """Draw which keys each query sees under each mask, from `Workload.visible_keys`."""
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
    """Draw the package's layers, as import-linter enforces them, and the imports between its parts.

    Parts that may import torch have another colour. An import that follows from a chain of other imports is left out,
    to keep the picture readable.
    """
    layers, torch_free = _contracts()
    place = {
        name: (2.1 * (x - (len(layer) - 1) / 2), -y) for y, layer in enumerate(layers) for x, name in enumerate(layer)
    }
    imports = nx.transitive_reduction(_imports(list(place)))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(8.5, 0.6 * len(layers) + 0.4))
        for number, (importer, imported) in enumerate(sorted(imports.edges, key=lambda edge: (place[edge[0]], edge))):
            _arrow(axes, place[importer], place[imported], side=1 if number % 2 else -1)
        for name, (x, y) in place.items():
            face, edge = TORCH_FREE if name in torch_free else WITH_TORCH
            box = {"boxstyle": "round,pad=0.35", "facecolor": face, "edgecolor": edge}
            axes.text(x, y, name, ha="center", va="center", bbox=box, zorder=3)
        axes.set(xlim=(-4.6, 4.6), ylim=(-len(layers) + 0.4, 0.6))
        axes.axis("off")
        figure.tight_layout()
        _save(figure, path)


def _contracts() -> tuple[list[list[str]], set[str]]:
    """Return the layers in import-linter's contracts, from the top, and the parts that may not import torch."""
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


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], side: int) -> None:
    straight = start[1] - end[1] <= 1 or start[0] != end[0]
    style = {
        "arrowstyle": "-|>",
        "color": "#8795a5",
        "lw": 0.9,
        "shrinkA": 9,
        "shrinkB": 9,
        "connectionstyle": f"arc3,rad={0 if straight else 0.35 * side}",
    }
    axes.annotate("", end, start, arrowprops=style)


def _save(figure: Figure, path: Path) -> None:
    with plt.rc_context(STYLE):
        figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
