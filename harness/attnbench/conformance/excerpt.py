"""Copy the few rows of a timed call's result that are checked later, so that the whole result can be freed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from attnbench.conformance.accuracy import Answer

if TYPE_CHECKING:
    from attnbench.reference import Part


@dataclass(frozen=True)
class Excerpt:
    """What is kept of a timed call's result until it is checked.

    - `answer`: a copy of the part of the result that will be compared; None if the result breaks the plugin contract
    - `sums`: the sums of the result's gradients in one key head (see `gradient_sums`), or None
    - `finite`: whether the whole result is finite, as a bool tensor without dimensions
    - `problem`: how the result breaks the plugin contract, or None
    """

    answer: Answer | None
    finite: torch.Tensor
    problem: str | None = None
    sums: torch.Tensor | None = None


def copy_part(answer: Answer, part: Part, group: int) -> Answer:
    """Return a copy of `part` of a complete answer, in which `group` query heads share a key head.

    On a GPU the copies are only queued: the host does not wait, because further calls are being timed.
    """
    gradients = answer.gradients
    if gradients is not None:
        of_query, of_key, of_value = gradients
        gradients = (
            None if of_query is None else _queries(of_query, part, group),
            *(None if gradient is None else _heads(gradient, part, 1) for gradient in (of_key, of_value)),
        )
    return Answer(_queries(answer.output, part, group), gradients, part)


def _queries(tensor: torch.Tensor, part: Part, group: int) -> torch.Tensor:
    """Return a copy of the part's rows of a tensor (B, Hq, Sq, D)."""
    if len(part.rows) == tensor.shape[2]:
        return _heads(tensor, part, group)
    # Slices are used, because a list of indices would first be copied to the device, and the host would wait for that.
    return torch.stack([_heads(tensor[:, :, row], part, group) for row in part.rows], 2)


def _heads(tensor: torch.Tensor, part: Part, group: int) -> torch.Tensor:
    """Return a copy of the part's sequences and heads of a tensor (B, H, ...)."""
    if not part.batches:
        return tensor[:0].detach().clone()
    rows = [
        torch.cat([tensor[batch, head * group : (head + 1) * group] for head in part.kv_heads])
        for batch in part.batches
    ]
    return torch.stack(rows).detach()
