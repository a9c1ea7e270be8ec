"""Few combinations of many choices: every two choices meet in at least one of them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

Pair = tuple[tuple[str, int], tuple[str, int]]


def covering(fields: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Combine one choice of each field, until every two choices of two fields have met; the most telling first.

    Most bugs need one feature or two at a time (Kuhn, Wallace and Gallo, 2004, doi:10.1109/TSE.2004.24), and all
    combinations are too many. Greedy: each combination takes, field by field, the choice that makes most new pairs.
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
        chosen = dict(next(iter(missing)))  # begins with a pair that is missing, so that each round makes one
        for name in sorted(places, key=lambda name: (name not in chosen, -len(places[name]))):
            if name not in chosen:
                chosen[name] = _best(name, places[name], chosen, missing, len(found))
        for pair in itertools.combinations(((name, chosen[name]) for name in fields), 2):
            missing.pop(pair, None)
        found.append({name: fields[name][chosen[name]] for name in fields})
    return found


def _best(name: str, choices: range, chosen: dict[str, int], missing: dict[Pair, None], turn: int) -> int:
    """Give the choice that meets most others for the first time; of equals another one each turn."""

    def met(choice: int) -> int:
        others = (((other, place), (name, choice)) for other, place in chosen.items())
        return sum((pair in missing) or (pair[::-1] in missing) for pair in others)

    return max(choices, key=lambda choice: (met(choice), -((choice - turn) % len(choices))))
