"""Run a variant on a check's inputs, and require that the variant keeps the plugin contract."""

from __future__ import annotations

import hashlib
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from attnbench.conformance.accuracy import Answer, compare
from attnbench.conformance.check import Failed, Raised, Skipped
from attnbench.conformance.plain_tensor import lazy_tensor_problem
from attnbench.device_names import device_type
from attnbench.reference import Part, in_bhsd
from attnbench.tensors.chunks import all_finite, chunks
from attnbench.tensors.inputs import dtype_of, make_inputs, refill

if TYPE_CHECKING:
    from attnbench.plugins.variant import Timed, Variant
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload

TENSORS = ("query", "key", "value", "grad_output", "key_lengths", "document_ids", "alibi_slopes")
INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # key: element size in bytes
# The harness keeps outputs of up to this many bytes allocated while the next output is computed.
MAX_HELD_BYTES = 1 << 24


@dataclass(frozen=True)
class Subject:
    """The variant to check, the name of the device to run it on, and the seed of all random values."""

    variant: Variant
    device: str = "cpu"
    seed: int = 0

    @property
    def device_type(self) -> str:
        """The type of the device: 'cpu' or 'cuda'."""
        return device_type(self.device)

    @property
    def free_bytes(self) -> int:
        """The memory in bytes that is free for tensors on the device: that of the GPU, or that of the machine."""
        if self.device_type == "cuda":
            return int(torch.cuda.mem_get_info(self.device)[0])
        return int(psutil.virtual_memory().available)

    def seed_of(self, *parts: object) -> int:
        """Derive a seed from the subject's seed and `parts`."""
        text = ":".join(map(str, (self.seed, *parts)))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")

    def generator(self, *parts: object) -> torch.Generator:
        """Return a CPU generator seeded with `seed_of(*parts)`."""
        return torch.Generator().manual_seed(self.seed_of(*parts))

    def refusal(self, workload: Workload) -> str | None:
        """Return the variant's reason for not supporting the workload, or None if the workload is supported.

        Raises Failed if `unsupported_reason` raises an exception.
        """
        reason: str | None = _guarded(
            "unsupported_reason", lambda: self.variant.unsupported_reason(workload, self.device_type)
        )
        return reason

    def require_support(self, workload: Workload) -> None:
        """Raise Skipped with the variant's reason if the variant declares the workload unsupported."""
        reason = self.refusal(workload)
        if reason is not None:
            raise Skipped(f"{workload.id}: {reason}", reason)

    def trial(self, workload: Workload, inputs: Inputs | None = None) -> Trial:
        """Prepare the variant for a workload, on the given inputs or on random ones.

        Checks overwrite the inputs after `prepare`, so a variant that computes its answer in `prepare` fails.
        Raises Skipped if the variant declares the workload unsupported, and Failed if `prepare` fails.
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
        """Overwrite the inputs in place with fresh random values, and return this trial."""
        refill(self.inputs, seed)
        return self

    def fill(self, **values: torch.Tensor) -> Trial:
        """Overwrite the named inputs in place with values of shape (B, H, S, D), and return this trial."""
        with torch.no_grad():
            for name, tensor in values.items():
                target = getattr(self.inputs, name)
                if target is not None:
                    in_bhsd(target, self.inputs.layout).copy_(tensor)
        return self

    def values(self, name: str) -> torch.Tensor:
        """Return a copy of the named input, with shape (B, H, S, D)."""
        copy: torch.Tensor = in_bhsd(getattr(self.inputs, name).detach(), self.inputs.layout).clone()
        return copy

    def output(self) -> Any:
        """Call the variant and return its output.

        Raises Failed if the call raises an exception or the output breaks the plugin contract.
        """
        output = _guarded("the callable", self.call)
        problem = output_problem(output, self.workload, self.inputs)
        if problem:
            raise Failed(problem)
        return output

    def run(self, *, backward: bool = True) -> Answer:
        """Call the variant, run its backward pass if the direction has one, and return the answer in BHSD layout.

        `backward=False` skips the backward pass. Raises Failed if a pass raises an exception, if the output or a
        gradient breaks the plugin contract, or if the inputs were changed.
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
        """Return dQ, dK and dV in the variant's layout.

        Raises Failed if the backward pass raises an exception or a gradient breaks the plugin contract.
        """
        leaves, grad_output = self.inputs.leaves, self.inputs.grad_output
        gradients = _guarded(
            "its backward pass", lambda: torch.autograd.grad(output, leaves, grad_output, allow_unused=True)
        )
        problem = gradients_problem(gradients, self.inputs)
        if problem:
            raise Failed(problem)
        return gradients  # type: ignore[no-any-return]

    def judge(self, answer: Answer, part: Part | None = None, *, slack: float = 1.0) -> None:
        """Raise Failed, naming the rule and the place, if the answer breaks an error rule.

        `slack` multiplies the tolerance of gradients. A variant that is not softmax attention (`exact` is False) has no
        reference, so its answer only has to be finite.
        """
        if not self.variant.exact:
            if not all_finite(*answer.tensors):
                raise Failed("the answer holds NaN or Inf")
            return
        result = compare(self.workload, self.inputs, self.variant.tier, answer, part, slack=slack)
        if not result.passed:
            raise Failed(result.reason or result.rule, result.bug)


