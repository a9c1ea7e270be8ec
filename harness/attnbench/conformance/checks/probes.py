"""Probes: inputs made so that the right answer is known exactly, and a wrong one says what was read instead."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from attnbench.conformance.check import Failed, Skipped
from attnbench.reference import visible

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnbench.conformance.accuracy import Answer
    from attnbench.conformance.subject import Subject
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload

GAP = 40.0  # a logit this far below the largest has a weight of 4e-18: nothing, in every dtype
SPECIAL = (0, 1, 63, 64, 127, 128, -2, -1)  # keys at which tiles begin and end
HUGE = 1e4
COHERENT = 16.0  # equal rows of queries make equal rounding errors, which add up in the gradients of huge logits
ALIKE = 4.0  # as much for logits of ordinary size: torch's nested tensors reach 2.5 at a head_dim of 160
FLOAT16_HUGE = 3e4  # of the unscaled product: plain float16 holds no more than 65504
CLIMB = 40.0
CROWD, FEW = 4000, 2  # as many keys e^-12 below count for 1% beside so many above
SPREAD = 0.3  # of queries that point one way
MODES = 5  # kinds of targets
ROUNDS = 3  # in which each query gets as many kinds
ULPS = 4.0  # float32 answers may be off by the rounding of one exponential


def needle(subject: Subject, workload: Workload) -> None:
    """Give every query one key that outweighs all others by e^40; the output is that key's value, exactly.

    Keys carry the binary digits of their position, different in each head, and values are small integers, so that a
    wrong answer tells which key was read. Targets are the first and last visible key, the keys where tiles begin
    and end, random ones, and the hidden neighbours of the visible range, which must leave no trace.
    """
    if workload.softcap is not None or workload.alibi:
        raise Skipped("the needle needs scores without softcap and bias")
    trial = subject.trial(workload)
    generator = subject.generator("needle", workload.id)
    for round_number in range(ROUNDS):
        codes = _key_codes(workload, generator)
        targets, seen = _targets(workload, trial.inputs, generator, round_number)
        amplitude = _amplitude(workload)
        group = workload.heads // workload.kv_heads
        shape = (workload.batch, workload.kv_heads, workload.seq_k, workload.head_dim_v)
        value = torch.randint(1, 128, shape, generator=generator) * _signs(
            shape, generator
        )  # never 0, of which other values' traces are no rounding
        index = targets[..., None].expand(-1, -1, -1, workload.head_dim)
        query = amplitude * codes.repeat_interleave(group, 1).gather(2, index)
        shape = (workload.batch, workload.heads, workload.seq_q, workload.head_dim_v)
        trial.fill(query=query, key=codes, value=value, grad_output=torch.randint(-2, 3, shape, generator=generator))
        answer = trial.run(backward=round_number == ROUNDS - 1)
        _judge_needle(workload, answer, value, targets, seen)
        if subject.variant.tier != "quantised":  # 8 bits round equal codes alike: who wins a tie is no fault
            trial.judge(answer)


def gap(subject: Subject, workload: Workload) -> None:
    """Put all keys but a few at a logit 6 below the best: their weight of e^-6 each shows any error of the scale.

    Where there are thousands, all but the first two are 12 to 13 below, then all but the last two: together they
    count. They differ, because equal ones added to a larger sum in float32 all lose the same digits, honestly.
    """
    trial = subject.trial(workload)
    generator = subject.generator("gap", workload.id)
    w = workload
    direction = _signs((w.batch, w.kv_heads, 1, w.head_dim), generator)
    query = direction.repeat_interleave(w.heads // w.kv_heads, 1).expand(-1, -1, w.seq_q, -1)
    place, drawn = torch.arange(w.seq_k)[:, None], torch.rand((w.batch, w.kv_heads, w.seq_k, 1), generator=generator)
    crowded = [(place >= FEW) * (12.0 + drawn), (place < w.seq_k - FEW) * (12.0 + drawn)]
    for depth in crowded if w.seq_k >= CROWD else [6.0 * (drawn > 0.1)]:
        key = direction * depth / (-w.head_dim * w.effective_scale)
        trial.refill(subject.seed_of("gap", workload.id)).fill(query=query, key=key)
        trial.judge(trial.run(), slack=ALIKE)


def huge(subject: Subject, workload: Workload) -> None:
    """Scores of about 1e4 and -1e4, mixed and alone in a row, neither overflow nor underflow.

    Their products sum without rounding in float32: else equal scores would come out unequal by the order of the sum,
    which is no fault, and a last digit of 1e4 is much for an exponential.
    """
    trial = subject.trial(workload)
    generator = subject.generator("huge", workload.id)
    w = workload
    size = HUGE / w.effective_scale
    if w.dtype == "float16" and subject.variant.tier == "plain":
        size = min(size, FLOAT16_HUGE)
    side = _of_few_digits(math.sqrt(size / w.head_dim))
    signs = _signs((w.batch, w.kv_heads, 1, w.head_dim), generator)
    of_key = _signs((w.batch, w.kv_heads, w.seq_k, 1), generator)
    of_key *= 1 - 0.25 * torch.randint(0, 2, of_key.shape, generator=generator)  # so that a bound on scores shows
    of_query = _signs((w.batch, w.heads, w.seq_q, 1), generator)
    query = side * signs.repeat_interleave(w.heads // w.kv_heads, 1) * of_query
    for keys in (of_key, torch.ones_like(of_key), -torch.ones_like(of_key)):
        trial.refill(subject.seed_of("huge", workload.id)).fill(query=query, key=side * signs * keys)
        trial.judge(trial.run(), slack=COHERENT)


def climb(subject: Subject, workload: Workload) -> None:
    """Let the scores climb by 2 CLIMB from the first key to the last, then fall: each tile has a larger maximum."""
    trial = subject.trial(workload)
    generator = subject.generator("climb", workload.id)
    w = workload
    direction = _signs((w.batch, w.kv_heads, 1, w.head_dim), generator)
    steepness = 0.5 + torch.rand((w.batch, w.heads, w.seq_q, 1), generator=generator)
    query = direction.repeat_interleave(w.heads // w.kv_heads, 1) * steepness
    ramp = torch.linspace(-1, 1, w.seq_k)[:, None] * CLIMB / (w.head_dim * w.effective_scale)
    for slope in (1, -1):
        noise = 0.1 * torch.randn((w.batch, w.kv_heads, w.seq_k, w.head_dim), generator=generator)
        trial.refill(subject.seed_of("climb", workload.id, slope)).fill(
            query=query, key=slope * ramp * direction + noise
        )
        trial.judge(trial.run())


def uniform(subject: Subject, workload: Workload) -> None:
    """With all scores equal the output is the mean of the visible values; with all values equal it is that value."""
    trial = subject.trial(workload)
    trial.refill(subject.seed_of("uniform", workload.id)).fill(key=torch.zeros_like(trial.values("key")))
    trial.judge(trial.run())
    trial.refill(subject.seed_of("constant", workload.id))
    trial.fill(value=trial.values("value")[:, :, :1].expand(-1, -1, workload.seq_k, -1))
    trial.judge(trial.run())


def magnitudes(subject: Subject, workload: Workload) -> None:
    """Give inputs sizes that training and serving do: rows of exact zeros, far means, large values, faint gradients."""
    for text, change in MAGNITUDES.items():
        trial = subject.trial(workload).refill(subject.seed_of("magnitudes", workload.id, text))
        names = ("query", "key", "value") + (("grad_output",) if workload.needs_gradient else ())
        trial.fill(**{name: changed for name in names if (changed := change(name, trial.values(name))) is not None})
        try:
            trial.judge(trial.run())
        except Failed as failure:
            raise Failed(f"with {text}: {failure}") from failure


def _zero_rows(_: str, tensor: torch.Tensor) -> torch.Tensor:
    tensor[:, :, ::3] = 0.0
    return tensor


MAGNITUDES: dict[str, Callable[[str, torch.Tensor], torch.Tensor | None]] = {
    "every third row of each input exactly 0": _zero_rows,
    "a mean of 8 in the values": lambda name, tensor: tensor + 8 if name == "value" else None,
    "values a thousand times as large": lambda name, tensor: 1024 * tensor if name == "value" else None,
    "gradients of 2^-15 of their size": lambda name, tensor: tensor / 32768 if name == "grad_output" else None,
}


def coherent(subject: Subject, workload: Workload) -> None:
    """Have all queries and all of their gradients point one way, so that nothing cancels in the gradients of keys."""
    if not workload.needs_gradient:
        raise Skipped("the variant has no backward pass")
    trial = subject.trial(workload).refill(subject.seed_of("coherent", workload.id))
    pulls = ("query", "grad_output")
    generator = subject.generator("coherent", workload.id)
    alike = {name: 1 + SPREAD * torch.randn(trial.values(name).shape, generator=generator) for name in pulls}
    trial.fill(**alike)
    trial.judge(trial.run())


def single_key(subject: Subject, workload: Workload) -> None:
    """With one key the softmax is 1: the output is its value, bit by bit, in float32 but for ULPS."""
    if workload.seq_k != 1:
        raise Skipped(f"the nearest workload that the variant supports has {workload.seq_k} keys")
    trial = subject.trial(workload).refill(subject.seed_of("single", workload.id))
    answer = trial.run()
    group = workload.heads // workload.kv_heads
    expected = trial.values("value").repeat_interleave(group, 1).expand_as(answer.output)
    seen = torch.stack([_visible(workload, trial.inputs, batch) for batch in range(workload.batch)])[:, None]
    expected = expected * seen.to(expected)
    if not bool(((answer.output - expected).abs() <= _rounding(workload) * expected.abs()).all()):
        raise Failed(f"one key, so the output must be its value; it is off by up to {_off(answer.output, expected)}")
    trial.judge(answer)


def _rounding(workload: Workload) -> float:
    """Give how far, relatively, a value may come back: float32 has no wider type that its last digits vanish in."""
    return ULPS * torch.finfo(torch.float32).eps if workload.dtype == "float32" else 0.0


def _of_few_digits(number: float) -> float:
    """Round to four binary digits."""
    step = 2.0 ** (math.floor(math.log2(number)) - 3)
    return step * round(number / step)


def _signs(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    return torch.randint(0, 2, shape, generator=generator) * 2.0 - 1


def _off(got: torch.Tensor, expected: torch.Tensor) -> str:
    return f"{float((got.double() - expected.double()).abs().max()):.3g}"


def _visible(workload: Workload, inputs: Inputs, batch: int) -> torch.Tensor:
    return visible(workload, inputs, batch, torch.arange(workload.seq_q, device=inputs.query.device))


def _key_codes(workload: Workload, generator: torch.Generator) -> torch.Tensor:
    """Write each key's position in binary as +1 and -1 over head_dim: (B, Hkv, Sk, D), scrambled in each head."""
    w = workload
    digits = _digits(w)
    if digits > w.head_dim:
        raise Skipped(f"head_dim {w.head_dim} is too small to tell {w.seq_k} keys apart")
    scramble = torch.randint(0, 1 << digits, (w.batch, w.kv_heads, 1), generator=generator)
    places = torch.arange(w.seq_k) ^ scramble
    bits = (places[..., None] >> (torch.arange(w.head_dim) % digits)) & 1
    return bits * 2.0 - 1


