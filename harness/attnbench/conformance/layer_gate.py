"""The gate for a layer: compares the layer's answer with a float64 reference at sampled rows of one sequence."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from attnbench.conformance.gate import CONTRACT, BaseGate, Gate, Verdict, across
from attnbench.conformance.subject import LastOutput, Snapshot
from attnbench.conformance.tolerance import QUANTISED_SHARE
from attnbench.errors import harness_work
from attnbench.reference import attention, bias, visible
from attnbench.tensors.chunks import all_finite
from attnbench.tensors.inputs import dtype_of, refill
from attnbench.tensors.layer import LayerInputs, refill_layer

if TYPE_CHECKING:
    from attnbench.plugins.variant import Timed, Variant
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload

FACTOR = 4.0  # a correct layer's error may be this many times a plain layer's, because they may sum in different orders
RULE = "layer: ||e|| <= 4 ||e of a plain layer|| + 4 eps ||ref||"
RECHECKED_ROWS = 4  # number of query rows compared after a timed call


@dataclass(frozen=True)
class Rows:
    """Query rows of one sequence in the batch."""

    batch: int
    rows: torch.Tensor


@dataclass(frozen=True)
class LayerExcerpt:
    """What is kept of a timed call's result until it is checked.

    - `output`: a copy of the rows (R, E) in `sample`; None if the result breaks the plugin contract
    - `finite`: whether the whole result is finite, as a bool tensor without dimensions
    - `problem`: how the result breaks the plugin contract, or None
    """

    output: torch.Tensor | None
    sample: Rows
    finite: torch.Tensor
    problem: str | None = None


def gate_of(variant: Variant, workload: Workload, inputs: Inputs, call: Timed, seed: int) -> Gate | LayerGate:
    """Return the gate for a cell: a LayerGate if the inputs are those of a layer, else a Gate."""
    if isinstance(inputs, LayerInputs):
        return LayerGate(variant, workload, inputs, call, seed)
    return Gate(variant, workload, inputs, call, seed)


class LayerGate(BaseGate[LayerInputs]):
    """The gate for a layer around a variant; Gate is the gate for attention alone.

    The error of each row may be up to four times the error of a plain layer in the workload's dtype, plus a share of
    the expected row's norm. The error of the plain layer is either its error at the same row or its root mean square
    error over all rows, whichever is larger. Before gradients are compared, grad_output is set to 0 except at the
    sampled rows, so that the reference needs only those rows. This still checks the gradients of all weights and of all
    tokens in the sequence, because they depend on those rows.
    """

    @harness_work("copying rows of an answer")
    def excerpt(self, output: Any, grads: tuple[torch.Tensor, ...] | None) -> LayerExcerpt:
        """Copy a few rows of a timed call's output."""
        sample, problem = self._sample(RECHECKED_ROWS), self._problem(output, grads)
        if problem:
            return LayerExcerpt(None, sample, torch.tensor(True), problem)
        rows = output.detach()[sample.batch, sample.rows, 0] if output.numel() else output.detach()[:0]
        return LayerExcerpt(rows, sample, all_finite(output, *(grads or ())))

    def _judge_excerpt(self, excerpt: LayerExcerpt) -> Verdict:
        if excerpt.output is None:
            return Verdict(False, CONTRACT, reason=excerpt.problem)
        return self._judge([excerpt.output], excerpt.sample, excerpt.finite)

    @harness_work("drawing inputs")
    def _restore(self, seed: int) -> None:
        if self.workload.distribution != "normal":
            refill_layer(self.inputs, seed, self.workload.distribution)
        else:
            refill(self.inputs, seed, names=("grad_output",))

    def _full(self) -> Verdict:
        seed, sample = self._fresh_seed(), self._sample()
        with harness_work("drawing inputs"):
            refill_layer(self.inputs, seed)
            if self.inputs.grad_output is not None:
                kept = self.inputs.grad_output[sample.batch, sample.rows].clone()
                self.inputs.grad_output.zero_()[sample.batch, sample.rows] = kept
            snapshot = Snapshot.take(self.inputs)
        output = self.call()
        problem = self._problem(output)
        if problem is None and self._last is not None and self._last.reused_by(output):
            problem = "the output shares its storage with the last call's output: return a fresh tensor from each call"
        grads: tuple[torch.Tensor, ...] = ()
        if problem is None and self.workload.needs_gradient and output.numel():
            grads = torch.autograd.grad(output, self.inputs.leaves, self.inputs.grad_output, allow_unused=True)
            problem = self._problem(output, grads)
        problem = problem or snapshot.problem(self.inputs)
        if problem:
            return Verdict(False, CONTRACT, reason=problem)
        self._last = LastOutput(output)
        results = [output.detach()[sample.batch, sample.rows, 0] if output.numel() else output.detach()[:0]]
        results += [grad[sample.batch, :, 0] if grad.dim() == 4 else grad for grad in grads]
        with harness_work("checking an answer"):
            return self._judge(results, sample, all_finite(output, *grads))

    def _problem(self, output: Any, grads: tuple[torch.Tensor, ...] | None = None) -> str | None:
        """Describe how the layer's results break the contract in type, shape or dtype, or return None if they don't."""
        wanted = zip(
            ("output", *(f"gradient {n}" for n in range(6))), (self.inputs.query, *self.inputs.leaves), strict=False
        )
        for (name, like), got in zip(wanted, (output, *(grads or ())), strict=False):
            if not isinstance(got, torch.Tensor):
                return f"the layer's {name} is {type(got).__name__}: expected a tensor"
            if got.shape != like.shape or got.dtype != like.dtype:
                return (
                    f"the layer's {name} is {got.dtype} {tuple(got.shape)}, expected {like.dtype} {tuple(like.shape)}"
                )
        return None

    def _sample(self, count: int | None = None) -> Rows:
        generator = random.Random(self._fresh_seed())  # noqa: S311 - a seeded choice, not a secret
        part = across(self.workload, self.inputs.query.device.type, generator).part
        rows = part.rows if count is None else sorted(generator.sample(part.rows, min(count, len(part.rows))))
        batch = generator.choice(part.batches) if part.batches else 0
        return Rows(batch, torch.tensor(rows, device=self.inputs.query.device, dtype=torch.long))

    def _judge(self, got: list[torch.Tensor], sample: Rows, finite: torch.Tensor) -> Verdict:
        """Compare the sampled rows of the output, and the gradients of the sampled sequence, with the reference."""
        if not finite:
            return Verdict(False, RULE, reason="the layer's answer holds NaN or Inf")
        if not self.variant.exact or not got[0].numel():
            return Verdict(True, "plugin contract only: not softmax attention, or nothing to compare")
        gradients, dtype = len(got) > 1, dtype_of(self.workload)
        expected = layer_reference(self.workload, self.inputs, sample, torch.float64, gradients=gradients)
        plain = layer_reference(self.workload, self.inputs, sample, dtype, gradients=gradients)
        share = QUANTISED_SHARE if self.variant.tier == "quantised" else FACTOR * torch.finfo(dtype).eps
        ratios = [_ratio(*three, share) for three in zip(got, expected, plain, strict=True)]
        worst = max(range(len(ratios)), key=ratios.__getitem__)
        largest = float((got[0].detach().double() - expected[0]).abs().max())
        if ratios[worst] <= 1:
            return Verdict(True, RULE, ratios[worst], largest)
        name = "output" if worst == 0 else f"gradient of {self._leaf(worst - 1)}"
        return Verdict(
            False,
            RULE,
            ratios[worst],
            largest,
            f"{RULE}: the error of the {name} is {ratios[worst]:.3g} times the tolerance",
        )

    def _leaf(self, index: int) -> str:
        tokens = ("tokens",) if self.inputs.key is self.inputs.query else ("tokens", "tokens of the keys")
        names: tuple[str, ...] = (*tokens, *(f"the {name} projection" for name in ("query", "key", "value", "output")))
        return names[index]


