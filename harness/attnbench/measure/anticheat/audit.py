"""One random call of each block is audited: on fresh inputs, over poisoned memory, its output kept for a recheck."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import torch

from attnbench.errors import MeasurementError

if TYPE_CHECKING:
    from attnbench.measure.call import Result
    from attnbench.tensors.inputs import Inputs

_WORD = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.int8}
REPEATS_TO_JUDGE = 8  # of each kind: on a crowded machine a few calls in a row are slow by chance
MEMO_RATIO = 1.5
FAVOURED_RATIO = 3.0  # of calls on tensors just written to over all others; caches alone explain less
FAVOURED_NS = 50_000.0  # and this much more, for calls so short that cold caches treble them
HOLDING = 0.5  # chance that the last output is held instead of freed


class Audit:
    """What is done around an audited call, and what it brought to light.

    `before` gives the inputs a new content in place, so that a cached output is out of date, and either poisons the
    last output before its memory is freed, so that uninitialised memory holds no answer, or holds it, so that an output
    in the same memory shows. `after` keeps a copy of what the call has written by then: work that another thread or
    stream still has to do is missing from it. `look_back` keeps the output of a plain call in the same way, chosen only
    when it has returned, so that the call can't know. The repeat at the end of a block shows what a cache would save.
    """

    def __init__(self, inputs: Inputs, seed: str) -> None:
        self._inputs = inputs
        self._random = random.Random(seed)  # noqa: S311 - choices that must be repeatable, not secret
        self.static_output = False  # a replayed graph writes to the same memory each time, and may
        self._held: torch.Tensor | None = None
        self.output: torch.Tensor | None = None
        self.grads: tuple[torch.Tensor, ...] | None = None
        self.plain: Result | None = None  # copies of the output and gradients of a plain call since `after`
        self.fresh_ns: list[float] = []
        self.repeat_ns: list[float] = []

    def moment(self, length_ns: float) -> float:
        """Draw when, in a block of `length_ns`, the audited call is to start."""
        return self._random.random() * length_ns

    def before(self, last: Result | None, *, fresh: bool = True) -> None:
        """Change the inputs' content, and poison or hold the last result.

        Not `fresh`, it does the same work but leaves the content: what the call then takes can be compared.
        """
        freshen(self._inputs, self._random if fresh else None)
        self._held = None
        if last is None:
            return
        poison(last)
        if not self.static_output and self._random.random() < HOLDING:
            self._held = last[0]

    def after(self, result: Result) -> None:
        """Keep copies of the result; raises MeasurementError for an output that is not what it seems."""
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
        self.output, self.grads = _copied(result)

    def look_back(self, result: Result, chance: float) -> None:
        """Keep copies of a plain call's result with a probability of `chance`; the last one kept counts."""
        if type(result[0]) is torch.Tensor and self._random.random() < chance:
            self.plain = _copied(result)

    def favoured(self, plain_ns: list[float]) -> str | None:
        """Say so when all audited calls took far longer than the plain ones of the last block."""
        audited = self.fresh_ns + self.repeat_ns
        if min(len(self.fresh_ns), len(self.repeat_ns)) < REPEATS_TO_JUDGE or len(plain_ns) < REPEATS_TO_JUDGE:
            return None
        usual, least = max(sorted(plain_ns)[: math.ceil(0.9 * len(plain_ns))]), min(audited)
        if least <= FAVOURED_RATIO * usual + FAVOURED_NS:
            return None
        return (
            f"cached output: the fastest of {len(audited)} audited calls took {least / 1e3:.1f} us, nine in ten others "
            f"at most {usual / 1e3:.1f} us; a callable must do all its work at each call"
        )

    def memo(self) -> str | None:
        """Say so when each call on fresh inputs took longer than any repeat on the same inputs."""
        if min(len(self.fresh_ns), len(self.repeat_ns)) < REPEATS_TO_JUDGE:
            return None
        fresh, repeat = min(self.fresh_ns), max(self.repeat_ns)
        if fresh <= MEMO_RATIO * repeat:
            return None
        return (
            f"cached output: the fastest of {len(self.fresh_ns)} calls on fresh inputs took {fresh / 1e3:.1f} us, the "
            f"slowest repeat on the same inputs {repeat / 1e3:.1f} us; a callable must do all its work at each call"
        )


def freshen(inputs: Inputs, generator: random.Random | None) -> None:
    """Roll each floating tensor along sequence and head_dim by random shifts, in place; by 0 without a generator.

    This costs one copy and keeps distribution and address, yet makes another problem of it. It goes through `.data`,
    which leaves version counters alone, so a cache keyed by them can't notice.
    """
    sequence = 2 if inputs.layout == "BHSD" else 1
    for tensor in (inputs.query, inputs.key, inputs.value, inputs.grad_output):
        if tensor is None or tensor.numel() == 0:
            continue
        shifts = [generator.randrange(tensor.shape[dim]) if generator else 0 for dim in (sequence, 3)]
        tensor.data.copy_(tensor.data.roll(shifts, (sequence, 3)))


def poison(result: Result) -> None:
    """Fill what a call returned with NaN, so that its memory, once freed, holds no answer."""
    for tensor in (result[0], *(result[1] or ())):
        if tensor.is_floating_point():
            tensor.data.fill_(float("nan"))


def fingerprint(inputs: Inputs) -> tuple[int, ...]:
    """Give a sum over the bits of each input tensor, which `freshen` leaves as it is."""
    tensors = (
        inputs.query, inputs.key, inputs.value, inputs.grad_output,
        inputs.key_lengths, inputs.document_ids, inputs.alibi_slopes,
    )  # fmt: skip
    return tuple(
        int(tensor.data.view(_WORD[tensor.element_size()]).sum(dtype=torch.int64))
        for tensor in tensors
        if tensor is not None
    )


def _copied(result: Result) -> Result:
    output, grads = result
    return output.detach().clone(), None if grads is None else tuple(grad.detach().clone() for grad in grads)


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
