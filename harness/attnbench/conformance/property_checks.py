"""Checks of what must hold between answers, of how inputs may be stored, and of what only some variants have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.conformance import check_workloads as of
from attnbench.conformance.check import Check
from attnbench.conformance.checks import device, properties
from attnbench.conformance.checks.answers import empty
from attnbench.conformance.checks.dropout import dropout, dropped
from attnbench.conformance.checks.fuzz import drawn
from attnbench.conformance.checks.log_sum_exp import log_sum_exp
from attnbench.conformance.checks.strides import far_apart, strides

if TYPE_CHECKING:
    from attnbench.conformance.subject import Subject
    from attnbench.workloads.workload import Workload


def _refusals(subject: Subject, workload: Workload) -> str | None:  # noqa: ARG001 - it looks at every workload
    told = [each for each in of.EVERY if each.softcap is None or each.softcap <= of.UNMISTAKABLE_SOFTCAP]
    return device.refusals(subject, told)


PROPERTIES = (
    Check(
        "no-leak",
        "changing hidden keys and values changes no bit of the rows that don't see them, and they get no gradient",
        "a causal model that sees its future trains well and generates nonsense",
        "a mask off by one, a document's border that leaks, or a mask that adds a large but finite number",
        "mask with -inf before the softmax, in both passes",
        properties.no_leak,
        of.LEAKS,
        of.MORE_LEAKS,
    ),
    Check(
        "independence",
        "changing one sequence or one head changes no bit of the others",
        "mixed-up batch and head indices often give plausible numbers",
        "strides of batch and heads swapped, or statistics shared between rows of a batch",
        "index by the tensor's own strides",
        properties.independence,
        of.INDEPENDENT,
        of.MORE_INDEPENDENT,
    ),
    Check(
        "permutation",
        "without a mask the order of the keys does not matter",
        "attention is a sum over keys",
        "an online softmax that depends on where the largest score stands",
        "rescale the running sum and output whenever the maximum grows",
        properties.permutation,
        of.UNMASKED,
        of.MORE_UNMASKED,
    ),
    Check(
        "repeated-heads",
        "grouped queries give what keys and values repeated for each query head give",
        "it is what grouped-query attention means",
        "another order of the heads",
        "query head h reads key head h // group",
        properties.repeated_heads,
        of.GROUPED,
        of.MORE_GROUPED,
    ),
    Check(
        "decode",
        "a single query at the end gives the last row of the whole sequence's output",
        "a model is trained on whole sequences and generates with single queries",
        "top-left alignment: a single query then sees the first key alone",
        "align masks bottom-right: query i stands at key i + Sk - Sq",
        properties.decode,
        of.DECODES,
        of.MORE_DECODES,
    ),
    Check(
        "empty",
        "no queries, or no sequences, give an empty answer of the right shape",
        "serving code meets empty batches",
        "a grid of size 0 raises",
        "return an empty tensor before launching anything",
        empty,
        of.EMPTY,
    ),
    Check(
        "strides",
        "views of every kind are read rightly: transposed, sliced, unaligned, expanded, for inputs and grad_output",
        "models hand over slices of a packed QKV tensor, and sum().backward() an expanded gradient",
        "grad_output assumed contiguous",
        "use the tensor's strides, or call .contiguous() in the callable and in backward",
        strides,
        of.STRIDED,
    ),
    Check(
        "far-apart",
        "rows whose last one lies more than 2^31 elements into their storage are read rightly",
        "a slice of a large cache of keys is such a view, however short it is",
        "an offset, row times stride, computed in 32-bit integers",
        "compute offsets in 64 bits",
        far_apart,
        (),
        of.FAR_APART,
    ),
    Check(
        "fresh-output",
        "each call returns a fresh tensor of its own answer, and keeps what its backward pass needs",
        "a reused buffer changes an answer that somebody still holds",
        "a static output or workspace that the next call overwrites",
        "allocate the output in the callable",
        properties.fresh_output,
        of.FRESH,
    ),
    Check(
        "interleaved",
        "of two calls on different inputs, each one's gradients are its own, though both ran forward first",
        "a model runs all its layers forward before it differentiates the first",
        "the log-sum-exp, or another workspace of the backward pass, kept for a shape and not for a call",
        "save for backward what this call computed, in the autograd function's context",
        properties.interleaved,
        of.INTERLEAVED,
        of.MORE_INTERLEAVED,
    ),
    Check(
        "repeated-calls",
        "every one of many calls is right, with values that change now and then",
        "races and caches show once in many calls",
        "tiles that are read before they are written, or an answer that is kept",
        "synchronise what shares memory, and keep nothing between calls",
        properties.repeated_calls,
        (),
        of.AGAIN,
    ),
    Check(
        "neighbours",
        "workloads that differ in one field only, prepared side by side, each get their own answer",
        "what is cached for one shape must not serve another",
        "a cache of masks, plans or compiled kernels keyed on too few fields",
        "key caches on the whole workload: it is hashable",
        properties.neighbours,
        of.NEIGHBOURS,
        of.MORE_NEIGHBOURS,
    ),
    Check(
        "dropout",
        "dropped weights are 0 and kept ones are divided by 1-p, at rate p, and backward drops the same",
        "a wrong factor or another mask in backward trains, only worse",
        "no division by 1-p, or a new mask drawn in backward",
        "seed with inputs.seed, keep the generator's state for backward, and scale by 1/(1-p)",
        dropout,
        of.DROPOUTS,
        of.MORE_DROPOUTS,
    ),
    Check(
        "dropout-anywhere",
        "dropout is right under every mask, for few queries, grouped heads, every rate and dtype",
        "dropout is often left out of, or wrong in, the paths that are taken for one feature alone",
        "a path for single queries that drops nothing, or a rate above 1/2 taken for its opposite",
        "draw in every path alike: kept with probability 1-p, and divided by it",
        dropped,
        of.DROPPED[:3],
        of.DROPPED[3:],
    ),
    Check(
        "log-sum-exp",
        "where a variant offers the log-sum-exp, it and its gradient are right",
        "ring attention and other combinations are built on it",
        "base 2 in place of e, or the maximum left out",
        "return max + log(sum of exp(score - max)) in float32, -inf for a row without keys",
        log_sum_exp,
        of.LOG_SUM_EXPS,
        of.MORE_LOG_SUM_EXPS,
    ),
    Check(
        "side-stream",
        "the callable works on the current CUDA stream",
        "on another stream it races with whatever makes its inputs",
        "a kernel launched on the default stream",
        "pass torch.cuda.current_stream().cuda_stream to the launch",
        device.side_stream,
        of.FRESH,
    ),
    Check(
        "refusals",
        "what is declared unsupported does fail; a hint is given where it would have run rightly",
        "a variant that is too shy is missing from tables in which it would shine",
        "unsupported_reason copied from an older version of a kernel",
        "narrow unsupported_reason to what really fails",
        _refusals,
        (),
        of.DRAWN[:1],
    ),
    Check(
        "large-index",
        "beyond 2^31 elements in one tensor the right ones are read and written",
        "long contexts and large batches get there",
        "an offset computed in 32-bit integers",
        "compute offsets in 64 bits",
        device.large_index,
        (),
        (),
        of.LARGE,
    ),
    Check(
        "drawn",
        "random workloads, shrunk to the smallest that fails, are right",
        "combinations that nobody thought of",
        "two features that work apart and not together",
        "start from the workload that the reason names: nothing smaller fails",
        drawn,
        (),
        (),
        of.DRAWN,
    ),
)
