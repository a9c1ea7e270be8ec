"""Properties: what must hold between two answers of one variant."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from attnbench.conformance.accuracy import Answer
from attnbench.conformance.check import Failed, Skipped
from attnbench.conformance.checks.dropout import judge_any_draw
from attnbench.conformance.subject import Trial, storages
from attnbench.conformance.tolerance import output_rule
from attnbench.errors import WorkloadError
from attnbench.reference import evaluate, visible
from attnbench.tensors.inputs import make_inputs
from attnbench.workloads.mask import Mask

if TYPE_CHECKING:
    from attnbench.conformance.subject import Subject
    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload

LOUD = 100.0  # size of the values that must leave no trace
HELD = 5  # calls whose answers are kept: a pair of buffers that take turns shows too
ROUNDS, CALLS = 4, 30  # a fault in one call of a hundred is met with a probability of 0.7


def no_leak(subject: Subject, workload: Workload) -> None:
    """Change keys and values; rows that see none of them keep their output bit by bit, and send them no gradient.

    In 8 bits the keys of a block share a step, those that a row sees with others. There the changed ones are of the
    size of the others, and the answer must still be right.
    """
    quantised = subject.variant.tier == "quantised"
    trial = subject.trial(workload).refill(subject.seed_of("leak", workload.id))
    before = _repeated(trial)
    key, value = trial.values("key"), trial.values("value")
    noise = subject.generator("leak", workload.id)
    for changed in _cuts(workload.seq_k):
        blind = _blind_rows(workload, trial.inputs, changed)
        if not blind.any():
            continue
        if workload.needs_gradient and changed[-1]:
            _no_gradient(trial, changed, blind, subject.seed_of("leak", workload.id))
        for name, values in (("key", key), ("value", value)):
            loud = (1.0 if quantised else LOUD) * torch.randn(values.shape, generator=noise)
            trial.fill(key=key, value=value)
            trial.fill(**{name: torch.where(changed[:, None], loud.to(values), values)})
            answer = trial.run(backward=False)
            if quantised:
                trial.judge(answer)
                continue
            after = answer.output
            moved = (after != before).any(-1) & blind[:, None].to(after.device)
            if moved.any():
                batch, head, row = (int(place) for place in moved.nonzero()[0])
                raise Failed(
                    f"row {row} of batch {batch}, head {head} sees none of keys {_range(changed)}, yet its output "
                    f"changed when their {name}s did; so did {int(moved.sum()) - 1} further rows"
                )
        trial.fill(key=key, value=value)


def independence(subject: Subject, workload: Workload) -> None:
    """Change one sequence, then one key head; all other sequences and heads keep their output bit by bit."""
    trial = subject.trial(workload).refill(subject.seed_of("independence", workload.id))
    before = _repeated(trial)
    kept = {name: trial.values(name) for name in ("query", "key", "value")}
    group = workload.heads // workload.kv_heads
    for batch, head in ((workload.batch - 1, None), (0, None), (None, workload.kv_heads - 1), (None, 0)):
        changed = torch.zeros(workload.batch, workload.kv_heads, dtype=torch.bool)
        changed[slice(None) if batch is None else batch, slice(None) if head is None else head] = True
        by_query = changed.repeat_interleave(group, 1)
        if changed.all():
            continue
        noise = subject.generator("independence", workload.id, batch, head)
        for size, how in ((LOUD, "changed"), (math.nan, "became NaN")):
            for name, values in kept.items():
                where = (by_query if name == "query" else changed)[..., None, None].to(values.device)
                loud = size * torch.randn(values.shape, generator=noise)
                trial.fill(**{name: torch.where(where, loud.to(values), values)})
            moved = (trial.run(backward=False).output != before).flatten(2).any(-1).cpu() & ~by_query
            if moved.any():
                at_batch, at_head = (int(place) for place in moved.nonzero()[0])
                other = f"sequence {batch}" if head is None else f"key head {head}"
                raise Failed(f"output of batch {at_batch}, head {at_head} changed when only {other} {how}")


def permutation(subject: Subject, workload: Workload) -> None:
    """Permute keys and values together; without a mask the output stays, within twice the tolerance."""
    trial = subject.trial(workload).refill(subject.seed_of("permutation", workload.id))
    before = trial.run().output.clone()
    order = torch.randperm(workload.seq_k, generator=subject.generator("permutation", workload.id))
    trial.fill(**{name: trial.values(name)[:, :, order.to(before.device)] for name in ("key", "value")})
    _agree(trial, trial.run().output, before, "keys and values in another order")


def repeated_heads(subject: Subject, workload: Workload) -> None:
    """Demand of grouped queries the output of as many key heads as query heads with repeated keys."""
    grouped = subject.trial(workload).refill(subject.seed_of("repeated", workload.id))
    output = grouped.run().output.clone()
    group = workload.heads // workload.kv_heads
    repeated = subject.trial(replace(workload, kv_heads=workload.heads))
    repeated.fill(query=grouped.values("query"))
    repeated.fill(**{name: grouped.values(name).repeat_interleave(group, 1) for name in ("key", "value")})
    _agree(grouped, output, repeated.run().output, "keys and values repeated for every query head")


def decode(subject: Subject, workload: Workload) -> None:
    """One query at the end of its keys gives the last row of the whole sequence's output."""
    prefill = subject.trial(workload).refill(subject.seed_of("decode", workload.id))
    last_row = prefill.run().output[:, :, -1:].clone()
    step = subject.trial(replace(workload, seq_q=1, seq_k=workload.seq_k))
    step.fill(query=prefill.values("query")[:, :, -1:], key=prefill.values("key"), value=prefill.values("value"))
    answer = step.run()
    _agree(step, answer.output, last_row, "the last row of the whole sequence")
    step.judge(answer)


