"""The gate, which checks a cell's answers on sampled parts of the problem before, during and after the timing."""

from __future__ import annotations

import hashlib
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch

from attnbench.conformance.accuracy import AccuracyResult, Answer, compare
from attnbench.conformance.dropout_rules import any_draw
from attnbench.conformance.excerpt import Excerpt, copy_part
from attnbench.conformance.gradient_sums import OF_KEYS, OF_VALUES, gradient_sums, judge_sums
from attnbench.conformance.subject import LastOutput, Snapshot, gradients_problem, output_problem
from attnbench.errors import harness_work
from attnbench.reference import Part, in_bhsd
from attnbench.tensors.chunks import all_finite
from attnbench.tensors.inputs import refill

if TYPE_CHECKING:
    from attnbench.plugins.variant import Timed, Variant
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload


PAIRS = {"cpu": 1 << 20, "cuda": 1 << 25}  # target number of query-key pairs to compare in each round, by device type
MIN_ROWS = 8  # at least this many query rows are compared, even if that exceeds the target number of pairs
TILE_BORDERS = (63, 64, 127, 128, 255, 256, 511, 512)  # rows at which tiles end and begin


@dataclass(frozen=True)
class Sample:
    """The part of a problem that is compared in one round of checks.

    If `dense` is False, grad_output must be 0 except at the sampled rows.
    """

    part: Part
    dense: bool


