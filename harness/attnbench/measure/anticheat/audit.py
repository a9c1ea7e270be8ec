"""Audit of one random call in each block, to detect outputs that are cached, unfinished or reused.

Before the audited call, the audit changes the inputs and fills the memory of the previous output with NaN. After the
call, it copies what will be checked of the new output.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from attnbench.conformance.plain_tensor import active_modes, lazy_tensor_problem, words_in_memory
from attnbench.conformance.subject import LastOutput
from attnbench.errors import MeasurementError, harness_work
from attnbench.measure.anticheat.audit_times import AuditTimes
from attnbench.reference import in_bhsd
from attnbench.tensors.chunks import chunks

if TYPE_CHECKING:
    from attnbench.measure.call import Result
    from attnbench.tensors.inputs import Inputs

_INTEGER_OF_SIZE = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.int8}
HOLD_PROBABILITY = 0.5  # probability of keeping the previous output allocated instead of freeing it


# The type of a function that copies what will be checked of a call's output and gradients.
Excerpt = Callable[[torch.Tensor, "tuple[torch.Tensor, ...] | None"], Any]


class Audit:
    """The audit of a cell, which changes the inputs before the audited call of each block and copies from its result.

    - `before` changes the content of the inputs in place, so that a cached output becomes wrong. It also fills the
      previous output with NaN. It then either frees that memory, so that uninitialised memory contains no answer, or
      keeps it allocated, so that a new output in the same memory is detected.
    - `after` takes an excerpt of the result as soon as the call returns, so the excerpt lacks any work that another
      thread or stream has not finished by then.
    - `maybe_keep_plain` takes an excerpt of the result of a randomly chosen ordinary call. The call is chosen after it
      has returned, so the variant can't find out beforehand which call is checked.

    Each block also has a repeat on unchanged inputs, before or after the audited call. `times` has the times of both
    calls for each block, which `audit_times` judges.
    """

    def __init__(self, inputs: Inputs, seed: str, excerpt: Excerpt) -> None:
        self._inputs = inputs
        self._random = random.Random(seed)  # noqa: S311 - the choices must be repeatable, not secret
        self._excerpt = excerpt
        self.static_output = False  # whether all calls may write to the same memory, as replays of a CUDA graph do
        self._modes = active_modes()
        self._last: LastOutput | None = None
        self._audited: Any = None  # the excerpt of the audited call
        self._plain: Any = None  # the excerpt of one ordinary call after the audited call
        self.times: list[AuditTimes] = []

    def draw_order(self) -> bool:
        """Return whether the audited call of the next block comes before the repeat, which a fair coin decides."""
        return self._random.random() < 0.5

    def draw_start(self, length_ns: float) -> float:
        """Return a random start time for the audited call, in ns since the start of a block that lasts `length_ns`."""
        return self._random.random() * length_ns

    @harness_work("changing the inputs")
    def before(self, last: Result | None, *, fresh: bool = True) -> None:
        """Change the content of the inputs, and fill the result of the previous call with NaN.

        If `fresh` is false, write the same content again. This is the same work, so the times of calls on changed and
        on unchanged inputs are comparable.
        """
        change_content(self._inputs, self._random, restore=not fresh)
        self._last = None
        if last is None:
            return
        poison(last)
        if not self.static_output:
            self._last = LastOutput(last[0], held=self._random.random() < HOLD_PROBABILITY)

    def after(self, result: Result) -> None:
        """Take an excerpt of the result.

        Raises MeasurementError if reading the result does work that the call has left, or if the output aliases the
        previous output.
        """
        excerpt = self._read(result)
        if self._last is not None and self._last.reused_by(result[0]):
            raise MeasurementError(
                "the output aliases the last output: a callable must return a fresh tensor from each call"
            )
        self._last = self._plain = None
        self._audited = excerpt

    def maybe_keep_plain(self, result: Result, probability: float) -> None:
        """With the given probability, take an excerpt of an ordinary call's result and discard the previous one."""
        if self._random.random() < probability:
            self._plain = self._read(result)

    def _read(self, result: Result) -> Any:
        """Return an excerpt of the result. Raises MeasurementError if reading it does work that the call has left.

        The memory is read first, before anything is done with the tensors that a variant could notice.
        """
        if active_modes() != self._modes:
            raise MeasurementError(
                "lazy output: the call entered a mode of torch and did not leave it, and such a mode may delay the "
                "work until the output is read: leave the mode before the call returns"
            )
        tensors = (result[0], *(result[1] or ()))
        if problem := next(filter(None, map(lazy_tensor_problem, tensors)), None):
            raise MeasurementError(problem)
        before = list(map(words_in_memory, tensors))
        excerpt = self._excerpt(*result)
        if list(map(words_in_memory, tensors)) != before:
            raise MeasurementError(
                "lazy output: its memory changed after the call had returned, while it was being read; a callable must "
                "do all its work before it returns"
            )
        return excerpt

    def take_excerpts(self) -> list[Any]:
        """Return the excerpts of the last block's audited call and, if one was kept, of an ordinary call.

        The audit keeps no reference to them.
        """
        excerpts = [excerpt for excerpt in (self._audited, self._plain) if excerpt is not None]
        self._audited = self._plain = None
        return excerpts

    def add_times(self, fresh_ns: float, repeat_ns: float, plain_ns: Sequence[float]) -> None:
        """Add the times of one block in ns: of the audited call, of the repeat, and of the ordinary calls."""
        usual = sorted(plain_ns)[: math.ceil(0.9 * len(plain_ns))]
        self.times.append(AuditTimes(fresh_ns, repeat_ns, max(usual, default=math.inf)))