def layer_reference(
    workload: Workload, inputs: LayerInputs, sample: Rows, dtype: torch.dtype, *, gradients: bool
) -> list[torch.Tensor]:
    """Return the layer's output (R, E) at the sampled rows, followed by its gradients if `gradients` is True.

    There is one gradient for the sequence's tokens (S, E), one for the key tokens in cross-attention, and one for each
    of the four weight matrices. They are computed with a grad_output that equals `inputs.grad_output` at the
    sampled rows and is 0 elsewhere. The code is written for clarity, not for speed.
    """
    w, attention_inputs = workload, inputs.attention
    assert attention_inputs is not None  # noqa: S101 - the inputs of a layer always contain them
    count = 1 if inputs.key is inputs.query else 2
    leaves = [tokens[sample.batch, :, 0].detach().to(dtype) for tokens in inputs.leaves[:count]]
    leaves += [weight.detach().to(dtype) for weight in inputs.weights]
    for leaf in leaves:
        leaf.requires_grad_(gradients)
    *tokens, to_query, to_key, to_value, to_output = leaves

    def heads(rows: torch.Tensor, number: int) -> torch.Tensor:  # (S, H * D) -> (Hkv, H / Hkv, S, D)
        return rows.view(len(rows), w.kv_heads, number // w.kv_heads, -1).movedim(0, 2)

    alibi = bias(w, attention_inputs, sample.rows)
    attended = attention(
        heads(tokens[0][sample.rows] @ to_query.T, w.heads),
        heads(tokens[-1] @ to_key.T, w.kv_heads),
        heads(tokens[-1] @ to_value.T, w.kv_heads),
        visible(w, attention_inputs, sample.batch, sample.rows),
        scale=w.effective_scale,
        softcap=w.softcap,
        bias=None if alibi is None else alibi.view(w.kv_heads, -1, *alibi.shape[1:]).to(dtype),
    ).output
    output = attended.movedim(2, 0).flatten(1) @ to_output.T
    if not gradients or inputs.grad_output is None:
        return [output.detach()]
    grad_output = inputs.grad_output[sample.batch, sample.rows, 0].to(dtype)
    return [output.detach(), *torch.autograd.grad(output, leaves, grad_output)]


def _ratio(got: torch.Tensor, expected: torch.Tensor, plain: torch.Tensor, share: float) -> float:
    """Return the worst row's error / tolerance; the tolerance includes `share` times the expected row's norm."""
    error, typical = ((answer.detach().double() - expected).norm(dim=-1) for answer in (got, plain))
    tolerance = FACTOR * torch.maximum(typical, typical.square().mean().sqrt()) + share * expected.norm(dim=-1)
    return float(torch.where(error > 0, error / tolerance, 0.0).max())