def _digits(workload: Workload) -> int:
    return max(1, (workload.seq_k - 1).bit_length())


def _amplitude(workload: Workload) -> float:
    """Give the power of two by which a query's code outweighs every other key by at least GAP."""
    repeats = workload.head_dim // _digits(workload)
    return 2.0 ** math.ceil(math.log2(GAP / (2 * repeats * workload.effective_scale)))


def _targets(
    workload: Workload, inputs: Inputs, generator: torch.Generator, round_number: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose each query's target key, (B, Hq, Sq), and say whether the query sees it."""
    w = workload
    targets = torch.zeros((w.batch, w.heads, w.seq_q), dtype=torch.long)
    hits = torch.zeros_like(targets, dtype=torch.bool)
    special = torch.tensor([place % w.seq_k for place in SPECIAL])
    rows = torch.arange(w.seq_q)
    for batch in range(w.batch):
        seen = _visible(w, inputs, batch).cpu()
        first = seen.int().argmax(-1)
        last = w.seq_k - 1 - seen.int().flip(-1).argmax(-1)
        weights = seen.float() + (~seen.any(-1, keepdim=True)).float()
        for head in range(w.heads):
            drawn = torch.multinomial(weights, 1, generator=generator)[:, 0]
            marked = special[(rows + head + round_number) % len(special)]
            marked = torch.where(seen[rows, marked], marked, drawn)
            choices = torch.stack([marked, first, last, (last + 1) % w.seq_k, (first - 1) % w.seq_k])
            targets[batch, head] = choices[(rows + head + round_number) % MODES, rows]
            hits[batch, head] = seen[rows, targets[batch, head]]
    return targets, hits


def _judge_needle(
    workload: Workload, answer: Answer, value: torch.Tensor, targets: torch.Tensor, seen: torch.Tensor
) -> None:
    group = workload.heads // workload.kv_heads
    index = targets[..., None].expand(-1, -1, -1, workload.head_dim_v)
    expected = value.repeat_interleave(group, 1).gather(2, index)
    got = answer.output.float().cpu()
    wrong = (~((got - expected).abs() <= _rounding(workload) * expected.abs())).any(-1) & seen
    if not wrong.any():
        return
    batch, head, row = (int(place) for place in wrong.nonzero()[0])
    found = _whose_value(got[batch, head, row], value)
    raise Failed(
        f"needle: query row {row} of batch {batch}, head {head} must give the value of key "
        f"{int(targets[batch, head, row])} of key head {head // group} exactly; it gave {found}. "
        f"Wrong in {int(wrong.sum())} of {int(seen.sum())} rows"
    )


def _whose_value(got: torch.Tensor, value: torch.Tensor) -> str:
    """Say which key's value a row is."""
    matches = ((value - got).abs() < 0.5).all(-1).nonzero()
    if len(matches):
        batch, head, key = (int(place) for place in matches[0])
        return f"the value of key {key} of key head {head}, batch {batch}"
    if not got.isfinite().all():
        return "NaN or Inf"
    return "0" if not got.any() else "a mixture of values"