def change_content(inputs: Inputs, generator: random.Random, *, restore: bool = False) -> None:
    """Roll each floating-point input tensor in place by random shifts along the sequence and head_dim axes.

    A roll is cheap and changes the correct output, but keeps the distribution of the values and the tensor's address.
    Each chunk of a large tensor is rolled by itself, twice. With `restore`, the second roll undoes the first one. The
    duration of a roll depends on its shifts, and threads that wait for work fall asleep after a while, so only equal
    work leaves the machine in the same state. The tensors are written through `.data`, which does not increase their
    version counters, so a cache keyed by version counters returns a wrong output.
    """
    for tensor in (inputs.query, inputs.key, inputs.value, inputs.grad_output):
        if tensor is None or tensor.numel() == 0:
            continue
        for chunk in chunks(in_bhsd(tensor.data, inputs.layout)):
            axes = tuple(range(-min(2, chunk.dim()), 0))
            sizes = [chunk.shape[axis] for axis in axes]
            there = [generator.randrange(size) for size in sizes]
            back = [-shift for shift in there]
            onwards = [generator.randrange(size) for size in sizes]
            if not any((shift + more) % size for shift, more, size in zip(there, onwards, sizes, strict=True)):
                onwards[0] += 1  # the two rolls would restore the content
            for shifts in (there, back if restore else onwards):
                chunk.copy_(chunk.roll(shifts, axes))


def poison(result: Result) -> None:
    """Fill the tensors of a result with NaN, so that their memory does not contain the answer after it is freed."""
    for tensor in (result[0], *(result[1] or ())):
        if tensor.is_floating_point():
            tensor.data.fill_(float("nan"))


@harness_work("summing the inputs")
def checksums(inputs: Inputs) -> tuple[int, ...]:
    """Return a checksum of each input tensor: the sum of its elements' bit patterns, read as integers.

    The checksums do not depend on the order of the elements, so `change_content` preserves them.
    """
    tensors = (
        inputs.query, inputs.key, inputs.value, inputs.grad_output,
        inputs.key_lengths, inputs.document_ids, inputs.alibi_slopes,
    )  # fmt: skip
    return tuple(_sum_of_bits(tensor) for tensor in tensors if tensor is not None)


def _sum_of_bits(tensor: torch.Tensor) -> int:
    bits = tensor.data.view(_INTEGER_OF_SIZE[tensor.element_size()])
    sums = [chunk.sum(dtype=torch.int64) for chunk in chunks(bits)]
    return int(torch.stack(sums).sum()) if sums else 0
