"""The site's figures, drawn from what the code computes."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import grimp
import matplotlib as mpl
import networkx as nx

mpl.use("Agg")
import matplotlib.pyplot as plt
import torch

from attnbench import Workload

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
WORDS = ["the", "cat", "sat", "on", "the", "mat"]
STYLE = {
    "font.size": 9,
    "svg.hashsalt": "attnbench",  # the same figure gives the same file
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
}
MASKS = (
    ("none", 8, 8), ("causal", 8, 8), ("window:2:0", 8, 8), ("window:2:1", 8, 8),
    ("prefix:3", 8, 8), ("document", 16, 16), ("causal", 4, 8), ("causal-top-left", 4, 8),
)  # fmt: skip


def sentence() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Make up embeddings (6, 8) of a sentence and their query, key and value (6, 4), as the page's text does."""
    generator = torch.Generator().manual_seed(4)
    embedding_of = {word: torch.randn(8, generator=generator) for word in dict.fromkeys(WORDS)}
    embeddings = torch.stack([embedding_of[word] for word in WORDS])
    weights = [torch.randn(8, 4, generator=generator) / 8**0.5 for _ in range(3)]
    query, key, value = (embeddings @ weight for weight in weights)
    return embeddings, query, key, value


def steps(path: Path) -> None:
    """Draw attention over a sentence, matrix by matrix."""
    embeddings, query, key, value = sentence()
    scores = query @ key.T / key.shape[1] ** 0.5
    weights = scores.softmax(-1)
    parts = (
        ("embeddings X", embeddings),
        ("queries Q = X Wq", query),
        ("keys K = X Wk", key),
        ("values V = X Wv", value),
        ("scores Q Kᵀ / √D", scores),
        ("weights: softmax of each row", weights),
        ("output: weights times V", weights @ value),
    )
    with plt.rc_context(STYLE):
        figure, rows = plt.subplots(2, 4, figsize=(11, 5.4))
        for axes, (title, matrix) in zip(rows.flat, parts, strict=False):
            square = matrix.shape[0] == matrix.shape[1]
            _heat(axes, matrix, title, WORDS if square else None, sequential="weights:" in title)
        rows.flat[-1].axis("off")
        _save(figure, path)


def scaling(path: Path) -> None:
    """Draw how large a row's largest weight gets with and without dividing by the root of head_dim."""
    generator = torch.Generator().manual_seed(0)
    widths = [8, 16, 32, 64, 128, 256]
    largest: dict[str, list[float]] = {"scores": [], "scores / √D": []}
    for width in widths:
        query, key = (torch.randn(256, 128, width, generator=generator) for _ in range(2))
        scores = query @ key.mT
        largest["scores"].append(float(scores.softmax(-1).amax(-1).mean()))
        largest["scores / √D"].append(float((scores / width**0.5).softmax(-1).amax(-1).mean()))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(5.2, 3.2))
        for (label, values), color in zip(largest.items(), ("#b2182b", "#2166ac"), strict=True):
            axes.plot(widths, values, "o-", color=color)
            axes.annotate(label, (widths[-1], values[-1]), xytext=(6, -3), textcoords="offset points", color=color)
        axes.set_xscale("log", base=2)
        axes.set_xticks(widths, [str(width) for width in widths])
        axes.set_xlim(right=900)
        axes.set(xlabel="head_dim D", ylabel="largest weight of a row, mean", ylim=(0, 1))
        axes.set_title("128 random keys: without the scale one key takes all", loc="left", fontsize=9)
        _save(figure, path)


def heads(path: Path) -> None:
    """Draw the weights of three heads over one sentence, causal, each with projections of its own."""
    embeddings = sentence()[0]
    generator = torch.Generator().manual_seed(11)
    with plt.rc_context(STYLE):
        figure, row = plt.subplots(1, 3, figsize=(9, 3.1))
        for number, axes in enumerate(row):
            query, key = (embeddings @ torch.randn(8, 4, generator=generator) / 8**0.5 for _ in range(2))
            hidden = torch.ones(6, 6, dtype=torch.bool).triu(1)
            weights = (query @ key.T / 2).masked_fill(hidden, float("-inf")).softmax(-1)
            _heat(axes, weights, f"head {number}", WORDS, sequential=True)
        _save(figure, path)


