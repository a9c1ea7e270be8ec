"""A whole layer's correctness: the same layer in float64, at sampled rows of one sequence."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from attnbench.conformance.gate import CONTRACT, Gate, Gatekeeper, Verdict
from attnbench.conformance.sampling import across
from attnbench.conformance.subject import Snapshot, storages
from attnbench.conformance.tolerance import QUANTISED_SHARE
from attnbench.reference import attention, bias, visible
from attnbench.tensors.inputs import dtype_of
from attnbench.tensors.layer import LayerInputs, refill_layer

if TYPE_CHECKING:
    from attnbench.plugins.variant import Timed, Variant
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload

FACTOR = 4.0  # between two right implementations, which sum in other orders
RULE = "layer: ||e|| <= 4 ||e of a plain layer|| + 4 eps ||ref||"
RECHECKED_ROWS = 4


@dataclass(frozen=True)
class Rows:
    """Query rows of one sequence of the batch."""

    batch: int
    rows: torch.Tensor


def gate_of(variant: Variant, workload: Workload, inputs: Inputs, call: Timed, seed: int) -> Gate | LayerGate:
    """Give the gate of a cell: its own for a whole layer."""
    if isinstance(inputs, LayerInputs):
        return LayerGate(variant, workload, inputs, call, seed)
    return Gate(variant, workload, inputs, call, seed)


class LayerGate(Gatekeeper[LayerInputs]):
    """Checks a layer around a variant with fresh inputs, as `Gate` does attention alone.

    In each tensor every row is held to what a plain layer in the workload's dtype gets wrong there, or on average,
    times four. Gradients are compared with a grad_output that is 0 but for the sampled rows, so that the reference
    needs those alone; those of all weights, and of all tokens of the sequence, depend on them.
    """

    def recheck(self, output: Any, grads: tuple[torch.Tensor, ...] | None) -> Verdict:
        """Check a few rows of an output of a timed call on the inputs as they are now; gradients must be finite."""
        problem = self._problem(output, grads)
        if problem:
            return Verdict(False, CONTRACT, reason=problem)
        return self._judge([output], self._sample(RECHECKED_ROWS), grads or ())

    def _refill(self, seed: int, distribution: str = "normal") -> None:
        refill_layer(self.inputs, seed, distribution)

    def _full(self) -> Verdict:
        self._refill(self._fresh_seed())
        sample = self._sample()
        if self.inputs.grad_output is not None:
            kept = self.inputs.grad_output[sample.batch, sample.rows].clone()
            self.inputs.grad_output.zero_()[sample.batch, sample.rows] = kept
        snapshot = Snapshot.take(self.inputs)
        output = self.call()
        problem = self._problem(output)
        if problem is None and storages(output) & storages(self._last):
            problem = "the output lies in the storage of the last call's output: return a fresh tensor at each call"
        grads: tuple[torch.Tensor, ...] = ()
        if problem is None and self.workload.needs_gradient and output.numel():
            grads = torch.autograd.grad(output, self.inputs.leaves, self.inputs.grad_output, allow_unused=True)
            problem = self._problem(output, grads)
        problem = problem or snapshot.problem(self.inputs)
        if problem:
            return Verdict(False, CONTRACT, reason=problem)
        self._last = output.detach()
        return self._judge([self._last, *grads], sample)

    def _problem(self, output: Any, grads: tuple[torch.Tensor, ...] | None = None) -> str | None:
        """Say in which way the layer's results break the contract in kind, shape or dtype, or None."""
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

    def _judge(self, results: list[torch.Tensor], sample: Rows, others: tuple[torch.Tensor, ...] = ()) -> Verdict:
        if not all(bool(tensor.isfinite().all()) for tensor in (*results, *others)):
            return Verdict(False, RULE, reason="the layer's answer holds NaN or Inf")
        if not self.variant.exact or not results[0].numel():
            return Verdict(True, "plugin contract only: not softmax attention, or nothing to compare")
        gradients, dtype = len(results) > 1, dtype_of(self.workload)
        expected = layer_reference(self.workload, self.inputs, sample, torch.float64, gradients=gradients)
        plain = layer_reference(self.workload, self.inputs, sample, dtype, gradients=gradients)
        got = [results[0][sample.batch, sample.rows, 0]]
        got += [grad[sample.batch, :, 0] if grad.dim() == 4 else grad for grad in results[1:]]
        share = QUANTISED_SHARE if self.variant.tier == "quantised" else FACTOR * torch.finfo(dtype).eps
        ratios = [_ratio(*three, share) for three in zip(got, expected, plain, strict=True)]
        worst = max(range(len(ratios)), key=ratios.__getitem__)
        largest = float((got[0].detach().double() - expected[0]).abs().max())
        if ratios[worst] <= 1:
            return Verdict(True, RULE, ratios[worst], largest)
        name = "output" if worst == 0 else f"gradient of {self._leaf(worst - 1)}"
        return Verdict(
            False, RULE, ratios[worst], largest, f"{RULE}: the {name} is {ratios[worst]:.3g} times too far off"
        )

    def _leaf(self, index: int) -> str:
        tokens = ("tokens",) if self.inputs.key is self.inputs.query else ("tokens", "tokens of the keys")
        names: tuple[str, ...] = (*tokens, *(f"the {name} projection" for name in ("query", "key", "value", "output")))
        return names[index]


def layer_reference(
    workload: Workload, inputs: LayerInputs, sample: Rows, dtype: torch.dtype, *, gradients: bool
) -> list[torch.Tensor]:
    """Compute the layer's output (R, E) at the sampled rows, written for clarity, and its gradients if asked for.

    These are those of the sequence's tokens (S, E), in cross attention of the others too, and of the four weights, for
    `inputs.grad_output` at the sampled rows.
    """
    w, own = workload, inputs.attention
    assert own is not None  # noqa: S101 - a layer's inputs have them
    count = 1 if inputs.key is inputs.query else 2
    leaves = [tokens[sample.batch, :, 0].detach().to(dtype) for tokens in inputs.leaves[:count]]
    leaves += [weight.detach().to(dtype) for weight in inputs.weights]
    for leaf in leaves:
        leaf.requires_grad_(gradients)
    *tokens, to_query, to_key, to_value, to_output = leaves

    def heads(rows: torch.Tensor, number: int) -> torch.Tensor:  # (S, H * D) -> (Hkv, H / Hkv, S, D)
        return rows.view(len(rows), w.kv_heads, number // w.kv_heads, -1).movedim(0, 2)

    alibi = bias(w, own, sample.rows)
    attended = attention(
        heads(tokens[0][sample.rows] @ to_query.T, w.heads),
        heads(tokens[-1] @ to_key.T, w.kv_heads),
        heads(tokens[-1] @ to_value.T, w.kv_heads),
        visible(w, own, sample.batch, sample.rows),
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
    """Give the worst row's error over its tolerance; `share` is of the expected row's size."""
    error, typical = ((one.detach().double() - expected).norm(dim=-1) for one in (got, plain))
    tolerance = FACTOR * torch.maximum(typical, typical.square().mean().sqrt()) + share * expected.norm(dim=-1)
    return float(torch.where(error > 0, error / tolerance, 0.0).max())
