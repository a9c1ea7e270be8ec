"""The error rules, which limit how far an answer may be from the reference. docs/conformance.md derives them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from attnbench.plugins.variant import Tier
    from attnbench.reference import Piece

# In the rules below, `error` is the norm of one row's error, `norm` is the norm of the row in the reference, and
# `eps` is the machine epsilon of the workload's dtype.
OUTPUT_FACTOR_LOW = 1.0  # fused tier in float16 and bfloat16: error <= OUTPUT_FACTOR_LOW * eps * norm
OUTPUT_FACTOR_FLOAT32 = 8.0  # float32: error <= OUTPUT_FACTOR_FLOAT32 * eps * (1 + largest score) * norm
# Plain tier in float16 and bfloat16: error <= OUTPUT_FACTOR_PLAIN * (a plain implementation's error) + 2 * eps * norm.
OUTPUT_FACTOR_PLAIN = 2.0
STEPS_OF_8_BITS = 127  # quantisation steps on each side of 0
# Quantised tier, output: error <= QUANTISED_FACTOR * norm + the effect of one 8-bit quantisation step in the scores.
QUANTISED_FACTOR = 0.05
# Quantised tier, gradients: error <= QUANTISED_SHARE * (size * norm + spread), as defined in `gradient_rules`.
QUANTISED_SHARE = 0.1
# Vectorised exponentials may return 0 for results below this value, although smaller normal numbers exist.
FLUSH_LIMIT = 64 * torch.finfo(torch.float32).smallest_normal
# Fused and plain tiers, gradients: error <= factor * eps * (size * norm + spread), as defined in `gradient_rules`.
GRADIENT_FACTORS = {  # key: (tier, whether the dtype is float32)
    ("fused", True): 4.0,
    ("plain", True): 4.0,
    ("fused", False): 2.0,
    ("plain", False): 1.5,
}


@dataclass(frozen=True)
class Rule:
    """The text of an error rule, and the tolerance of each row under the rule."""

    text: str
    tolerance: torch.Tensor


@dataclass(frozen=True)
class Measured:
    """The errors of the output, or of one gradient, in each row of one piece of the reference."""

    name: str
    rule: str
    got: torch.Tensor
    expected: torch.Tensor
    error: torch.Tensor
    tolerance: torch.Tensor

    @cached_property
    def ratio(self) -> torch.Tensor:
        """Error / tolerance of each row: 0 if the error is 0, infinite if it is NaN or only the tolerance is 0."""
        ratio = torch.where(self.error > 0, self.error / self.tolerance, 0.0)
        return torch.where(self.error.isnan(), torch.inf, ratio)


def output_rule(piece: Piece, dtype: torch.dtype, tier: Tier, plain: Piece | None) -> Rule:
    """Return the error rule of the output, with a tolerance for each row (n, g, R).

    `plain` is the answer of a plain implementation in the workload's dtype. The rule of the plain tier depends on the
    error of this answer.
    """
    eps = torch.finfo(dtype).eps
    norm = piece.attention.output.norm(dim=-1)
    if tier == "quantised":
        text = f"output, quantised: ||e|| <= {QUANTISED_FACTOR:g} ||ref|| + effect of an 8-bit step in the scores"
        return Rule(text, QUANTISED_FACTOR * norm + _effect_of_step(piece))
    if dtype == torch.float32:
        tolerance = OUTPUT_FACTOR_FLOAT32 * eps * (1 + piece.attention.largest_score) * norm
        return Rule("output, float32: ||e|| <= 8 eps (1 + max|score|) ||ref||", tolerance)
    if tier == "fused" or plain is None:
        return Rule(f"output, {_name(dtype)} fused: ||e|| <= 1.0 eps ||ref||", OUTPUT_FACTOR_LOW * eps * norm)
    plain_error = (plain.attention.output.double() - piece.attention.output).norm(dim=-1)
    typical = plain_error.square().mean(-1, keepdim=True).sqrt()  # the error of a single row may be 0 by chance
    tolerance = OUTPUT_FACTOR_PLAIN * torch.maximum(plain_error, typical) + 2 * eps * norm
    text = f"output, {_name(dtype)} plain: ||e|| <= 2 ||e of a plain implementation|| + 2 eps ||ref||"
    return Rule(text, torch.where(norm > 0, tolerance, 0.0))


def _effect_of_step(piece: Piece) -> torch.Tensor:
    """Return how much each row (n, g, R) of the output changes if queries and keys are off by one 8-bit step.

    An entry of a query or key is accurate to one step, which is 1/127 of the largest entry in its head. A score is
    therefore accurate to delta = scale (||q|| step of keys + max||k|| step of queries). The output is the mean of the
    values v_j with weights p_j, so it changes by delta sqrt(sum_j p_j^2 ||v_j - output||^2). This change is 0 if one
    key has all the weight.
    """
    if not piece.key.numel() or not piece.query.numel():
        return torch.zeros_like(piece.attention.lse)
    step_of_query, step_of_key = (t.abs().amax((-2, -1))[..., None] / STEPS_OF_8_BITS for t in (piece.query, piece.key))
    size_query, size_key = piece.query.norm(dim=-1), piece.key.norm(dim=-1).amax(-1, keepdim=True)
    delta = piece.scale * (size_query * step_of_key + size_key * step_of_query)
    output, squares = piece.attention.output, piece.attention.weights.square()
    apart = squares @ piece.value.square().sum(-1, keepdim=True)
    apart = apart - 2 * ((squares @ piece.value) * output).sum(-1, keepdim=True)
    apart = apart + squares.sum(-1, keepdim=True) * output.square().sum(-1, keepdim=True)
    spread: torch.Tensor = delta * apart[..., 0].clamp(min=0.0).sqrt()
    return spread


def gradient_rules(piece: Piece, dtype: torch.dtype, tier: Tier) -> tuple[Rule, Rule, Rule]:
    """Return the error rules of dQ, dK and dV, with a tolerance for each row.

    The tolerances have the shape (n, g, R) for dQ, and (n, 1, Sk) for dK and dV.

    A row of a gradient is a sum of terms that may cancel. Its spread is the root sum of squares of these terms. With
    weights P, dP = dO V^T and delta = sum_j P dP, each entry dS = P (dP - delta) is accurate to eps P sqrt(dP^2 +
    delta^2). Fused kernels compute delta from the rounded output, so delta is accurate to eps ||O * dO||. If scores are
    held in the workload's dtype, each term is multiplied by size = 1 + max|score|; otherwise size is 1.

    The tolerance is 0 for a key that no query sees, and for a query that sees no key. In all other rows, each value may
    also be off by the dtype's smallest step.
    """
    if piece.gradients is None:
        raise ValueError("this piece was evaluated without gradients")
    low = dtype != torch.float32
    limits = torch.finfo(dtype)
    factor = QUANTISED_SHARE / limits.eps if tier == "quantised" else GRADIENT_FACTORS[tier, not low]
    held = f"{_name(dtype)} {tier}" if low else "float32"
    rules = []
    held_in_dtype = not low or tier == "plain"
    spreads = _spreads(piece, dtype, scores_held_in_dtype=held_in_dtype)
    largest = piece.attention.largest_score
    of_row = 1 + largest if held_in_dtype else torch.ones_like(largest)
    of_key = of_row.flatten(1).amax(-1)[:, None, None] if of_row.numel() else of_row.new_ones((len(of_row), 1, 1))
    sizes = (of_row, of_key, of_key)
    for name, gradient, size, spread in zip(("query", "key", "value"), piece.gradients, sizes, spreads, strict=True):
        step = limits.smallest_normal * limits.eps * gradient.shape[-1] ** 0.5
        tolerance = factor * limits.eps * (size * gradient.norm(dim=-1) + spread) + step
        text = (
            f"d{name}, {held}: ||e|| <= {factor:g} eps ({'(1 + max|score|) ' if held_in_dtype else ''}||ref|| + spread)"
        )
        rules.append(Rule(text, torch.where(spread > 0, tolerance, 0.0)))
    return rules[0], rules[1], rules[2]


def _spreads(piece: Piece, dtype: torch.dtype, *, scores_held_in_dtype: bool) -> tuple[torch.Tensor, ...]:
    """Return the spreads of dQ (n, g, R), dK and dV (n, 1, Sk), as `gradient_rules` defines them."""
    weights, of_weights, grad_output = piece.attention.weights, piece.weights_gradient, piece.grad_output
    if of_weights is None or grad_output is None:
        raise ValueError("this piece was evaluated without gradients")
    least = max(torch.finfo(dtype).smallest_normal, FLUSH_LIMIT)  # numbers below this limit lose relative precision
    row_factor = 1 + piece.attention.largest_score[..., None] if scores_held_in_dtype else 1.0
    delta = (weights * of_weights).sum(-1, keepdim=True)
    pull = weights if piece.attention.slope is None else weights * piece.attention.slope
    # Tensors of this size are changed in place, because allocating them takes longer than computing them.
    entries = of_weights.square().add_(delta.square()).sqrt_().mul_(pull).add_(least)
    if piece.attention.slope is not None:  # the slope, 1 - tanh^2, has an absolute error of eps, even if it is small
        entries.add_(weights * (of_weights - delta).abs())
    entries = _squared(entries.mul_(row_factor), piece.visible)
    of_delta = (row_factor * (piece.attention.output * grad_output).norm(dim=-1, keepdim=True)).square()
    scale = piece.scale
    size_key, size_query = (tensor.square().sum(-1, keepdim=True) for tensor in (piece.key, piece.query))
    of_query = (entries @ size_key + of_delta * (pull @ piece.key).square().sum(-1, keepdim=True)).sqrt()
    of_key = (size_query.mT @ entries.add_(pull.square().mul_(of_delta))).sum(1, keepdim=True).sqrt()
    shares = _squared((weights + least).mul_(row_factor), piece.visible)
    of_value = (grad_output.square().sum(-1, keepdim=True).mT @ shares).sum(1, keepdim=True).sqrt()
    return scale * of_query[..., 0], scale * of_key[..., 0, :], of_value[..., 0, :]


def _squared(entries: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Square the entries (n, g, R, Sk) in place, set those of keys that are not visible to 0, and return them."""
    entries.square_()
    return entries if visible.all() else entries.masked_fill_(~visible, 0.0)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