def masks(path: Path) -> None:
    """Draw which keys each query sees, under each mask, as `Workload.visible_keys` says it."""
    with plt.rc_context(STYLE):
        figure, rows = plt.subplots(2, 4, figsize=(10, 5.2))
        for axes, (mask, seq_q, seq_k) in zip(rows.flat, MASKS, strict=True):
            workload = Workload(heads=1, seq_q=seq_q, seq_k=seq_k, head_dim=1, mask=mask)
            visible = torch.zeros(seq_q, seq_k)
            for row, keys in enumerate(workload.visible_keys()):
                visible[row, keys.start : keys.stop] = 1
            axes.pcolormesh(visible.numpy(), cmap="Blues", vmin=0, vmax=1.4, edgecolors="white", linewidth=1.5)
            axes.invert_yaxis()
            axes.set_aspect("equal")
            axes.set_title(f"{mask}\n{workload.visible_pairs} of {seq_q * seq_k} pairs", fontsize=9)
            axes.set(xticks=[], yticks=[], xlabel="key", ylabel="query")
        _save(figure, path)


def layers(path: Path) -> None:
    """Draw the house: its layers as import-linter enforces them, and the imports that there really are.

    An import that a chain of other imports implies is left out, so that the picture can be read.
    """
    floors = _floors()
    place = {
        name: (2.1 * (x - (len(floor) - 1) / 2), -y) for y, floor in enumerate(floors) for x, name in enumerate(floor)
    }
    imports = nx.transitive_reduction(_imports(list(place)))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(8.5, 0.6 * len(floors) + 0.4))
        for number, (importer, imported) in enumerate(sorted(imports.edges, key=lambda edge: (place[edge[0]], edge))):
            _arrow(axes, place[importer], place[imported], side=1 if number % 2 else -1)
        for name, (x, y) in place.items():
            box = {"boxstyle": "round,pad=0.35", "facecolor": "#e8f0fa", "edgecolor": "#2166ac"}
            axes.text(x, y, name, ha="center", va="center", bbox=box, zorder=3)
        axes.set(xlim=(-4.6, 4.6), ylim=(-len(floors) + 0.4, 0.6))
        axes.axis("off")
        _save(figure, path)


def _floors() -> list[list[str]]:
    """Read the layers from import-linter's contract, top first, those modules only that there are."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        contract = tomllib.load(file)["tool"]["importlinter"]["contracts"][0]
    package = ROOT / "harness" / "attnbench"
    floors = []
    for layer in contract["layers"]:
        names = [part.strip(" ()").removeprefix("attnbench.") for part in layer.replace(":", "|").split("|")]
        there = [name for name in names if (package / name).is_dir() or (package / f"{name}.py").is_file()]
        floors += [there] if there else []
    return floors


def _imports(names: list[str]) -> nx.DiGraph:
    """Find which of the named modules or packages import which, by reading their source."""
    graph = grimp.build_graph("attnbench", exclude_type_checking_imports=True, cache_dir=None)
    found = nx.DiGraph()
    found.add_nodes_from(names)
    for importer in names:
        for imported in names:
            if importer != imported and graph.direct_import_exists(
                importer=f"attnbench.{importer}", imported=f"attnbench.{imported}", as_packages=True
            ):
                found.add_edge(importer, imported)
    return found


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


def _heat(axes: Axes, matrix: torch.Tensor, title: str, words: list[str] | None, *, sequential: bool) -> None:
    limit = float(matrix.abs().max())
    low, colors = (0.0, "Blues") if sequential else (-limit, "RdBu_r")
    axes.imshow(matrix.numpy(), cmap=colors, vmin=low, vmax=limit)
    axes.set_title(title, fontsize=9)
    axes.set_yticks(range(len(WORDS)), WORDS)
    axes.set_xticks(range(len(words or [])), words or [], rotation=45)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _save(figure: Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=80, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)