def across(workload: Workload, device_type: str, generator: random.Random) -> Sample:
    """Sample query rows in all heads and sequences, or only in some of them if comparing all would cost too much."""
    w = workload
    budget = PAIRS[device_type]
    pairs_of_row = max(1, w.batch * w.heads * w.seq_k)
    rows = _rows(w.seq_q, max(MIN_ROWS, budget // pairs_of_row), generator)
    cost = max(1, w.heads // w.kv_heads * len(rows) * w.seq_k)  # query-key pairs per key head and sequence
    affordable = max(1, 8 * budget // cost)
    kv_heads = _some(w.kv_heads, affordable, generator)
    batches = _some(w.batch, max(1, min(affordable // max(1, len(kv_heads)), 64)), generator)
    if len(batches) > 1:  # the last sequence is always included, because indices overflow there first
        batches = tuple(sorted({*batches[:-1], w.batch - 1}))
    return Sample(Part(batches, kv_heads, rows), dense=len(rows) == w.seq_q)


def whole_group(workload: Workload, pairs: int, generator: random.Random) -> Sample | None:
    """Sample all rows of one key head and its query heads; return None if they have over `pairs` query-key pairs."""
    w = workload
    if not w.batch or w.heads // w.kv_heads * w.seq_q * w.seq_k > pairs:
        return None
    part = Part((generator.randrange(w.batch),), (generator.randrange(w.kv_heads),), tuple(range(w.seq_q)))
    return Sample(part, dense=True)


def few_rows(workload: Workload, count: int, generator: random.Random) -> Sample:
    """Sample a few rows, including the first or the last row, in a few heads of one sequence."""
    w = workload
    batches, kv_heads = _some(w.batch, 1, generator), _some(w.kv_heads, count, generator)
    rows = set(_some(w.seq_q, count, generator))
    if w.seq_q:
        rows.add(generator.choice((0, w.seq_q - 1)))
    return Sample(Part(batches, kv_heads, tuple(sorted(rows))), dense=True)


def keep_rows(grad_output: torch.Tensor, rows: tuple[int, ...]) -> None:
    """Set grad_output (B, H, S, D) to 0 except at `rows`."""
    others = torch.ones(grad_output.shape[2], dtype=torch.bool, device=grad_output.device)
    others[list(rows)] = False
    with torch.no_grad():
        grad_output[:, :, others] = 0


def _rows(length: int, count: int, generator: random.Random) -> tuple[int, ...]:
    """Choose `count` of `length` rows: the first, the last, some at tile boundaries, and random ones."""
    if count >= length:
        return tuple(range(length))
    borders = [row for row in TILE_BORDERS if row < length]
    rows = {0, length - 1, *generator.sample(borders, min(len(borders), count // 4))}
    while len(rows) < count:
        rows.add(generator.randrange(length))
    return tuple(sorted(rows))


def _some(size: int, count: int, generator: random.Random) -> tuple[int, ...]:
    """Return up to `count` different random numbers below `size`, in ascending order."""
    return tuple(sorted(generator.sample(range(size), min(count, size))))


ROUNDS = 2  # number of full checks before the timing
RECHECKED_ROWS = 4  # number of query rows compared after a timed call
RECHECKED_PAIRS = 1 << 16  # a group of heads with at most this many query-key pairs is rechecked as a whole
# The rules for the gradients of a timed call, and the difference that they allow. Gradients of other inputs differ by
# about 1, and rounding has far less effect.
TIMED_RULES = (
    f"gradients of a timed call: {OF_VALUES}, which holds if dV was computed from the call's inputs",
    f"gradients of a timed call: {OF_KEYS}, which holds if dK was computed from the call's inputs",
)
TIMED_TOLERANCE = 0.1
CONTRACT = "plugin contract"


@dataclass(frozen=True)
class Verdict:
    """The gate's judgement of a cell's answers.

    `worst_ratio` is the error of the worst row divided by its tolerance, and an answer with a ratio above 1 is wrong.
    The ratio is None if the answer is not finite, breaks the plugin contract, or has no reference. `reason` says why an
    answer failed. `max_abs` is the largest absolute error of the output.
    """

    passed: bool
    rule: str
    worst_ratio: float | None = None
    max_abs: float | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields that are stored in a record."""
        return {"rule": self.rule, "worst_ratio": self.worst_ratio, "max_abs": self.max_abs}


Grads = tuple[torch.Tensor, ...] | None  # the gradients of query, key and value; None in direction `forward`
GateInputs = TypeVar("GateInputs", bound="Inputs")


class BaseGate(ABC, Generic[GateInputs]):
    """The base class of the gate for attention alone and the gate for a whole layer.

    Each round of checks refills the inputs, calls the variant, and judges its answer.
    """

    def __init__(self, variant: Variant, workload: Workload, inputs: GateInputs, call: Timed, seed: int) -> None:
        self.variant = variant
        self.workload = workload
        self.inputs = inputs
        self.call = call
        self.seed = seed
        self._seeds_drawn = 0
        self._last: LastOutput | None = None

    def before(self) -> Verdict:
        """Run ROUNDS full checks with fresh inputs at the same addresses, then restore the inputs for the timing."""
        verdict = self._rounds(ROUNDS)
        self._restore(self._fresh_seed())
        return verdict

    def after(self) -> Verdict:
        """Run one full check with fresh inputs."""
        return self._rounds(1)

    @abstractmethod
    def excerpt(self, output: Any, grads: tuple[torch.Tensor, ...] | None) -> Any:
        """Copy what `recheck` needs of the output and gradients that a timed call returned.

        The rows to copy are chosen after the first such call has returned, and are the same until the next recheck.
        """

    @harness_work("checking answers")
    def recheck(self, excerpts: Sequence[Any]) -> Verdict:
        """Check excerpts of the results of timed calls. The inputs must still be those of these calls.

        Returns the verdict of the first wrong result, or else that of the last one.
        """
        for excerpt in excerpts:
            verdict = self._judge_excerpt(excerpt)
            if not verdict.passed:
                break
        return verdict

    @abstractmethod
    def _judge_excerpt(self, excerpt: Any) -> Verdict:
        """Judge what was kept of the result of one timed call."""

    @abstractmethod
    def _full(self) -> Verdict:
        """Refill the inputs, run the variant, and judge its answer."""

    @abstractmethod
    def _restore(self, seed: int) -> None:
        """Overwrite the inputs that a round of checks left unfit for the timing."""

    def _rounds(self, count: int) -> Verdict:
        verdicts = []
        for _ in range(count):
            verdicts.append(self._full())
            if not verdicts[-1].passed:
                break
        self._last = None
        return max(verdicts, key=lambda verdict: (not verdict.passed, verdict.worst_ratio or 0.0))

    def _fresh_seed(self) -> int:
        self._seeds_drawn += 1
        return int.from_bytes(hashlib.sha256(f"gate:{self.seed}:{self._seeds_drawn}".encode()).digest()[:6], "big")


class Gate(BaseGate["Inputs"]):
    """The gate for attention alone, which checks a prepared variant on the cell's workload at a bounded cost.

    The reference is computed only after the variant's call and backward pass, and is freed before the next call. Long
    sequences are compared at sampled rows, and grad_output is set to 0 at the other rows, so that the reference's
    gradients need only the sampled rows. Under dropout, the reference can't reproduce which weights are dropped, so the
    gate checks rules that hold whichever weights are dropped. A variant that is not softmax attention (`exact` is
    False) only has to keep the plugin contract and return finite values.
    """

    def __init__(self, variant: Variant, workload: Workload, inputs: Inputs, call: Timed, seed: int) -> None:
        super().__init__(variant, workload, inputs, call, seed)
        self._round = 0

    @harness_work("copying rows of an answer")
    def excerpt(self, output: Any, grads: tuple[torch.Tensor, ...] | None) -> Excerpt:
        """Copy a few rows of a timed call's output and dQ, and sum up the gradients of one key head.

        On a small problem, copy the output and all gradients of one key head and its query heads instead. The rows or
        the head are chosen here, after the call has returned, so that the variant can't compute only these.
        """
        problem = output_problem(output, self.workload, self.inputs, graph=False)
        problem = problem or gradients_problem(grads, self.inputs)
        if problem:
            return Excerpt(None, torch.tensor(True), problem)
        generator = random.Random(self._fresh_seed())  # noqa: S311 - a seeded choice, not a secret
        whole = whole_group(self.workload, RECHECKED_PAIRS, generator)
        part = (whole or few_rows(self.workload, RECHECKED_ROWS, generator)).part
        compared: tuple[torch.Tensor | None, ...] | None = grads
        sums = None
        if grads is not None and len(part.rows) < self.workload.seq_q:
            compared = (grads[0], None, None)  # a few rows are not enough for dK and dV, which are sums over all rows
            if self.variant.exact:
                head = Part(part.batches[:1], (generator.choice(part.kv_heads),), ())
                sums = gradient_sums(self.workload, self.inputs, self._answer(output, grads), head)
        answer = self._answer(output, compared)
        copied = copy_part(answer, part, self.workload.heads // self.workload.kv_heads)
        return Excerpt(copied, all_finite(output, *(grads or ())), sums=sums)

    def _judge_excerpt(self, excerpt: Excerpt) -> Verdict:
        answer = excerpt.answer
        if answer is None or answer.part is None:
            return Verdict(False, CONTRACT, reason=excerpt.problem)
        results = [] if excerpt.sums is None else judge_sums(excerpt.sums, TIMED_RULES, TIMED_TOLERANCE)
        wrong = next((result for result in results if not result.passed), None)
        if wrong is not None:
            return _verdict(wrong)
        return self._judge(answer, answer.part, excerpt.finite)

    @harness_work("drawing inputs")
    def _restore(self, seed: int) -> None:
        if self.workload.distribution != "normal":
            refill(self.inputs, seed, self.workload.distribution)
        elif self.inputs.grad_output is not None:  # the check may have set rows of it to 0
            refill(self.inputs, seed, names=("grad_output",))

    def _full(self) -> Verdict:
        seed = self._fresh_seed()
        sample = self._sample(random.Random(seed))  # noqa: S311 - a seeded choice, not a secret
        with harness_work("drawing inputs"):
            refill(self.inputs, seed)
            if self.inputs.grad_output is not None and not sample.dense:
                keep_rows(in_bhsd(self.inputs.grad_output, self.inputs.layout), sample.part.rows)
            snapshot = Snapshot.take(self.inputs)
        output: Any = self.call()
        problem = output_problem(output, self.workload, self.inputs)
        if problem is None and self._last is not None and self._last.reused_by(output):
            problem = "the output shares its storage with the last call's output: return a fresh tensor from each call"
        problem = problem or snapshot.problem(self.inputs)
        grads = None
        if problem is None:
            grads = self._differentiate(output)
            problem = gradients_problem(grads, self.inputs) or (grads and snapshot.problem(self.inputs)) or None
        if problem:
            return Verdict(False, CONTRACT, reason=problem)
        self._last = LastOutput(output)
        with harness_work("checking an answer"):
            return self._judge(self._answer(output, grads), sample.part, all_finite(output, *(grads or ())))

    def _sample(self, generator: random.Random) -> Sample:
        """Sample rows across heads or, in every second round, all rows of a group of heads if the group is small."""
        device_type = self.inputs.query.device.type
        self._round += 1
        whole = whole_group(self.workload, 2 * PAIRS[device_type], generator)
        return whole if whole and self._round % 2 == 0 else across(self.workload, device_type, generator)

    def _differentiate(self, output: torch.Tensor) -> tuple[torch.Tensor, ...] | None:
        if not self.workload.needs_gradient or not output.numel():
            return None
        return torch.autograd.grad(output, self.inputs.leaves, self.inputs.grad_output, allow_unused=True)

    def _answer(self, output: torch.Tensor, grads: tuple[torch.Tensor | None, ...] | None) -> Answer:
        layout = self.inputs.layout
        gradients = None if grads is None else tuple(None if g is None else in_bhsd(g, layout) for g in grads)
        return Answer(in_bhsd(output.detach(), layout), gradients)

    def _judge(self, answer: Answer, part: Part, finite: torch.Tensor) -> Verdict:
        """Judge an answer on `part`. `finite` says whether the whole answer is finite."""
        if not self.variant.exact:
            result = AccuracyResult("plugin contract only: not softmax attention", worst_ratio=None, max_abs=None)
            return _verdict(result, passed=bool(finite))
        if self.workload.dropout:
            return _verdict(any_draw(self.workload, self.inputs, answer, part))
        result = compare(self.workload, self.inputs, self.variant.tier, answer, part)
        if result.passed and not finite:
            reason = "NaN or Inf in rows that were not compared: an overflow or unwritten memory"
            return Verdict(False, result.rule, reason=reason)
        return _verdict(result)


def _verdict(result: AccuracyResult, *, passed: bool | None = None) -> Verdict:
    held = result.passed if passed is None else passed
    return Verdict(held, result.rule, result.worst_ratio, result.max_abs, result.reason)
