"""One cell's correctness, checked before, during and after its timing."""

from __future__ import annotations

import hashlib
import random
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch

from attnbench.conformance.accuracy import AccuracyResult, Answer, compare
from attnbench.conformance.dropout_rules import any_draw
from attnbench.conformance.sampling import PAIRS, Sample, across, few_rows, keep_rows, whole_group
from attnbench.conformance.subject import Snapshot, gradients_problem, output_problem, storages
from attnbench.reference import in_bhsd
from attnbench.tensors.inputs import refill

if TYPE_CHECKING:
    from attnbench.plugins.variant import Timed, Variant
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload

ROUNDS = 2
RECHECKED_ROWS = 4
RECHECKED_PAIRS = 1 << 16  # a problem up to this size is rechecked with all its gradients
CONTRACT = "plugin contract"


@dataclass(frozen=True)
class Verdict:
    """Whether a cell's answers are right; `worst_ratio` is error / tolerance, above 1 is wrong.

    `worst_ratio` is None where the answer is not finite or breaks the contract otherwise; `reason` then says how.
    """

    passed: bool
    rule: str
    worst_ratio: float | None = None
    max_abs: float | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Give what a record keeps of it."""
        return {"rule": self.rule, "worst_ratio": self.worst_ratio, "max_abs": self.max_abs}


Given = TypeVar("Given", bound="Inputs")


class Gatekeeper(ABC, Generic[Given]):
    """The order of checks, the same for attention and for a whole layer: fresh inputs, a call, a verdict, once more."""

    def __init__(self, variant: Variant, workload: Workload, inputs: Given, call: Timed, seed: int) -> None:
        self.variant = variant
        self.workload = workload
        self.inputs = inputs
        self.call = call
        self.seed = seed
        self._drawn = 0
        self._last: torch.Tensor | None = None  # kept, so that an output in the same storage shows

    def before(self) -> Verdict:
        """Check fully, with fresh inputs at the same addresses, at least twice; then refill with a fresh seed."""
        return self._rounds(ROUNDS)

    def after(self) -> Verdict:
        """Check fully once more with a fresh seed."""
        return self._rounds(1)

    @abstractmethod
    def recheck(self, output: Any, grads: tuple[torch.Tensor, ...] | None) -> Verdict:
        """Check a few rows of an output of a timed call, and its gradients, on the inputs as they are now."""

    @abstractmethod
    def _full(self) -> Verdict:
        """Refill the inputs, run the variant, and judge its answer."""

    @abstractmethod
    def _refill(self, seed: int, distribution: str = "normal") -> None:
        """Overwrite the inputs in place."""

    def _rounds(self, count: int) -> Verdict:
        verdicts = []
        for _ in range(count):
            verdicts.append(self._full())
            if not verdicts[-1].passed:
                break
        self._last = None
        self._refill(self._fresh_seed(), self.workload.distribution)
        return max(verdicts, key=lambda verdict: (not verdict.passed, verdict.worst_ratio or 0.0))

    def _fresh_seed(self) -> int:
        self._drawn += 1
        return int.from_bytes(hashlib.sha256(f"gate:{self.seed}:{self._drawn}".encode()).digest()[:6], "big")


class Gate(Gatekeeper["Inputs"]):
    """Checks a prepared variant on its own workload with fresh inputs, at bounded cost whatever its length.

    The reference is computed only when the variant's call and backward pass are done, and is dropped before the
    next; long sequences are compared at sampled rows, with a grad_output that is 0 elsewhere, so that float64
    gradients need those rows only. Under dropout no reference can know the draw: there the gate checks what holds
    for any draw. What is not softmax attention (`exact` is False) is held to the contract alone.
    """

    def __init__(self, variant: Variant, workload: Workload, inputs: Inputs, call: Timed, seed: int) -> None:
        super().__init__(variant, workload, inputs, call, seed)
        self._round = 0

    def recheck(self, output: Any, grads: tuple[torch.Tensor, ...] | None) -> Verdict:
        """Check a few rows of an output, and of its gradients, of a timed call on the inputs as they are now."""
        problem = output_problem(output, self.workload, self.inputs, graph=False)
        problem = problem or gradients_problem(grads, self.inputs)
        if problem:
            return Verdict(False, CONTRACT, reason=problem)
        generator = random.Random(self._fresh_seed())  # noqa: S311 - a seeded choice, not a secret
        whole = whole_group(self.workload, RECHECKED_PAIRS, generator)
        if whole:
            return self._judge(output, grads, whole)
        rows_only = None if grads is None else (grads[0], None, None)  # dK and dV sum over all rows
        return self._judge(output, rows_only, few_rows(self.workload, RECHECKED_ROWS, generator))

    def _refill(self, seed: int, distribution: str = "normal") -> None:
        refill(self.inputs, seed, distribution)

    def _full(self) -> Verdict:
        seed = self._fresh_seed()
        self._refill(seed)
        sample = self._sample(random.Random(seed))  # noqa: S311 - a seeded choice, not a secret
        if self.inputs.grad_output is not None and not sample.dense:
            keep_rows(in_bhsd(self.inputs.grad_output, self.inputs.layout), sample.part.rows)
        snapshot = Snapshot.take(self.inputs)
        output: Any = self.call()
        problem = output_problem(output, self.workload, self.inputs)
        if problem is None and storages(output) & storages(self._last):
            problem = "the output lies in the storage of the last call's output: return a fresh tensor at each call"
        problem = problem or snapshot.problem(self.inputs)
        grads = None
        if problem is None:
            grads = self._differentiate(output)
            problem = gradients_problem(grads, self.inputs) or (grads and snapshot.problem(self.inputs)) or None
        if problem:
            return Verdict(False, CONTRACT, reason=problem)
        self._last = output.detach()
        return self._judge(self._last, grads, sample)

    def _sample(self, generator: random.Random) -> Sample:
        """Alternate between a few rows of all heads and all rows of one group of heads."""
        device = self.inputs.query.device.type
        self._round += 1
        whole = whole_group(self.workload, 2 * PAIRS.get(device, PAIRS["cpu"]), generator)
        return whole if whole and self._round % 2 == 0 else across(self.workload, device, generator)

    def _differentiate(self, output: torch.Tensor) -> tuple[torch.Tensor, ...] | None:
        if not self.workload.needs_gradient or not output.numel():
            return None
        return torch.autograd.grad(output, self.inputs.leaves, self.inputs.grad_output, allow_unused=True)

    def _judge(self, output: torch.Tensor, grads: tuple[torch.Tensor | None, ...] | None, sample: Sample) -> Verdict:
        layout = self.inputs.layout
        gradients = None if grads is None else tuple(None if g is None else in_bhsd(g, layout) for g in grads)
        answer = Answer(in_bhsd(output.detach(), layout), gradients)
        if not self.variant.exact:
            result = AccuracyResult("plugin contract only: not softmax attention", worst_ratio=None, max_abs=None)
            return _verdict(result, passed=all(bool(t.isfinite().all()) for t in answer.tensors))
        if self.workload.dropout:
            return _verdict(any_draw(self.workload, self.inputs, answer, sample.part))
        result = compare(self.workload, self.inputs, self.variant.tier, answer, sample.part)
        if result.passed and not all(bool(tensor.isfinite().all()) for tensor in answer.tensors):
            reason = "NaN or Inf in rows that were not compared: an overflow or unwritten memory"
            return Verdict(False, result.rule, reason=reason)
        return _verdict(result)


def _verdict(result: AccuracyResult, *, passed: bool | None = None) -> Verdict:
    held = result.passed if passed is None else passed
    return Verdict(held, result.rule, result.worst_ratio, result.max_abs, result.reason)
