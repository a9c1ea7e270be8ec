"""Build the small workloads that checks run on, and combine features so that all pairs of choices are covered."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from attnbench.workloads.workload import Workload

Pair = tuple[tuple[str, int], tuple[str, int]]


def covering(fields: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return combinations, each with one choice per field, that together cover every pair of choices for two fields.

    Running all combinations would take too long, and most bugs involve only one or two features (Kuhn, Wallace and
    Gallo, 2004, doi:10.1109/TSE.2004.24). The algorithm is greedy: for one field after another, it takes the choice
    that adds the most new pairs, so earlier combinations contain more new pairs than later ones.

    >>> covering({"mask": ["none", "causal"], "dtype": ["float32", "float16"]})[0]
    {'mask': 'none', 'dtype': 'float32'}
    """
    places = {name: range(len(choices)) for name, choices in fields.items()}
    missing: dict[Pair, None] = {
        ((one, here), (other, there)): None
        for one, other in itertools.combinations(fields, 2)
        for here in places[one]
        for there in places[other]
    }
    found: list[dict[str, Any]] = []
    while missing:
        chosen = dict(
            next(iter(missing))
        )  # start with a missing pair, so that every combination covers at least one new pair
        for name in sorted(places, key=lambda name: (name not in chosen, -len(places[name]))):
            if name not in chosen:
                chosen[name] = _best(name, places[name], chosen, missing, len(found))
        for pair in itertools.combinations(((name, chosen[name]) for name in fields), 2):
            missing.pop(pair, None)
        found.append({name: fields[name][chosen[name]] for name in fields})
    return found


def _best(name: str, choices: range, chosen: dict[str, int], missing: dict[Pair, None], turn: int) -> int:
    """Return the choice for field `name` that covers the most pairs in `missing`; `turn` breaks ties."""

    def new_pairs(choice: int) -> int:
        others = (((other, place), (name, choice)) for other, place in chosen.items())
        return sum((pair in missing) or (pair[::-1] in missing) for pair in others)

    return max(choices, key=lambda choice: (new_pairs(choice), -((choice - turn) % len(choices))))


DEFAULTS = {"batch": 2, "heads": 4, "kv_heads": 2, "head_dim": 32, "direction": "forward_backward"}
SHAPES = ((100, 100), (70, 150), (150, 70))  # (queries, keys): as many queries as keys, fewer, and more
LOW_PRECISION = ("float16", "bfloat16")
DTYPES = ("float32", *LOW_PRECISION)


def workload(**fields: Any) -> Workload:
    """Build a workload from DEFAULTS and `fields`; `seq` sets both seq_q and seq_k.

    If `heads` is given without `kv_heads`, there are as many key heads as query heads.
    """
    merged = {**DEFAULTS, **fields}
    if "seq" in merged:
        merged["seq_q"] = merged["seq_k"] = merged.pop("seq")
    if "heads" in fields and "kv_heads" not in fields:
        merged["kv_heads"] = merged["heads"]
    return Workload.from_json(merged)


def of_all_shapes(masks: tuple[str, ...], **fields: Any) -> list[Workload]:
    """Return a workload for each combination of a mask and a shape in SHAPES.

    The `document` mask requires as many queries as keys, so it gets only the square shape.
    """
    return [
        workload(
            mask=mask, seq_q=seq_q, seq_k=seq_k, **{"batch": 3 if mask in ("padding", "document") else 2, **fields}
        )
        for mask in masks
        for seq_q, seq_k in SHAPES
        if mask != "document" or seq_q == seq_k
    ]
