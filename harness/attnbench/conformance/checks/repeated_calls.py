"""Checks that no call of a variant affects the answer of another call."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from attnbench.conformance.accuracy import Answer
from attnbench.conformance.check import Failed, Skipped, check
from attnbench.conformance.check_workloads import workload
from attnbench.conformance.checks.dropout import judge_any_draw
from attnbench.conformance.subject import Trial, storages
from attnbench.errors import WorkloadError
from attnbench.reference import in_bhsd
from attnbench.tensors.inputs import make_inputs
from attnbench.workloads.mask import Mask

if TYPE_CHECKING:
    from attnbench.conformance.subject import Subject
    from attnbench.workloads.workload import Workload

HELD_ANSWERS = 5  # enough answers to detect a variant that alternates between two buffers
ROUNDS, CALLS = 4, 30  # a bug that shows in 1% of calls is found with probability 0.7


@check(
    "fresh-output",
    demands="each call returns new tensors with its own answer, and keeps what its backward pass needs",
    why="reusing a buffer changes an answer that the caller still holds",
    usual_bug="the next call overwrites a static output or workspace",
    remedy="allocate the output in the callable",
    quick=[workload(seq=70, mask="causal"), workload(seq=70, direction="forward")],
)
def fresh_output(subject: Subject, workload: Workload) -> None:
    """Call the variant repeatedly on new values at the same addresses, and check that no earlier answer changes."""
    trial = subject.trial(workload)
    held: list[torch.Tensor] = []
    copies: list[torch.Tensor] = []
    for call in range(HELD_ANSWERS):
        answer = trial.refill(subject.seed_of("held", workload.id, call)).run()
        trial.judge(answer)
        if storages(*answer.tensors) & storages(*held):
            raise Failed("an output or gradient shares its storage with one of an earlier call: return fresh tensors")
        held += answer.tensors
        copies += [tensor.clone() for tensor in answer.tensors]
    if not all(torch.equal(tensor, copy) for tensor, copy in zip(held, copies, strict=True)):
        raise Failed("an output or gradient of an earlier call changed during a later one")
    if workload.needs_gradient:  # a second call must not overwrite what the first call's backward pass needs
        trial.refill(subject.seed_of("third", workload.id))
        earlier = trial.output()
        trial.output()
        gradients = trial.differentiate(earlier)
        trial.judge(_answer(trial, earlier, gradients))


@check(
    "interleaved",
    demands="two calls on different inputs get the right gradients if both run forward before either is differentiated",
    why="a model runs all its layers forward before it differentiates any of them",
    usual_bug="the log-sum-exp, or another workspace of the backward pass, is kept per shape instead of per call",
    remedy="save what the backward pass needs in the context of the autograd function",
    quick=[workload(seq=70, mask="causal")],
    full=[
        workload(seq=90, mask="padding", batch=3, dtype="bfloat16"),
        workload(seq_q=1, seq_k=300),
        workload(seq=90, mask="window:9:0", softcap=2.0, alibi=True),
        workload(seq=90, dropout=0.3),
    ],
)
def interleaved(subject: Subject, workload: Workload) -> None:
    """Call the variant on two sets of inputs, then run both backward passes, as a model with two layers does."""
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
            raise failure.within(f"layer {layer}, differentiated after both layers had run forward") from failure


def _answer(trial: Trial, output: torch.Tensor, gradients: tuple[torch.Tensor, ...]) -> Answer:
    layout = trial.inputs.layout
    return Answer(in_bhsd(output.detach(), layout), tuple(in_bhsd(gradient, layout) for gradient in gradients))


@check(
    "repeated-calls",
    demands="each of many calls is correct, even after the values of the inputs change",
    why="races and stale caches affect only some of many calls",
    usual_bug="tiles are read before they are written, or an answer is cached",
    remedy="synchronise accesses to shared memory, and keep nothing between calls",
    full=[workload(seq=70, mask="causal", direction=direction) for direction in ("forward", "forward_backward")],
)
def repeated_calls(subject: Subject, workload: Workload) -> None:
    """Call the variant many times, with new inputs after every CALLS calls, and judge every distinct answer."""
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
                raise failure.within(f"call {round_number * CALLS + call + 1} of {ROUNDS * CALLS}") from failure
            known.append(answer)


def _same_bits(first: Answer, second: Answer) -> bool:
    return all(torch.equal(left, right) for left, right in zip(first.tensors, second.tensors, strict=True))


@check(
    "neighbours",
    demands="workloads that differ in only a few fields get the right answers if all are prepared first",
    why="a result cached for one shape must not be used for another",
    usual_bug="a cache of masks, plans or compiled kernels is keyed on too few fields",
    remedy="key caches by the whole workload, which is hashable",
    quick=[
        workload(seq_q=70, seq_k=101, mask="causal", batch=2),
        workload(seq_q=1, seq_k=300, batch=2, direction="forward"),
    ],
    full=[
        workload(seq=90, mask="window:9:0"),
        workload(seq=90, mask="document"),
        workload(seq_q=60, seq_k=90, mask="causal", scale=0.4, softcap=3.0, alibi=True),
    ],
)
def neighbours(subject: Subject, workload: Workload) -> None:
    """Prepare workloads that differ in only a few fields, run all of them, and run the first one again at the end."""
    near = [other for other in _neighbours(workload) if subject.refusal(other) is None]
    trials = [subject.trial(each) for each in (workload, *near, workload)]
    for trial in (*trials, trials[0]):
        trial.refill(subject.seed_of("neighbours", trial.workload.id))
        try:
            trial.judge(trial.run())
        except Failed as failure:
            context = f"{trial.workload.id}, prepared beside {workload.id} and its neighbours"
            raise failure.within(context) from failure


def _neighbours(workload: Workload) -> list[Workload]:
    """Return workloads that differ from the given one only in fields that a cache key might lack."""
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
        return None  # the changed workload is invalid; packed documents, for example, need as many queries as keys
