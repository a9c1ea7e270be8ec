"""The audit of one random call in each block: new inputs, NaN in old memory, and a copy of the output to check."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import torch

from attnbench.errors import MeasurementError

if TYPE_CHECKING:
    from attnbench.measure.call import Result
    from attnbench.tensors.inputs import Inputs

_INTEGER_OF_SIZE = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.int8}
REPEATS_TO_JUDGE = 8  # of each kind; on a busy machine a few calls in a row may be slow by chance
FRESH_RATIO = 1.5
AUDITED_RATIO = 3.0  # calls on tensors that were just written to, over all others; caches alone explain less
AUDITED_EXTRA_NS = 50_000.0  # on top of the ratio, because a cold cache may treble the time of a very short call
HOLD_PROBABILITY = 0.5  # that the last output is kept allocated instead of being freed


class Audit:
    """Prepares and checks the audited call of each block.

    - `before` changes the content of the inputs in place, so that a cached output becomes wrong. It also overwrites the
      last output with NaN. Then it frees that memory, so that uninitialised memory holds no answer, or keeps it
      allocated, so that an output in the same memory is detected.
    - `after` copies the result as soon as the call has returned. Work that another thread or stream has not finished
      by then is missing from the copy.
    - `maybe_copy_plain` copies the result of an ordinary call in the same way. It chooses the call after it has
      returned, so that the variant can't know beforehand which call is checked.

    The repeat at the end of a block, on unchanged inputs, shows how much time a cache of outputs would save.
    """

    def __init__(self, inputs: Inputs, seed: str) -> None:
        self._inputs = inputs
        self._random = random.Random(seed)  # noqa: S311 - the choices must be repeatable, not secret
        self.static_output = False  # whether each call may write to the same memory, as the replays of a graph do
        self._held: torch.Tensor | None = None
        self.output: torch.Tensor | None = None
        self.grads: tuple[torch.Tensor, ...] | None = None
        self.plain: Result | None = None  # copies of output and gradients of an ordinary call after the audited one
        self.fresh_ns: list[float] = []
        self.repeat_ns: list[float] = []

    def draw_start(self, length_ns: float) -> float:
        """Return a random time, in ns after the start of a block of `length_ns`, for the audited call."""
        return self._random.random() * length_ns

    def before(self, last: Result | None, *, fresh: bool = True) -> None:
        """Change the content of the inputs, and overwrite the last result with NaN.

        Without `fresh`, it does the same work but leaves the content as it is, so that the times of the two calls can
        be compared.
        """
        change_content(self._inputs, self._random if fresh else None)
        self._held = None
        if last is None:
            return
        poison(last)
        if not self.static_output and self._random.random() < HOLD_PROBABILITY:
            self._held = last[0]

    def after(self, result: Result) -> None:
        """Copy the result. Raises MeasurementError if the output is no plain tensor or aliases the last one."""
        output = result[0]
        if type(output) is not torch.Tensor:
            raise MeasurementError(
                f"lazy tensor subclass: the output is a {type(output).__name__}, expected a plain torch.Tensor, "
                "because a subclass may put its work off until it is read"
            )
        if self._held is not None and _address(self._held) == _address(output):
            raise MeasurementError(
                "the output aliases the last output: a callable must return a fresh tensor at each call"
            )
        self._held = self.plain = None
        self.output, self.grads = _copy(result)

    def maybe_copy_plain(self, result: Result, probability: float) -> None:
        """Copy the result of an ordinary call with this probability; it replaces an earlier copy."""
        if type(result[0]) is torch.Tensor and self._random.random() < probability:
            self.plain = _copy(result)

    def slow_audited_calls(self, plain_ns: list[float]) -> str | None:
        """Return a finding if all audited calls took far longer than the ordinary calls of the last block."""
        audited = self.fresh_ns + self.repeat_ns
        if min(len(self.fresh_ns), len(self.repeat_ns)) < REPEATS_TO_JUDGE or len(plain_ns) < REPEATS_TO_JUDGE:
            return None
        usual, least = max(sorted(plain_ns)[: math.ceil(0.9 * len(plain_ns))]), min(audited)
        if least <= AUDITED_RATIO * usual + AUDITED_EXTRA_NS:
            return None
        return (
            f"cached output: the fastest of {len(audited)} audited calls took {least / 1e3:.1f} us, nine in ten others "
            f"at most {usual / 1e3:.1f} us; a callable must do all its work at each call"
        )

    def slow_fresh_calls(self) -> str | None:
        """Return a finding if each call on changed inputs took longer than any repeat on the same inputs."""
        if min(len(self.fresh_ns), len(self.repeat_ns)) < REPEATS_TO_JUDGE:
            return None
        fresh, repeat = min(self.fresh_ns), max(self.repeat_ns)
        if fresh <= FRESH_RATIO * repeat:
            return None
        return (
            f"cached output: the fastest of {len(self.fresh_ns)} calls on changed inputs took {fresh / 1e3:.1f} us, "
            f"the slowest repeat on the same inputs {repeat / 1e3:.1f} us; a callable must do all its work at each call"
        )


def change_content(inputs: Inputs, generator: random.Random | None) -> None:
    """Roll each floating-point tensor along sequence and head_dim by random shifts, in place.

    Without a generator the shifts are 0, so that only the work is done. A roll costs one copy; it keeps the
    distribution and the address of the values, but makes another problem of them. It is written through `.data`, which
    does not increase version counters, so a cache that is keyed by them is not invalidated.
    """
    sequence = 2 if inputs.layout == "BHSD" else 1
    for tensor in (inputs.query, inputs.key, inputs.value, inputs.grad_output):
        if tensor is None or tensor.numel() == 0:
            continue
        shifts = [generator.randrange(tensor.shape[dim]) if generator else 0 for dim in (sequence, 3)]
        tensor.data.copy_(tensor.data.roll(shifts, (sequence, 3)))


def poison(result: Result) -> None:
    """Overwrite a result with NaN, so that its memory holds no answer after it is freed."""
    for tensor in (result[0], *(result[1] or ())):
        if tensor.is_floating_point():
            tensor.data.fill_(float("nan"))


def checksums(inputs: Inputs) -> tuple[int, ...]:
    """Return the sum of each input tensor's bit patterns as integers, which `change_content` does not change."""
    tensors = (
        inputs.query, inputs.key, inputs.value, inputs.grad_output,
        inputs.key_lengths, inputs.document_ids, inputs.alibi_slopes,
    )  # fmt: skip
    return tuple(
        int(tensor.data.view(_INTEGER_OF_SIZE[tensor.element_size()]).sum(dtype=torch.int64))
        for tensor in tensors
        if tensor is not None
    )


def _copy(result: Result) -> Result:
    output, grads = result
    return output.detach().clone(), None if grads is None else tuple(grad.detach().clone() for grad in grads)


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