def fresh_output(subject: Subject, workload: Workload) -> None:
    """Call again and again on other inputs at the same addresses, and keep what came: nothing of it may change."""
    trial = subject.trial(workload)
    held: list[torch.Tensor] = []
    copies: list[torch.Tensor] = []
    for call in range(HELD):
        answer = trial.refill(subject.seed_of("held", workload.id, call)).run()
        trial.judge(answer)
        if storages(*answer.tensors) & storages(*held):
            raise Failed("an output or gradient lies in the storage of an earlier call's: return fresh tensors")
        held += answer.tensors
        copies += [tensor.clone() for tensor in answer.tensors]
    if not all(torch.equal(tensor, copy) for tensor, copy in zip(held, copies, strict=True)):
        raise Failed("an output or gradient of an earlier call changed during a later one")
    if workload.needs_gradient:  # of an earlier call, after a later one: each keeps what its backward pass needs
        trial.refill(subject.seed_of("third", workload.id))
        earlier = trial.output()
        trial.output()
        gradients = trial.differentiate(earlier)
        trial.judge(_answer(trial, earlier, gradients))


def interleaved(subject: Subject, workload: Workload) -> None:
    """Call on two sets of inputs and only then differentiate both: as two layers of a model do."""
    if not workload.needs_gradient:
        raise Skipped("the variant has no backward pass")
    made = (make_inputs(workload, subject.device, subject.variant.layout, layer) for layer in range(2))
    trials = [subject.trial(workload, inputs) for inputs in made]
    outputs = [
        trial.refill(subject.seed_of("interleaved", workload.id, layer)).output() for layer, trial in enumerate(trials)
    ]
    judge = judge_any_draw if workload.dropout else Trial.judge
    for layer, (trial, output) in enumerate(zip(trials, outputs, strict=True)):
        gradients = trial.differentiate(output)
        try:
            judge(trial, _answer(trial, output, gradients))
        except Failed as failure:
            raise Failed(f"layer {layer}, differentiated after both had run forward: {failure}") from failure


def repeated_calls(subject: Subject, workload: Workload) -> None:
    """Call many times, with fresh values now and then; every answer whose bits are new is judged."""
    trial = subject.trial(workload)
    for round_number in range(ROUNDS):
        trial.refill(subject.seed_of("again", workload.id, round_number))
        known: list[Answer] = []
        for call in range(CALLS):
            answer = trial.run()
            if any(_same_bits(answer, other) for other in known):
                continue
            try:
                trial.judge(answer)
            except Failed as failure:
                raise Failed(f"call {round_number * CALLS + call + 1} of {ROUNDS * CALLS}: {failure}") from failure
            known.append(answer)


def _same_bits(one: Answer, other: Answer) -> bool:
    return all(torch.equal(here, there) for here, there in zip(one.tensors, other.tensors, strict=True))


def neighbours(subject: Subject, workload: Workload) -> None:
    """Workloads that differ in one field only, prepared side by side, each get their own answer, in any order."""
    near = [other for other in _neighbours(workload) if subject.refusal(other) is None]
    trials = [subject.trial(each) for each in (workload, *near, workload)]
    for trial in (*trials, trials[0]):
        trial.refill(subject.seed_of("neighbours", trial.workload.id))
        try:
            trial.judge(trial.run())
        except Failed as failure:
            message = f"{trial.workload.id}, prepared beside {workload.id} and its neighbours: {failure}"
            raise Failed(message) from failure


def _answer(trial: Trial, output: torch.Tensor, gradients: tuple[torch.Tensor, ...]) -> Answer:
    if trial.inputs.layout == "BHSD":
        return Answer(output.detach(), gradients)
    return Answer(output.detach().transpose(1, 2), tuple(gradient.transpose(1, 2) for gradient in gradients))


