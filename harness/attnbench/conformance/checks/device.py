"""Checks of CUDA streams, of workloads declared unsupported, and of tensors with more than 2^31 elements."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import psutil
import torch

from attnbench.conformance.accuracy import Answer
from attnbench.conformance.check import Failed, Hint, Skipped, check
from attnbench.conformance.check_workloads import workload
from attnbench.conformance.checks import answers
from attnbench.conformance.checks.dropout import dropout
from attnbench.conformance.cuda_errors import cuda_error, gpu_failure
from attnbench.conformance.subject import Trial
from attnbench.errors import is_out_of_memory
from attnbench.reference import Part, in_bhsd
from attnbench.tensors.inputs import Inputs, dtype_of, make_inputs

if TYPE_CHECKING:
    from attnbench.conformance.subject import Subject
    from attnbench.workloads.workload import Workload

# The side stream is delayed by this many clock cycles (tens of ms), so that work on any other stream runs too early.
DELAY_CYCLES = 100_000_000
# The free memory must be at least this many times the size of the tensors, because a variant may copy them to float32.
MEMORY_FACTOR = 3
RESERVED_BYTES = 4 << 30  # memory left free for other processes
MAX_REFUSALS = 4  # the check `refusals` runs at most this many refused workloads
# A refusal is assumed to depend on the machine, not on the workload, if its reason contains one of these words.
MACHINE_WORDS = ("needs", "cuda", "gpu", "cpu", "device", "install", "package")
# Workloads with a larger softcap are left out. Scores rarely reach such a softcap, so an answer that ignores it would
# look correct.
MAX_SOFTCAP = 8.0
LONG = (1 << 24) + 64  # one head of this length, with a head_dim of 128, has more than 2^31 elements
# The workloads that the check `refusals` searches for needless refusals.
REFUSABLE = [
    each
    for each in (
        *answers.masks.workloads("full"), *answers.long.quick, *answers.head_dims.workloads("full"),
        *answers.heads.quick, *answers.scores.workloads("full"), *answers.dtypes.quick, *answers.directions.quick,
        *dropout.workloads("full"),
    )
    if each.softcap is None or each.softcap <= MAX_SOFTCAP
]  # fmt: skip


@check(
    "side-stream",
    demands="the callable runs on the current CUDA stream",
    why="on another stream, the variant races with the work that produces its inputs",
    usual_bug="a kernel is launched on the default stream",
    remedy="pass torch.cuda.current_stream().cuda_stream to the launch",
    quick=[workload(seq=70, mask="causal"), workload(seq=70, direction="forward")],
)
def side_stream(subject: Subject, workload: Workload) -> None:
    """Overwrite the inputs and call the variant on a delayed side stream; work on other streams reads old inputs."""
    if subject.device_type != "cuda":
        raise Skipped("streams exist on CUDA only")
    trial = subject.trial(workload).refill(subject.seed_of("old", workload.id))
    names = ("query", "key", "value", "grad_output")
    source = make_inputs(workload, subject.device, "BHSD", subject.seed_of("new", workload.id))
    fresh = {name: tensor.detach() for name in names if (tensor := getattr(source, name)) is not None}
    stream = torch.cuda.Stream(subject.device)  # type: ignore[no-untyped-call]
    torch.cuda.synchronize(subject.device)
    with torch.cuda.stream(stream):
        torch.cuda._sleep(DELAY_CYCLES)  # type: ignore[no-untyped-call]  # noqa: SLF001 - torch's way to keep a stream busy
        trial.fill(**fresh)
        output = trial.output()
        gradients = trial.differentiate(output) if workload.needs_gradient else None
    stream.synchronize()
    layout = trial.inputs.layout
    viewed = None if gradients is None else tuple(in_bhsd(gradient, layout) for gradient in gradients)
    trial.judge(Answer(in_bhsd(output.detach(), layout), viewed))


@check(
    "refusals",
    demands="workloads that the variant declares unsupported really fail; a hint names one that does not",
    why="a needless refusal leaves the variant out of results",
    usual_bug="unsupported_reason is copied from an older version of a kernel",
    remedy="narrow unsupported_reason to what really fails",
    full=[workload(seq=8)],
)
def refusals(subject: Subject, workload: Workload) -> str | None:  # noqa: ARG001 - the check runs workloads of other checks
    """Run a few workloads that the variant declares unsupported, and raise Hint if an answer is correct."""
    refused = [(each, reason) for each in REFUSABLE if (reason := subject.refusal(each)) is not None]
    if not refused:
        return "nothing is declared unsupported"
    of_shape = [(each, reason) for each, reason in refused if not any(word in reason.lower() for word in MACHINE_WORDS)]
    if not of_shape:
        raise Skipped(f"all refusals depend on the machine, for example: {refused[0][1]}", refused[0][1])
    chosen = random.Random(subject.seed).sample(of_shape, min(MAX_REFUSALS, len(of_shape)))  # noqa: S311 - seeded choice
    for each, reason in chosen:
        if _runs_correctly(subject, each):
            raise Hint(f"needless refusal: {each.id} is declared unsupported ({reason}), but it runs correctly")
    return None


@check(
    "large-index",
    demands="the right elements are read and written in tensors of more than 2^31 elements",
    why="long contexts and large batches reach that size",
    usual_bug="an offset is computed in 32-bit integers",
    remedy="compute offsets in 64 bits",
    thorough=[
        workload(dtype="bfloat16", direction="forward", **{"batch": 1, "heads": 1, **shape})
        for shape in (
            {"seq_q": 2, "seq_k": LONG, "head_dim": 128, "head_dim_v": 8},
            {"seq_q": 2, "seq_k": LONG, "head_dim": 8, "head_dim_v": 128},
            {"seq_q": LONG, "seq_k": 2, "head_dim": 128, "head_dim_v": 8},
            {"seq_q": 1, "seq_k": 2048, "head_dim": 128, "head_dim_v": 8, "batch": 1025, "heads": 8},
        )
    ],
)
def large_index(subject: Subject, workload: Workload) -> None:
    """Check that the first and last queries return the value of the last key, which outweighs all others.

    The query, key or value tensor has more than 2^31 elements.
    """
    subject.require_support(workload)
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
    key[:, :, -1] = 8.0  # gives the last key a logit of 64 sqrt(head_dim); all other logits are 0
    places = torch.arange(workload.batch * workload.kv_heads, device=value.device) % 64
    codes = places.view(workload.batch, -1, 1) + torch.arange(1, workload.head_dim_v + 1, device=value.device)
    value[:, :, -1] = codes.to(value.dtype)
    with _memory_bounded(subject):
        trial = Trial(subject.variant, workload, inputs, subject.variant.prepare(workload, inputs))
        output = in_bhsd(trial.output(), layout)
    expected = value[:, :, -1:].repeat_interleave(workload.heads // workload.kv_heads, 1)
    if not torch.equal(output[:, :, rows], expected.expand(-1, -1, len(rows), -1)):
        raise Failed(
            "over 2^31 elements, the output is not exactly the value of the last key: is an index held in 32 bits?"
        )


def _need_room(subject: Subject, workload: Workload) -> None:
    """Raise Skipped if there is too little free memory for the workload's tensors."""
    w = workload
    elements = (
        w.heads * w.seq_q * w.head_dim,
        w.kv_heads * w.seq_k * w.head_dim,
        w.kv_heads * w.seq_k * w.head_dim_v,
        w.heads * w.seq_q * w.head_dim_v,
    )
    needed = MEMORY_FACTOR * sum(elements) * w.batch * dtype_of(w).itemsize
    free = subject.free_bytes
    if free < needed:
        raise Skipped(f"needs {needed / 2**30:.0f} GiB of free memory, but only {free / 2**30:.0f} GiB are free")


