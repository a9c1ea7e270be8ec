"""Compare a variant's answer with the reference, and report the worst error, its location, and the rule it breaks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from attnbench.conformance.diagnosis import guess
from attnbench.conformance.tolerance import Measured, Rule, gradient_rules, output_rule
from attnbench.reference import Part, Piece, evaluate

if TYPE_CHECKING:
    from attnbench.plugins.variant import Tier
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload

GRADIENTS = ("dquery", "dkey", "dvalue")
MAX_SHOWN_VALUES = 4  # a message shows at most this many values of a wrong row


@dataclass(frozen=True)
class Answer:
    """A variant's answer: `output` (B, Hq, Sq, Dv) and, after a backward pass, dQ, dK and dV, all in BHSD layout.

    A gradient that is None is not compared. If `part` is not None, the tensors contain only the sequences, heads and
    query rows of that part, and all keys.
    """

    output: torch.Tensor
    gradients: tuple[torch.Tensor | None, ...] | None = None
    part: Part | None = None

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """The output, followed by the gradients that are not None."""
        return (self.output, *(gradient for gradient in self.gradients or () if gradient is not None))


@dataclass(frozen=True)
class AccuracyResult:
    """The result of comparing an answer with the reference.

    `worst_ratio` is the error of the worst row divided by its tolerance. It is None if the answer contains NaN or Inf,
    or a nonzero value where the tolerance is 0. An answer is wrong if its ratio is above 1 or None. `max_abs` is the
    largest absolute error of the output. For a wrong answer, `reason` says where the worst row is and how large its
    error is, and `bug` names the common mistake that explains the error, or is None if no such mistake was found.
    """

    rule: str
    worst_ratio: float | None = 0.0
    max_abs: float | None = 0.0
    reason: str | None = None
    bug: str | None = None

    @property
    def passed(self) -> bool:
        """Whether every row is within its tolerance."""
        return self.worst_ratio is not None and self.worst_ratio <= 1.0


def compare(
    workload: Workload,
    inputs: Inputs,
    tier: Tier,
    answer: Answer,
    part: Part | None = None,
    *,
    kept: torch.Tensor | None = None,
    slack: float = 1.0,
) -> AccuracyResult:
    """Compare an answer with the reference on `part` (default: the whole problem), and apply the error rules.

    If the answer contains gradients, they are compared too, with their tolerances multiplied by `slack`. `kept`
    (B, Hq, Sq, Sk) contains the factor by which dropout multiplied each weight, if these factors are known.
    """
    worst: dict[bool, tuple[Measured, Piece]] = {}  # key: True for the output, False for gradients
    max_abs, finite = 0.0, True
    for measured, piece in measurements(workload, inputs, tier, answer, part, kept=kept):
        if not measured.ratio.numel():
            continue
        finite = finite and bool(measured.got.isfinite().all())
        of_output = measured.name == "output"
        if not of_output:
            measured = replace(measured, tolerance=slack * measured.tolerance)  # noqa: PLW2901 - only the tolerance differs
        if of_output:
            max_abs = max(max_abs, float((measured.got - measured.expected).abs().nan_to_num(0.0).max()))
        if of_output not in worst or measured.ratio.max() > worst[of_output][0].ratio.max():
            worst[of_output] = measured, piece
    if not worst:
        return AccuracyResult("nothing to compare: the output is empty")
    measured, piece = max(worst.values(), key=lambda entry: float(entry[0].ratio.max()))
    if True in worst and worst[True][0].ratio.max() > 1:
        measured, piece = worst[True]  # report the output, because a wrong output also explains wrong gradients
    ratio = float(measured.ratio.max())
    reason, bug = _explain(workload, inputs, measured, piece) if ratio > 1 else (None, None)
    return AccuracyResult(measured.rule, ratio if finite and ratio < torch.inf else None, max_abs, reason, bug)


def measurements(
    workload: Workload,
    inputs: Inputs,
    tier: Tier,
    answer: Answer,
    part: Part | None,
    *,
    kept: torch.Tensor | None,
) -> Iterator[tuple[Measured, Piece]]:
    """For each piece of the reference, yield the errors of the output and of each gradient, paired with the piece."""
    dtype = answer.output.dtype
    part = part or Part.whole(workload)
    gradients = answer.gradients is not None
    needs_plain = tier == "plain" and dtype != torch.float32
    plain_pieces = (
        evaluate(workload, inputs, part, dtype=dtype, kept=kept, whole_rows=gradients) if needs_plain else None
    )
    for piece in evaluate(workload, inputs, part, gradients=gradients, kept=kept):
        plain = next(plain_pieces) if plain_pieces is not None else None
        place = piece if answer.part is None else piece.within(answer.part)
        rule = output_rule(piece, dtype, tier, plain)
        yield _measure("output", place.of_queries(answer.output), piece.attention.output, rule), piece
        if answer.gradients is None or piece.gradients is None:
            continue
        views = (place.of_queries, place.of_keys, place.of_keys)
        rules = gradient_rules(piece, dtype, tier)
        for name, view, got, expected, rule in zip(
            GRADIENTS, views, answer.gradients, piece.gradients, rules, strict=True
        ):
            if got is not None:
                yield _measure(name, view(got), expected, rule), piece


def _measure(name: str, got: torch.Tensor, expected: torch.Tensor, rule: Rule) -> Measured:
    got = got.detach().double()
    return Measured(name, rule.text, got, expected, (got - expected).norm(dim=-1), rule.tolerance)


def _explain(workload: Workload, inputs: Inputs, measured: Measured, piece: Piece) -> tuple[str, str | None]:
    """Return the reason for a failure and the likely bug, which is None if no bug was found.

    The reason says where the worst row is, which values were computed and expected there, and which rows are wrong. It
    also names the likely bug, if one was found.
    """
    place = _unravel(int(measured.ratio.argmax()), measured.ratio.shape)
    index, member, row = place
    got, expected = measured.got[place], measured.expected[place]
    if measured.name in ("output", "dquery"):
        where = f"batch {piece.batch}, head {piece.head(index, member)}, row {int(piece.rows[row])}"
        positions = piece.rows
    else:
        where = f"batch {piece.batch}, key head {int(piece.kv_heads[index])}, key {row}"
        positions = torch.arange(measured.ratio.shape[-1])
    wrong = (measured.ratio > 1).flatten(0, 1).any(0)
    spread = f"wrong at {int(wrong.sum())} of {wrong.numel()} {'rows' if positions is piece.rows else 'keys'} checked"
    spread += f" ({_ranges(positions[wrong.to(positions.device)].tolist())})"
    bug = guess(workload, inputs, measured, piece, place)
    reason = (
        f"{measured.rule}: {measured.name} at {where} is {_values(got)}, expected {_values(expected)}; error "
        f"{float(measured.error[place]):.3g} against a tolerance of {float(measured.tolerance[place]):.3g}; {spread}"
        + (f"; likely bug: {bug}" if bug else "")
    )
    return reason, bug


def _unravel(flat: int, shape: Sequence[int]) -> tuple[int, ...]:
    """Convert an index into a flattened tensor to an index into a tensor of `shape`, like numpy.unravel_index."""
    place = []
    for size in reversed(shape):
        flat, remainder = divmod(flat, size)
        place.append(remainder)
    return tuple(reversed(place))


def _values(row: torch.Tensor) -> str:
    """Format the first MAX_SHOWN_VALUES values of a row."""
    shown = ", ".join(f"{float(value):.4g}" for value in row[:MAX_SHOWN_VALUES])
    return f"[{shown}{', ...' if len(row) > MAX_SHOWN_VALUES else ''}]"


def _ranges(positions: list[int]) -> str:
    """Format sorted positions as at most five ranges, such as `0 to 3, 7, 64 to 127`."""
    ranges: list[list[int]] = []
    for position in positions:
        if ranges and position == ranges[-1][1] + 1:
            ranges[-1][1] = position
        else:
            ranges.append([position, position])
    texts = [str(first) if first == last else f"{first} to {last}" for first, last in ranges]
    return ", ".join(texts[:5]) + (", ..." if len(texts) > 5 else "")
