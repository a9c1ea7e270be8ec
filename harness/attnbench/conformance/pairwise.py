"""Pairwise covering: few combinations in which every two choices of two fields occur together."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

Pair = tuple[tuple[str, int], tuple[str, int]]


def covering(fields: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return combinations of one choice per field in which every pair of choices occurs, those with most pairs first.

    Most bugs need only one or two features at a time (Kuhn, Wallace and Gallo, 2004, doi:10.1109/TSE.2004.24), and
    there are too many combinations to run all. The algorithm is greedy: each combination takes, field by field, the
    choice that makes most new pairs.

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
        chosen = dict(next(iter(missing)))  # starts from a missing pair, so each round adds one
        for name in sorted(places, key=lambda name: (name not in chosen, -len(places[name]))):
            if name not in chosen:
                chosen[name] = _best(name, places[name], chosen, missing, len(found))
        for pair in itertools.combinations(((name, chosen[name]) for name in fields), 2):
            missing.pop(pair, None)
        found.append({name: fields[name][chosen[name]] for name in fields})
    return found


def _best(name: str, choices: range, chosen: dict[str, int], missing: dict[Pair, None], turn: int) -> int:
    """Return the choice that makes most new pairs; `turn` varies which of several equal ones it is."""

    def new_pairs(choice: int) -> int:
        others = (((other, place), (name, choice)) for other, place in chosen.items())
        return sum((pair in missing) or (pair[::-1] in missing) for pair in others)

    return max(choices, key=lambda choice: (new_pairs(choice), -((choice - turn) % len(choices))))
