"""Audit of one random call in each block, to detect outputs that are cached, unfinished or reused.

Before the audited call, the audit changes the inputs and fills the memory of the previous output with NaN. After the
call, it copies what will be checked of the new output.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from attnbench.conformance.subject import LastOutput
from attnbench.errors import MeasurementError, harness_work
from attnbench.reference import in_bhsd
from attnbench.tensors.chunks import chunks

if TYPE_CHECKING:
    from attnbench.measure.call import Result
    from attnbench.tensors.inputs import Inputs

_INTEGER_OF_SIZE = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.int8}
# Times are compared only if there are at least this many calls of each kind, because a few successive calls may be slow
# by chance on a busy machine.
MIN_CALLS_TO_JUDGE = 8
# A variant is assumed to cache its output if its fastest call on changed inputs takes more than this many times as long
# as its slowest repeat on unchanged inputs.
FRESH_RATIO = 1.5
# A variant is also assumed to cache its output if even its fastest audited call takes longer than AUDITED_RATIO times
# the duration of an ordinary call plus AUDITED_EXTRA_NS. An honest variant's audited calls are slower too, because they
# read tensors that were just written, but by a smaller factor. The extra time allows for a cold cache, which may triple
# the duration of a very short call.
AUDITED_RATIO = 3.0
AUDITED_EXTRA_NS = 50_000.0
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

    The last call of a block is a repeat on unchanged inputs. If repeats are much faster than audited calls on changed
    inputs, the variant caches its output.
    """

    def __init__(self, inputs: Inputs, seed: str, excerpt: Excerpt) -> None:
        self._inputs = inputs
        self._random = random.Random(seed)  # noqa: S311 - the choices must be repeatable, not secret
        self._excerpt = excerpt
        self.static_output = False  # whether all calls may write to the same memory, as replays of a CUDA graph do
        self._last: LastOutput | None = None
        self._audited: Any = None  # the excerpt of the audited call
        self._plain: Any = None  # the excerpt of one ordinary call after the audited call
        self.fresh_ns: list[float] = []
        self.repeat_ns: list[float] = []

    def draw_start(self, length_ns: float) -> float:
        """Return a random start time for the audited call, in ns since the start of a block that lasts `length_ns`."""
        return self._random.random() * length_ns

    @harness_work("changing the inputs")
    def before(self, last: Result | None, *, fresh: bool = True) -> None:
        """Change the content of the inputs, and fill the result of the previous call with NaN.

        If `fresh` is false, write the same content again. This is the same amount of work, so the times of calls on
        changed and on unchanged inputs are comparable.
        """
        change_content(self._inputs, self._random if fresh else None)
        self._last = None
        if last is None:
            return
        poison(last)
        if not self.static_output:
            self._last = LastOutput(last[0], held=self._random.random() < HOLD_PROBABILITY)

    def after(self, result: Result) -> None:
        """Take an excerpt of the result.

        Raises MeasurementError if the output is a tensor subclass or aliases the previous output.
        """
        output = result[0]
        if type(output) is not torch.Tensor:
            raise MeasurementError(
                f"lazy tensor subclass: the output is a {type(output).__name__}, expected a plain torch.Tensor, "
                "because a subclass may delay its work until it is read"
            )
        if self._last is not None and self._last.reused_by(output):
            raise MeasurementError(
                "the output aliases the last output: a callable must return a fresh tensor from each call"
            )
        self._last = self._plain = None
        self._audited = self._excerpt(*result)

    def maybe_keep_plain(self, result: Result, probability: float) -> None:
        """With the given probability, take an excerpt of an ordinary call's result and discard the previous one."""
        if type(result[0]) is torch.Tensor and self._random.random() < probability:
            self._plain = self._excerpt(*result)

    def take_excerpts(self) -> list[Any]:
        """Return the excerpts of the last block's audited call and, if one was kept, of an ordinary call.

        The audit keeps no reference to them.
        """
        excerpts = [excerpt for excerpt in (self._audited, self._plain) if excerpt is not None]
        self._audited = self._plain = None
        return excerpts

    def slow_audited_calls(self, plain_ns: list[float]) -> str | None:
        """Return a finding if even the fastest audited call took far longer than most ordinary calls.

        `plain_ns` contains the times of the ordinary calls in the last block.
        """
        audited = self.fresh_ns + self.repeat_ns
        if min(len(self.fresh_ns), len(self.repeat_ns), len(plain_ns)) < MIN_CALLS_TO_JUDGE:
            return None
        usual, least = max(sorted(plain_ns)[: math.ceil(0.9 * len(plain_ns))]), min(audited)
        if least <= AUDITED_RATIO * usual + AUDITED_EXTRA_NS:
            return None
        return (
            f"cached output: the fastest of {len(audited)} audited calls took {least / 1e3:.1f} us, but 90% of the "
            f"other calls took at most {usual / 1e3:.1f} us; a callable must do all its work at each call"
        )

    def slow_fresh_calls(self) -> str | None:
        """Return a finding if even the fastest call on changed inputs took far longer than the slowest repeat."""
        if min(len(self.fresh_ns), len(self.repeat_ns)) < MIN_CALLS_TO_JUDGE:
            return None
        fresh, repeat = min(self.fresh_ns), max(self.repeat_ns)
        if fresh <= FRESH_RATIO * repeat:
            return None
        return (
            f"cached output: the fastest of {len(self.fresh_ns)} calls on changed inputs took {fresh / 1e3:.1f} us, "
            f"but the slowest repeat took {repeat / 1e3:.1f} us; a callable must do all its work at each call"
        )


def change_content(inputs: Inputs, generator: random.Random | None) -> None:
    """Roll each floating-point input tensor in place by random shifts along the sequence and head_dim axes.

    A roll is cheap and changes the correct output, but keeps the distribution of the values and the tensor's address.
    Each chunk of a large tensor is rolled by itself. Without a generator, the shifts are 0, which takes the same amount
    of work. The tensors are written through `.data`, which does not increase their version counters, so a cache keyed
    by version counters returns a wrong output.
    """
    for tensor in (inputs.query, inputs.key, inputs.value, inputs.grad_output):
        if tensor is None or tensor.numel() == 0:
            continue
        for chunk in chunks(in_bhsd(tensor.data, inputs.layout)):
            axes = tuple(range(-min(2, chunk.dim()), 0))
            shifts = [generator.randrange(chunk.shape[axis]) if generator else 0 for axis in axes]
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
