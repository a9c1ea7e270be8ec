"""Running a variant once on inputs of a probe's choosing, held to the plugin contract at every run."""

from __future__ import annotations

import hashlib
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from attnbench.conformance.accuracy import Answer, compare
from attnbench.conformance.check import Failed, Raised, Skipped
from attnbench.reference import Part, in_bhsd
from attnbench.tensors.inputs import dtype_of, make_inputs, refill

if TYPE_CHECKING:
    from attnbench.plugins.variant import Timed, Variant
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload

TENSORS = ("query", "key", "value", "grad_output", "key_lengths", "document_ids", "alibi_slopes")
BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
WORDS = 1 << 22  # elements that are summed at a time


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

    def require_support(self, workload: Workload) -> None:
        """Raise Skipped, with the variant's reason, if it declares the workload unsupported."""
        reason = self.refusal(workload)
        if reason is not None:
            raise Skipped(f"{workload.id}: {reason}", reason)

    def trial(self, workload: Workload, inputs: Inputs | None = None) -> Trial:
        """Prepare the variant on a workload; Skipped where the variant declares that it can't do it.

        The values that it sees while it prepares are not those that it will be judged on.
        """
        self.require_support(workload)
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
        result = compare(self.workload, self.inputs, self.variant.tier, answer, part, slack=slack)
        if not result.passed:
            raise Failed(result.reason or result.rule, result.bug)


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


def output_shape(workload: Workload, layout: str) -> tuple[int, ...]:
    """Give the shape that the output must have in `layout`."""
    w = workload
    if layout == "BHSD":
        return w.batch, w.heads, w.seq_q, w.head_dim_v
    return w.batch, w.seq_q, w.heads, w.head_dim_v


def output_problem(output: Any, workload: Workload, inputs: Inputs, *, graph: bool = True) -> str | None:
    """Say in which way `output` breaks the contract in kind, shape, dtype, device or storage, or None.

    `graph`: whether it must still hang together with its inputs for autograd, where the direction needs that.
    """
    if not isinstance(output, torch.Tensor):
        return f"the callable returned {type(output).__name__}: expected one tensor, the output"
    shape = output_shape(workload, inputs.layout)
    problems = (
        (tuple(output.shape) != shape, f"shape is {tuple(output.shape)}, expected {shape} (layout {inputs.layout})"),
        (output.dtype != dtype_of(workload), f"dtype is {output.dtype}, expected {dtype_of(workload)}"),
        (output.device != inputs.query.device, f"device is {output.device}, expected {inputs.query.device}"),
        (output.layout != torch.strided, f"tensor layout is {output.layout}, expected a dense (strided) tensor"),
        (
            graph and workload.needs_gradient and not output.requires_grad and output.numel() > 0,
            "graph is missing: it is detached from its inputs, so autograd can't reach query, key and value",
        ),
    )
    problem = next((f"the output's {text}" for applies, text in problems if applies), None)
    if problem is None and storages(output) & storages(*(getattr(inputs, name) for name in TENSORS)):
        return "the output lies in the storage of an input: return a fresh tensor at each call"
    return problem


def gradients_problem(gradients: tuple[torch.Tensor | None, ...] | None, inputs: Inputs) -> str | None:
    """Say which gradient is missing or has the wrong shape or dtype, or None."""
    for name, leaf, gradient in zip(("query", "key", "value"), inputs.leaves, gradients or (), strict=False):
        if gradient is None:
            return f"the gradient of {name} is missing: the output does not depend on it for autograd"
        if gradient.shape != leaf.shape or gradient.dtype != leaf.dtype:
            return (
                f"the gradient of {name} is {gradient.dtype} {tuple(gradient.shape)}, "
                f"expected {leaf.dtype} {tuple(leaf.shape)}"
            )
    return None


def storages(*tensors: torch.Tensor | None) -> set[int]:
    """Give the addresses of the storages of non-empty tensors."""
    return {tensor.untyped_storage().data_ptr() for tensor in tensors if tensor is not None and tensor.numel()}


@dataclass(frozen=True)
class Snapshot:
    """A fingerprint of the inputs, so that a variant which writes to them is found out without a copy of them."""

    prints: dict[str, tuple[Any, ...]]

    @classmethod
    def take(cls, inputs: Inputs) -> Snapshot:
        """Fingerprint every tensor of the inputs: address, shape, strides and a position-dependent sum of its bits."""
        tensors = ((name, getattr(inputs, name)) for name in TENSORS)
        return cls({name: _fingerprint(tensor) for name, tensor in tensors if tensor is not None})

    def problem(self, inputs: Inputs) -> str | None:
        """Say which input was changed since, or None."""
        for name, before in self.prints.items():
            after = _fingerprint(getattr(inputs, name))
            if after[:-1] != before[:-1]:
                return f"inputs.{name} was resized or re-strided by the call: leave inputs as they are"
            if after != before:
                return f"inputs.{name} was written to: leave inputs as they are, and write to a fresh tensor"
        return None


def _fingerprint(tensor: torch.Tensor) -> tuple[Any, ...]:
    tensor = tensor.detach()
    where = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
    if not tensor.numel():
        return (*where, 0)
    bits = tensor.view(BITS[tensor.element_size()]).unsqueeze(-1).flatten(1)
    columns = max(1, WORDS // bits.shape[1])
    total = 0
    for start in range(0, bits.shape[0], columns):
        block = bits[start : start + columns].to(torch.int64)
        places = torch.arange(block.numel(), device=block.device).view_as(block)
        total = (total * 31 + int((block * (2 * places + 1)).sum())) % (1 << 61)
    return (*where, total)