def _neighbours(workload: Workload) -> list[Workload]:
    """Change each field of the workload that a cache might have forgotten, one at a time."""
    w = workload
    changes: list[dict[str, Any]] = [
        {"batch": w.batch + 1},
        {"heads": 2 * w.heads},
        {"kv_heads": 1 if w.kv_heads > 1 else w.heads},
        {"seq_k": w.seq_k + 31},
        {"seq_k": max(1, w.seq_k // 3)},
        {"seq_q": w.seq_q + 31},
        {"seq_q": w.seq_q + 31, "seq_k": w.seq_k + 31},
        {"seq_q": w.seq_k, "seq_k": w.seq_q},
        {"head_dim": 2 * w.head_dim, "head_dim_v": w.head_dim_v},
        {"head_dim_v": 2 * w.head_dim_v},
        {"scale": 0.5 * w.effective_scale},
        {"softcap": 2.0 if w.softcap is None else None},
        {"alibi": not w.alibi},
        {"dtype": "bfloat16" if w.dtype != "bfloat16" else "float32"},
        {"direction": "forward"},
    ]
    masks = ("none", "causal", "causal-top-left", "window:9:0", "window:3:3", "window:9:3", "prefix:5", "prefix:9")
    changes += [{"mask": Mask.parse(mask)} for mask in (*masks, "padding")]
    changes += [{"mask": Mask("document"), "seq_k": w.seq_q}, {"mask": Mask("document"), "seq_k": w.seq_q, "batch": 3}]
    made = dict.fromkeys(other for change in changes if (other := _changed(workload, change)) is not None)
    return [other for other in made if other != workload]


def _changed(workload: Workload, change: dict[str, Any]) -> Workload | None:
    try:
        return replace(workload, **change)
    except WorkloadError:
        return None  # packed documents have as many queries as keys


def _repeated(trial: Trial) -> torch.Tensor:
    """Give the output, after making sure that the same inputs give the same bits: else bits can't be compared."""
    first, second = (trial.run(backward=False).output.clone() for _ in range(2))
    if not torch.equal(first, second):
        if not first.isfinite().all():
            raise Failed("the output holds NaN or Inf")
        raise Skipped("the same inputs give different bits from call to call, so outputs can't be compared by bits")
    return first


def _cuts(length: int) -> list[torch.Tensor]:
    """Choose sets of keys to change: all from some key on, and the first half."""
    places = torch.arange(length)
    borders = sorted({place for place in (length // 3, 64, length - 1) if 0 < place < length})
    return [places >= border for border in borders] + [places < length // 2]


def _blind_rows(workload: Workload, inputs: Inputs, keys: torch.Tensor) -> torch.Tensor:
    """Say which rows of each sequence see none of `keys`: (B, Sq)."""
    rows = torch.arange(workload.seq_q, device=inputs.query.device)
    seen = (visible(workload, inputs, batch, rows).cpu() & keys for batch in range(workload.batch))
    return torch.stack([~each.any(-1) for each in seen])


def _no_gradient(trial: Trial, changed: torch.Tensor, blind: torch.Tensor, seed: int) -> None:
    """With a grad_output at blind rows alone, keys and values that they don't see get a gradient of exactly 0."""
    trial.refill(seed)
    grad_output = trial.values("grad_output")
    trial.fill(grad_output=grad_output * blind[:, None, :, None].to(grad_output))
    gradients = trial.run().gradients
    if gradients is None:
        return
    for name, gradient in zip(("key", "value"), gradients[1:], strict=True):
        leaked = gradient is not None and bool(gradient[:, :, changed.to(gradient.device)].any())
        if leaked:
            raise Failed(f"gradient of {name}s {_range(changed)} is not 0, though no row with a gradient sees them")


def _agree(trial: Trial, output: torch.Tensor, other: torch.Tensor, what: str) -> None:
    """Demand that two outputs differ by at most the sum of what each may be off."""
    tier, dtype = trial.variant.tier, output.dtype
    needs_plain = tier == "plain" and dtype != torch.float32
    plain = evaluate(trial.workload, trial.inputs, dtype=dtype) if needs_plain else itertools.repeat(None)
    for piece, low in zip(evaluate(trial.workload, trial.inputs), plain, strict=False):
        tolerance = 2 * output_rule(piece, dtype, tier, low).tolerance
        got, expected = (piece.of_queries(tensor).double() for tensor in (output, other))
        error = (got - expected).norm(dim=-1)
        if not (error <= tolerance).all():
            worst = float((error / tolerance).nan_to_num(math.inf).max())
            raise Failed(f"the output differs from that of {what}, by {worst:.3g} times what rounding explains")


def _range(keys: torch.Tensor) -> str:
    places = keys.nonzero().flatten().tolist()
    return f"{places[0]} to {places[-1]}"