@contextmanager
def _memory_bounded(subject: Subject) -> Iterator[None]:
    """Raise Skipped if the variant needs more memory within the context than is free.

    On a CPU under Linux, this process's memory is limited within the context, to keep the machine responsive.
    """
    with _limited_memory(subject) if subject.device_type == "cpu" and sys.platform == "linux" else nullcontext():
        try:
            yield
        except (Failed, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise Skipped("the variant needs more memory for this workload than is free") from error


@contextmanager
def _limited_memory(subject: Subject) -> Iterator[None]:
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    free = subject.free_bytes - RESERVED_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (psutil.Process().memory_info().data + free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _runs_correctly(subject: Subject, workload: Workload) -> bool:
    """Return whether the variant gives a correct answer for a workload that it declares unsupported.

    Raises Skipped if the workload causes a CUDA error, after which no other workload can be tried.
    """
    try:
        inputs = make_inputs(workload, subject.device, subject.variant.layout, subject.seed)
        trial = Trial(subject.variant, workload, inputs, subject.variant.prepare(workload, inputs))
        trial.refill(subject.seed_of("refused", workload.id)).judge(trial.run(), _first_heads(workload))
    except Exception as error:
        if (failure := cuda_error(error) or gpu_failure()) is not None:
            raise Skipped(f"the refusal of {workload.id} is justified: {failure}") from error
        return False
    return True


def _first_heads(workload: Workload) -> Part:
    """Return the part that contains all rows of the first 8 key heads in the first 8 sequences."""
    heads, rows = range(min(workload.kv_heads, 8)), range(workload.seq_q)
    return Part(tuple(range(min(workload.batch, 8))), tuple(heads), tuple(rows))
