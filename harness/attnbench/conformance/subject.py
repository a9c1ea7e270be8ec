"""Running a variant once on inputs of a probe's choosing, held to the plugin contract at every run."""

from __future__ import annotations

import hashlib
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from attnbench.conformance.accuracy import Answer, compare
from attnbench.conformance.check import Failed, Raised, Skipped
from attnbench.conformance.contract import Snapshot, gradients_problem, output_problem
from attnbench.reference import Part, in_bhsd
from attnbench.tensors.inputs import make_inputs, refill

if TYPE_CHECKING:
    from attnbench.plugins.variant import Timed, Variant
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload


@dataclass(frozen=True)
class Subject:
    """The variant that is checked, the device it runs on ('cpu' or 'cuda'), and the seed of all random values."""

    variant: Variant
    device: str = "cpu"
    seed: int = 0

    def seed_of(self, *parts: object) -> int:
        """Derive a seed that belongs to `parts` alone."""
        text = ":".join(map(str, (self.seed, *parts)))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")

    def generator(self, *parts: object) -> torch.Generator:
        """Give a CPU generator that belongs to `parts` alone."""
        return torch.Generator().manual_seed(self.seed_of(*parts))

    def refusal(self, workload: Workload) -> str | None:
        """Say why the variant can't do the workload; Failed where asking raises."""
        reason: str | None = _guarded(
            "unsupported_reason", lambda: self.variant.unsupported_reason(workload, self.device)
        )
        return reason

    def trial(self, workload: Workload, inputs: Inputs | None = None) -> Trial:
        """Prepare the variant on a workload; Skipped where the variant declares that it can't do it.

        The values that it sees while it prepares are not those that it will be judged on.
        """
        reason = self.refusal(workload)
        if reason is not None:
            raise Skipped(f"{workload.id}: {reason}")
        made = inputs or make_inputs(workload, self.device, self.variant.layout, self.seed_of("prepare", workload.id))
        call = _guarded("prepare", lambda: self.variant.prepare(workload, made))
        if not callable(call):
            raise Failed(f"prepare returned {type(call).__name__}: expected a callable without arguments")
        return Trial(self.variant, workload, made, call)


@dataclass
class Trial:
    """A prepared variant with the inputs that its callable reads."""

    variant: Variant
    workload: Workload
    inputs: Inputs
    call: Timed

    def refill(self, seed: int) -> Trial:
        """Fill the inputs with fresh random values, in place."""
        refill(self.inputs, seed)
        return self

    def fill(self, **values: torch.Tensor) -> Trial:
        """Fill named inputs with values given as (B, H, S, D), in place."""
        with torch.no_grad():
            for name, tensor in values.items():
                target = getattr(self.inputs, name)
                if target is not None:
                    in_bhsd(target, self.inputs.layout).copy_(tensor)
        return self

    def values(self, name: str) -> torch.Tensor:
        """Give a copy of a named input as (B, H, S, D)."""
        copy: torch.Tensor = in_bhsd(getattr(self.inputs, name).detach(), self.inputs.layout).clone()
        return copy

    def output(self) -> Any:
        """Call the variant and hold its output to the contract."""
        output = _guarded("the callable", self.call)
        problem = output_problem(output, self.workload, self.inputs)
        if problem:
            raise Failed(problem)
        return output

    def run(self, *, backward: bool = True) -> Answer:
        """Call, differentiate where the direction has a backward pass, and hold both to the contract.

        Without `backward` the gradients are left out.
        """
        snapshot = Snapshot.take(self.inputs)
        output = self.output()
        gradients = None
        if backward and self.workload.needs_gradient and output.numel() and output.requires_grad:
            gradients = self.differentiate(output)
        problem = snapshot.problem(self.inputs)
        if problem:
            raise Failed(problem)
        layout = self.inputs.layout
        if gradients is not None:
            gradients = tuple(in_bhsd(gradient, layout) for gradient in gradients)
        return Answer(in_bhsd(output.detach(), layout), gradients)

    def differentiate(self, output: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Give dQ, dK and dV in the variant's layout, held to the contract."""
        leaves, grad_output = self.inputs.leaves, self.inputs.grad_output
        gradients = _guarded(
            "its backward pass", lambda: torch.autograd.grad(output, leaves, grad_output, allow_unused=True)
        )
        problem = gradients_problem(gradients, self.inputs)
        if problem:
            raise Failed(problem)
        return gradients  # type: ignore[no-any-return]

    def judge(self, answer: Answer, part: Part | None = None, *, slack: float = 1.0) -> None:
        """Hold an answer to the error rules, its gradients to `slack` times theirs; Failed with where and why.

        What is not softmax attention (`exact` is False) has no right answer here: it need only be finite.
        """
        if not self.variant.exact:
            if not all(bool(tensor.isfinite().all()) for tensor in answer.tensors):
                raise Failed("the answer holds NaN or Inf")
            return
        comparison = compare(self.workload, self.inputs, self.variant.tier, answer, part, slack=slack)
        if not comparison.passed:
            raise Failed(comparison.reason or comparison.rule)


def _guarded(what: str, step: Any) -> Any:
    """Run a step of the variant; what it raises becomes Failed, with the place where it was raised."""
    try:
        return step()
    except (Failed, Skipped):
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        text = str(error).strip().splitlines()
        summary = f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
        raise Raised(f"{what} raised {summary} ({last.filename}:{last.lineno})") from error