def _guarded(what: str, step: Any) -> Any:
    """Run a step of the variant, and convert any exception into Raised, with the file and line that raised it."""
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
    """Describe how `output` breaks the contract in type, shape, dtype, device or storage, or return None if it doesn't.

    If `graph` is True, an output that requires gradients must also be connected to the inputs in the autograd graph.
    """
    if not isinstance(output, torch.Tensor):
        return f"the callable returned {type(output).__name__}: expected one tensor, the output"
    if problem := lazy_tensor_problem(output):
        return problem
    shape = output_shape(workload, inputs.layout)
    problems = (
        (tuple(output.shape) != shape, f"shape is {tuple(output.shape)}, expected {shape} (layout {inputs.layout})"),
        (output.dtype != dtype_of(workload), f"dtype is {output.dtype}, expected {dtype_of(workload)}"),
        (output.device != inputs.query.device, f"device is {output.device}, expected {inputs.query.device}"),
        (output.layout != torch.strided, f"tensor layout is {output.layout}, expected a dense (strided) tensor"),
        (
            graph and workload.needs_gradient and not output.requires_grad and output.numel() > 0,
            "autograd graph is missing: it is detached from the inputs, so autograd can't reach query, key and value",
        ),
    )
    problem = next((f"the output's {text}" for applies, text in problems if applies), None)
    if problem is None and storages(output) & storages(*(getattr(inputs, name) for name in TENSORS)):
        return "the output shares its storage with an input: return a fresh tensor from each call"
    return problem


def gradients_problem(gradients: tuple[torch.Tensor | None, ...] | None, inputs: Inputs) -> str | None:
    """Describe the first gradient that is missing or has a wrong shape or dtype, or return None if there is none."""
    for name, leaf, gradient in zip(("query", "key", "value"), inputs.leaves, gradients or (), strict=False):
        if gradient is None:
            return f"the gradient of {name} is missing: in autograd's graph, the output does not depend on {name}"
        if gradient.shape != leaf.shape or gradient.dtype != leaf.dtype:
            return (
                f"the gradient of {name} is {gradient.dtype} {tuple(gradient.shape)}, "
                f"expected {leaf.dtype} {tuple(leaf.shape)}"
            )
    return None


def storages(*tensors: torch.Tensor | None) -> set[int]:
    """Return the addresses of the tensors' storages; empty tensors and None are left out."""
    return {tensor.untyped_storage().data_ptr() for tensor in tensors if tensor is not None and tensor.numel()}


class LastOutput:
    """The memory of a call's output, by which a later output in the same memory is recognised.

    If `held` is true, an output of up to MAX_HELD_BYTES is kept allocated, so that no honest allocation can have its
    address. A larger output is not kept, so that the memory of the device limits the variant and not the harness. It is
    recognised only if the variant itself keeps its storage.
    """

    def __init__(self, output: torch.Tensor, *, held: bool = True) -> None:
        storage = output.untyped_storage()
        self._address = storage.data_ptr()
        self._storage = StorageWeakRef(storage)  # type: ignore[no-untyped-call] # torch does not annotate it
        self._held = output.detach() if held and storage.nbytes() <= MAX_HELD_BYTES else None

    def reused_by(self, output: torch.Tensor) -> bool:
        """Return whether a later output lies in memory that this output still occupies."""
        return self._address in storages(output) and not self._storage.expired()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Snapshot:
    """A fingerprint of the inputs, which detects writes to the inputs without storing a copy of them."""

    fingerprints: dict[str, tuple[Any, ...]]

    @classmethod
    def take(cls, inputs: Inputs) -> Snapshot:
        """Record each input's address, shape, strides, and a position-dependent sum of its bits."""
        tensors = ((name, getattr(inputs, name)) for name in TENSORS)
        return cls({name: _fingerprint(tensor) for name, tensor in tensors if tensor is not None})

    def problem(self, inputs: Inputs) -> str | None:
        """Describe the first input that changed since the snapshot, with a remedy, or return None if none did."""
        for name, before in self.fingerprints.items():
            after = _fingerprint(getattr(inputs, name))
            if after[:-1] != before[:-1]:
                return f"inputs.{name} was moved, resized or re-strided by the call: don't modify inputs"
            if after != before:
                return f"inputs.{name} was written to: don't modify inputs, write to a fresh tensor"
        return None


def _fingerprint(tensor: torch.Tensor) -> tuple[Any, ...]:
    """Return the tensor's address, shape, strides, and a position-dependent sum of its bits.

    The sum needs memory for one chunk of the tensor at a time.
    """
    where = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
    sums: list[torch.Tensor] = []
    odd_numbers = torch.empty(0, dtype=torch.int64)
    for chunk in chunks(tensor.detach().view(INTEGERS[tensor.element_size()])):
        if len(odd_numbers) < chunk.numel():  # the first chunk is the longest
            odd_numbers = torch.arange(1, 2 * chunk.numel(), 2, device=chunk.device)
        sums.append((chunk.reshape(-1) * odd_numbers[: chunk.numel()]).sum())
    total = 0
    for part in torch.stack(sums).tolist() if sums else ():
        total = (total * 31 + part) % (1 << 61)
    return (*where, total)
