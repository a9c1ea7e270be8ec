"""Run a variant on the inputs of a check; every run must keep the plugin contract."""

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
BLOCK = 1 << 22  # elements of which the bits are summed at a time


@dataclass(frozen=True)
class Subject:
    """The variant to check, the device to run it on ('cpu' or 'cuda'), and the seed of all random values."""

    variant: Variant
    device: str = "cpu"
    seed: int = 0

    def seed_of(self, *parts: object) -> int:
        """Derive a seed from `parts`, different for different parts."""
        text = ":".join(map(str, (self.seed, *parts)))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")

    def generator(self, *parts: object) -> torch.Generator:
        """Return a CPU generator with the seed of `parts`."""
        return torch.Generator().manual_seed(self.seed_of(*parts))

    def refusal(self, workload: Workload) -> str | None:
        """Return the variant's reason for not supporting the workload, or None; Failed if unsupported_reason raises."""
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
        """Prepare the variant on a workload; raises Skipped if the variant declares it unsupported.

        The values of the inputs during `prepare` differ from those of the check, which fills in its own.
        """
        self.require_support(workload)
        made = inputs or make_inputs(workload, self.device, self.variant.layout, self.seed_of("prepare", workload.id))
        call = _guarded("prepare", lambda: self.variant.prepare(workload, made))
        if not callable(call):
            raise Failed(f"prepare returned {type(call).__name__}: expected a callable without arguments")
        return Trial(self.variant, workload, made, call)


@dataclass
class Trial:
    """A prepared variant together with the inputs that its callable reads."""

    variant: Variant
    workload: Workload
    inputs: Inputs
    call: Timed

    def refill(self, seed: int) -> Trial:
        """Overwrite the inputs in place with fresh random values."""
        refill(self.inputs, seed)
        return self

    def fill(self, **values: torch.Tensor) -> Trial:
        """Overwrite the named inputs in place with values of shape (B, H, S, D)."""
        with torch.no_grad():
            for name, tensor in values.items():
                target = getattr(self.inputs, name)
                if target is not None:
                    in_bhsd(target, self.inputs.layout).copy_(tensor)
        return self

    def values(self, name: str) -> torch.Tensor:
        """Return a copy of a named input as (B, H, S, D)."""
        copy: torch.Tensor = in_bhsd(getattr(self.inputs, name).detach(), self.inputs.layout).clone()
        return copy

    def output(self) -> Any:
        """Call the variant and return its output; raises Failed if the output breaks the contract."""
        output = _guarded("the callable", self.call)
        problem = output_problem(output, self.workload, self.inputs)
        if problem:
            raise Failed(problem)
        return output

    def run(self, *, backward: bool = True) -> Answer:
        """Call the variant and, if the direction has a backward pass, differentiate; return the answer as BHSD.

        Raises Failed if output, gradients or the inputs afterwards break the contract. `backward=False` leaves the
        gradients out.
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
        """Return dQ, dK and dV in the variant's layout; raises Failed if they break the contract."""
        leaves, grad_output = self.inputs.leaves, self.inputs.grad_output
        gradients = _guarded(
            "its backward pass", lambda: torch.autograd.grad(output, leaves, grad_output, allow_unused=True)
        )
        problem = gradients_problem(gradients, self.inputs)
        if problem:
            raise Failed(problem)
        return gradients  # type: ignore[no-any-return]

    def judge(self, answer: Answer, part: Part | None = None, *, slack: float = 1.0) -> None:
        """Raise Failed, with place and rule, if the answer breaks the error rules; `slack` widens those of gradients.

        A variant that is not softmax attention (`exact` is False) has no reference here: its answer must be finite.
        """
        if not self.variant.exact:
            if not all(bool(tensor.isfinite().all()) for tensor in answer.tensors):
                raise Failed("the answer holds NaN or Inf")
            return
        result = compare(self.workload, self.inputs, self.variant.tier, answer, part, slack=slack)
        if not result.passed:
            raise Failed(result.reason or result.rule, result.bug)


def _guarded(what: str, step: Any) -> Any:
    """Run a step of the variant; an exception becomes Raised, with the file and line where it was raised."""
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
    """Return the shape that the output must have in `layout`."""
    w = workload
    if layout == "BHSD":
        return w.batch, w.heads, w.seq_q, w.head_dim_v
    return w.batch, w.seq_q, w.heads, w.head_dim_v


def output_problem(output: Any, workload: Workload, inputs: Inputs, *, graph: bool = True) -> str | None:
    """Return how `output` breaks the contract in type, shape, dtype, device or storage, or None if it keeps it.

    With `graph`, the output must also be connected to its inputs in autograd's graph, if the direction needs that.
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
    """Return which gradient is missing or has the wrong shape or dtype, or None if all are as expected."""
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
    """Return the addresses of the storages of non-empty tensors."""
    return {tensor.untyped_storage().data_ptr() for tensor in tensors if tensor is not None and tensor.numel()}


@dataclass(frozen=True)
class Snapshot:
    """A fingerprint of the inputs, by which a write to them is detected without keeping a copy."""

    fingerprints: dict[str, tuple[Any, ...]]

    @classmethod
    def take(cls, inputs: Inputs) -> Snapshot:
        """Record address, shape, strides and a position-dependent sum of the bits of every input."""
        tensors = ((name, getattr(inputs, name)) for name in TENSORS)
        return cls({name: _fingerprint(tensor) for name, tensor in tensors if tensor is not None})

    def problem(self, inputs: Inputs) -> str | None:
        """Return which input has changed since, and what to do, or None."""
        for name, before in self.fingerprints.items():
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
    columns = max(1, BLOCK // bits.shape[1])
    total = 0
    for start in range(0, bits.shape[0], columns):
        block = bits[start : start + columns].to(torch.int64)
        places = torch.arange(block.numel(), device=block.device).view_as(block)
        total = (total * 31 + int((block * (2 * places + 1)).sum())) % (1 << 61)
    return (*where, total)
