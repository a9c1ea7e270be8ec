"""Checks of what only some devices or variants have: streams, refusals, more than 2^31 elements."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil
import torch

from attnbench.conformance.accuracy import Answer
from attnbench.conformance.check import NO_MEMORY, Failed, Hint, Skipped
from attnbench.conformance.subject import Trial
from attnbench.reference import Part, in_bhsd
from attnbench.tensors.inputs import Inputs, dtype_of, make_inputs

if TYPE_CHECKING:
    from attnbench.conformance.subject import Subject
    from attnbench.workloads.workload import Workload

NAP_CYCLES = 100_000_000  # tens of milliseconds: long enough for work on another stream to overtake
ROOM = 3  # times the tensors' bytes that must be free: a matrix product may widen one of them to float32
KEPT_FREE = 4 << 30  # bytes, for all else that runs
REFUSALS = 4
NOT_HERE = ("needs", "cuda", "gpu", "cpu", "device", "install", "package")  # words of a refusal of the machine


def side_stream(subject: Subject, workload: Workload) -> None:
    """On a side stream, inputs written just before on that stream are read: no work strays to another stream."""
    if subject.device != "cuda":
        raise Skipped("streams exist on CUDA only")
    trial = subject.trial(workload).refill(subject.seed_of("old", workload.id))
    names = ("query", "key", "value", "grad_output")
    source = make_inputs(workload, subject.device, "BHSD", subject.seed_of("new", workload.id))
    fresh = {name: tensor.detach() for name in names if (tensor := getattr(source, name)) is not None}
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(NAP_CYCLES)  # type: ignore[no-untyped-call]  # noqa: SLF001 - torch's own way to keep a stream busy
        trial.fill(**fresh)
        output = trial.output()
        gradients = trial.differentiate(output) if workload.needs_gradient else None
    stream.synchronize()
    layout = trial.inputs.layout
    viewed = None if gradients is None else tuple(in_bhsd(gradient, layout) for gradient in gradients)
    trial.judge(Answer(in_bhsd(output.detach(), layout), viewed))


def refusals(subject: Subject, candidates: list[Workload]) -> str | None:
    """Run a few workloads that the variant declares unsupported; where one is right all the same, give a hint."""
    refused = [(each, reason) for each in candidates if (reason := subject.refusal(each)) is not None]
    if not refused:
        return "nothing is declared unsupported"
    of_shape = [(each, reason) for each, reason in refused if not any(word in reason.lower() for word in NOT_HERE)]
    if not of_shape:
        raise Skipped(f"what is unsupported needs another machine: {refused[0][1]}")
    chosen = random.Random(subject.seed).sample(of_shape, min(REFUSALS, len(of_shape)))  # noqa: S311 - seeded choice
    for workload, reason in chosen:
        if _runs_rightly(subject, workload):
            raise Hint(
                f"too shy: {workload.id} is declared unsupported ({reason}), yet it runs and its answer is right"
            )
    return None


def large_index(subject: Subject, workload: Workload) -> None:
    """Past 2^31 elements in one tensor the last key of the last sequence and the last query are still found."""
    reason = subject.refusal(workload)
    if reason is not None:
        raise Skipped(f"{workload.id}: {reason}")
    _need_room(subject, workload)
    layout = subject.variant.layout

    def zeros(heads: int, length: int, width: int) -> torch.Tensor:
        sizes = (workload.batch, heads, length, width) if layout == "BHSD" else (workload.batch, length, heads, width)
        return torch.zeros(sizes, dtype=dtype_of(workload), device=subject.device)

    inputs = Inputs(
        layout,
        zeros(workload.heads, workload.seq_q, workload.head_dim),
        zeros(workload.kv_heads, workload.seq_k, workload.head_dim),
        zeros(workload.kv_heads, workload.seq_k, workload.head_dim_v),
        seed=subject.seed,
    )
    query, key, value = (in_bhsd(tensor, layout) for tensor in inputs.leaves)
    rows = sorted({0, workload.seq_q - 1})
    query[:, :, rows] = 8.0
    key[:, :, -1] = 8.0  # a logit of 64 sqrt(head_dim), where all others are 0
    places = torch.arange(workload.batch * workload.kv_heads, device=value.device) % 64
    codes = places.view(workload.batch, -1, 1) + torch.arange(1, workload.head_dim_v + 1, device=value.device)
    value[:, :, -1] = codes.to(value.dtype)
    with _memory_bounded(subject.device):
        trial = Trial(subject.variant, workload, inputs, subject.variant.prepare(workload, inputs))
        output = in_bhsd(trial.output(), layout)
    expected = value[:, :, -1:].repeat_interleave(workload.heads // workload.kv_heads, 1)
    if not torch.equal(output[:, :, rows], expected.expand(-1, -1, len(rows), -1)):
        raise Failed("the last key, beyond 2^31 elements, is not found exactly: is an index held in 32 bits?")


def _need_room(subject: Subject, workload: Workload) -> None:
    w = workload
    elements = (
        w.heads * w.seq_q * w.head_dim,
        w.kv_heads * w.seq_k * w.head_dim,
        w.kv_heads * w.seq_k * w.head_dim_v,
        w.heads * w.seq_q * w.head_dim_v,
    )
    needed = ROOM * sum(elements) * w.batch * dtype_of(w).itemsize
    free = torch.cuda.mem_get_info()[0] if subject.device == "cuda" else psutil.virtual_memory().available
    if free < needed:
        raise Skipped(f"needs {needed / 2**30:.0f} GiB of free memory, and {free / 2**30:.0f} GiB are free")


@contextmanager
def _memory_bounded(device: str) -> Iterator[None]:
    """Refuse memory beyond what is free, so that the machine stays alive; running out of it is Skipped."""
    if device != "cpu" or sys.platform != "linux":
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    free = psutil.virtual_memory().available - KEPT_FREE
    resource.setrlimit(resource.RLIMIT_DATA, (psutil.Process().memory_info().data + free, before[1]))
    try:
        yield
    except (Failed, MemoryError, RuntimeError) as error:
        if not any(text in str(error) for text in NO_MEMORY):
            raise
        raise Skipped("the variant needs more memory for it than is free") from error
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _runs_rightly(subject: Subject, workload: Workload) -> bool:
    """Whether the variant, asked to do what it declares unsupported, gives a right answer."""
    try:
        inputs = make_inputs(workload, subject.device, subject.variant.layout, subject.seed)
        trial = Trial(subject.variant, workload, inputs, subject.variant.prepare(workload, inputs))
        trial.refill(subject.seed_of("refused", workload.id)).judge(trial.run(), _few(workload))
    except Exception:  # noqa: BLE001 - a refusal is honest whatever the refused call raises
        return False
    return True


def _few(workload: Workload) -> Part:
    heads, rows = range(min(workload.kv_heads, 8)), range(workload.seq_q)
    return Part(tuple(range(min(workload.batch, 8))), tuple(heads), tuple(rows))
