"""Checks that compare answers on random inputs with the reference, one attention feature at a time."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from attnbench.conformance.check import check
from attnbench.conformance.check_workloads import DTYPES, of_all_shapes, workload
from attnbench.conformance.checks.log_sum_exp import judge_log_sum_exp, offered
from attnbench.conformance.gate import across, keep_rows
from attnbench.reference import evaluate, in_bhsd

if TYPE_CHECKING:
    from attnbench.conformance.subject import Subject
    from attnbench.workloads.workload import Workload

LENGTHS = (1, 2, 63, 64, 65, 127, 129, 257)


def compare_with_reference(subject: Subject, workload: Workload) -> None:
    """Compare the output and, if the variant returns them, the gradients and the log-sum-exp with the reference."""
    trial = subject.trial(workload)
    trial.refill(subject.seed_of("answer", workload.id))
    trial.judge(trial.run())
    if subject.variant.exact and (found := offered(trial)) is not None:
        for piece in evaluate(workload, trial.inputs):
            judge_log_sum_exp(piece, found[1].detach())


@check(
    "masks",
    demands="output and gradients are correct under every mask, for Sq < Sk, Sq = Sk and Sq > Sk",
    why="most bugs in attention kernels are off-by-one errors in the mask",
    usual_bug="top-left alignment instead of bottom-right (they differ unless Sq = Sk), or a window one key too wide",
    remedy="compare your condition with Mask's docstring: causal is j <= i + Sk - Sq; a window includes both ends",
    quick=[
        *of_all_shapes(
            (
                "none",
                "causal",
                "causal-top-left",
                "window:7:0",
                "window:0:5",
                "window:20:13",
                "prefix:10",
                "padding",
                "document",
            )
        ),
        *[workload(mask=mask, seq_q=4, seq_k=200, heads=2) for mask in ("causal", "window:30:2", "prefix:150")],
        *[workload(mask=mask, seq_q=1, seq_k=200, heads=2, direction="forward") for mask in ("window:30:2", "padding")],
        workload(mask="window:64:0", seq=128, heads=2),
        *[
            workload(mask=mask, seq=130, heads=2)
            for mask in ("window:1000:0", "window:0:1000", "prefix:100", "prefix:64")
        ],
        workload(mask="causal-top-left", seq_q=128, seq_k=256, heads=2),
    ],
    full=[
        *of_all_shapes(
            ("window:0:0", "window:64:0", "window:63:64", "window:1000:1000", "prefix:0", "prefix:90"), heads=2
        ),
        *[workload(mask=mask, seq_q=256, seq_k=128, heads=2) for mask in ("causal", "causal-top-left", "prefix:128")],
        *[workload(mask=mask, seq_q=128, seq_k=384, heads=2) for mask in ("causal", "window:128:0", "prefix:128")],
        workload(mask="prefix:1100", seq=1200, batch=1, heads=1),
        workload(mask="window:300:0", seq=512, batch=1, heads=2),
        workload(mask="window:300:300", seq=700, batch=1, heads=1),
        *of_all_shapes(("causal", "window:7:0", "padding", "document"), dtype="float16", heads=2),
        *of_all_shapes(("causal", "window:7:0", "padding", "document"), dtype="bfloat16", heads=2),
        *[workload(mask=mask, seq=200, batch=5, kv_heads=1) for mask in ("padding", "document")],
        workload(mask="document", seq=1, batch=3),
        workload(mask="padding", seq_q=1, seq_k=300, batch=4),
    ],
)
def masks(subject: Subject, workload: Workload) -> None:
    """Compare the answer with the reference under the workload's mask."""
    compare_with_reference(subject, workload)


@check(
    "masked-rows",
    demands="a query that sees no key has an output and a gradient of exactly 0",
    why="causal attention with more queries than keys has such queries; a NaN there spoils a whole training step",
    usual_bug="0/0 in the softmax (NaN), or masking with finfo.min, which gives the mean of all values",
    remedy="mask with -inf, and write 0 where the sum of weights is 0",
    quick=[
        workload(mask="causal", seq_q=150, seq_k=70),
        workload(mask="window:5:0", seq_q=200, seq_k=90),
        workload(mask="causal", seq_q=130, seq_k=1),
        workload(mask="causal", seq_q=100, seq_k=33, dtype="bfloat16"),
    ],
    full=[
        workload(mask="window:5:5", seq_q=200, seq_k=90, alibi=True),
        workload(mask="causal-top-left", seq_q=33, seq_k=100),
        workload(mask="causal", seq_q=100, seq_k=33, dtype="float16"),
        workload(mask="causal", seq_q=140, seq_k=70, softcap=2.0),
        workload(mask="causal", seq_q=140, seq_k=70, direction="forward"),
    ],
)
def masked_rows(subject: Subject, workload: Workload) -> None:
    """Compare the answer with the reference on a workload in which some queries see no key."""
    compare_with_reference(subject, workload)


@check(
    "lengths",
    demands="output and gradients are correct for lengths 1 and 2, and for lengths around multiples of the tile size",
    why="the last, partial tile is usually a separate code path",
    usual_bug="the last partial tile of keys is dropped, or its padding is counted in the sum of weights",
    remedy="check loads against the true length, and set the scores beyond it to -inf",
    quick=[
        *[workload(mask="causal", seq=length, heads=2) for length in LENGTHS],
        *[workload(seq_q=5, seq_k=length, heads=2, direction="forward") for length in LENGTHS],
        workload(mask="causal", seq=256, heads=1),
    ],
    full=[
        *[workload(seq=length, heads=2, dtype="bfloat16") for length in LENGTHS],
        *[workload(seq_q=length, seq_k=7, heads=2) for length in LENGTHS],
        *[
            workload(mask="causal", seq_q=1, seq_k=length, heads=2, direction="forward")
            for length in (255, 256, 511, 513)
        ],
        *[workload(mask="causal", seq=length, heads=1) for length in (31, 33, 255, 256, 300, 511, 512, 513)],
    ],
)
def lengths(subject: Subject, workload: Workload) -> None:
    """Compare the answer with the reference at a length of 1 or 2, or around a multiple of the tile size."""
    compare_with_reference(subject, workload)


@check(
    "long",
    demands="output and gradients are correct with many tiles of keys and of queries",
    why="with a single tile, an online softmax never has to rescale",
    usual_bug="the running sum or output is not rescaled when the running maximum grows",
    remedy="multiply sum and output by exp(old maximum - new maximum) before adding a tile",
    quick=[
        workload(seq_q=1, seq_k=1100, heads=2),
        workload(seq_q=16, seq_k=1024, heads=2),
        workload(mask="causal", seq=1100, batch=1, heads=2, kv_heads=1),
        workload(seq_q=3, seq_k=4100, batch=1, heads=2),
        workload(mask="causal-top-left", seq_q=4100, seq_k=5, batch=1, heads=2),
        workload(mask="causal", seq_q=600, seq_k=1700, batch=1, heads=1, dtype="bfloat16"),
    ],
    full=[
        *[workload(seq_q=seq_q, seq_k=seq_k, heads=2) for seq_q in (1, 3) for seq_k in (1023, 1025, 2039, 2048)],
        workload(seq=1300, batch=1, heads=2),
        workload(mask="window:130:0", seq=1500, batch=1, heads=2),
        workload(mask="document", seq=1500, batch=2, heads=1),
        workload(mask="causal", seq=2100, batch=1, heads=1, dtype="float16", head_dim=64),
        workload(mask="padding", seq_q=40, seq_k=2100, batch=3, heads=2),
        workload(mask="causal", seq_q=1, seq_k=9000, batch=1, heads=2, direction="forward", dtype="bfloat16"),
    ],
)
def long(subject: Subject, workload: Workload) -> None:
    """Compare the answer with the reference on a workload with many tiles of queries or keys."""
    compare_with_reference(subject, workload)


@check(
    "very-large",
    demands="sampled rows are correct with tens of thousands of keys, queries, heads or sequences",
    why="counters overflow and errors accumulate only at large sizes",
    usual_bug="positions, or indices of heads and sequences, are held in 16 bits",
    remedy="hold positions in 32 bits and sums in float32; only the x axis of a CUDA grid can exceed 65535",
    full=[
        workload(seq_q=1, seq_k=2, batch=1, heads=65537, kv_heads=1, head_dim=8, direction="forward"),
        workload(seq_q=1, seq_k=2, batch=65537, heads=1, head_dim=8, direction="forward"),
        workload(seq_q=16, seq_k=65600, mask="causal", batch=1, heads=2, kv_heads=1, head_dim=16),
        workload(seq_q=65600, seq_k=16, mask="causal-top-left", batch=1, heads=1, head_dim=16),
        workload(seq_q=40, seq_k=33000, mask="window:70:9", batch=1, heads=1, dtype="bfloat16"),
        workload(seq=4200, mask="causal", batch=1, heads=1, head_dim=16),
    ],
)
def very_large(subject: Subject, workload: Workload) -> None:
    """To limit the cost, compare only sampled rows with the reference, and set grad_output to 0 in all other rows."""
    trial = subject.trial(workload)
    seed = subject.seed_of("sampled", workload.id)
    trial.refill(seed)
    sample = across(workload, subject.device_type, random.Random(seed))  # noqa: S311 - a seeded choice, not a secret
    if trial.inputs.grad_output is not None and not sample.dense:
        keep_rows(in_bhsd(trial.inputs.grad_output, trial.inputs.layout), sample.part.rows)
    trial.judge(trial.run(), sample.part)


@check(
    "head-dims",
    demands="output and gradients are correct for head_dim 8 to 256, and with values wider or narrower than keys",
    why="kernels pad head_dim to a power of two and are tuned for 64 and 128",
    usual_bug="the scale is computed from the padded head_dim, or values are assumed to be as wide as keys",
    remedy="use workload.effective_scale as the scale, and read head_dim_v from the value tensor",
    quick=[
        *[workload(seq=70, mask="causal", head_dim=size, heads=2) for size in (8, 40, 64, 80, 96, 128, 256)],
        workload(seq_q=40, seq_k=70, head_dim=192, head_dim_v=128, heads=2),
        workload(seq=70, head_dim=16, head_dim_v=48, mask="causal", heads=2),
        workload(seq=70, head_dim=50, head_dim_v=36, heads=2),
    ],
    full=[
        *[
            workload(seq=70, head_dim=size, heads=2, dtype="bfloat16")
            for size in (16, 24, 48, 72, 104, 112, 160, 192, 224)
        ],
        *[
            workload(seq=70, mask="causal", head_dim=size, heads=2, dtype="float16")
            for size in (8, 64, 80, 96, 128, 256)
        ],
        workload(seq_q=1, seq_k=200, head_dim=576, head_dim_v=512, heads=8, kv_heads=1, direction="forward"),
        workload(seq=60, head_dim=192, head_dim_v=128, mask="causal", heads=3, dtype="bfloat16"),
        workload(seq=60, head_dim=64, head_dim_v=8, heads=3),
        *[workload(seq=70, mask="causal", head_dim=size, heads=2) for size in (17, 33, 100, 127)],
        *[workload(seq=70, head_dim=size, head_dim_v=32, heads=2) for size in (1, 3, 5)],
    ],
)
def head_dims(subject: Subject, workload: Workload) -> None:
    """Compare the answer with the reference for one width of the keys and one width of the values."""
    compare_with_reference(subject, workload)


@check(
    "heads",
    demands="output and gradients are correct for every grouping of query heads over key heads, and for large batches",
    why="current models use grouped-query attention",
    usual_bug="key heads are tiled (h % kv_heads) instead of repeated (h // group), or dK is averaged over a group",
    remedy="query head h reads key head h // (heads // kv_heads); dK and dV are summed over a group's query heads",
    quick=[
        workload(seq=90, mask="causal", batch=3, heads=6, kv_heads=2),
        workload(seq_q=20, seq_k=90, batch=2, heads=8, kv_heads=1),
        workload(seq=66, batch=1, heads=5, kv_heads=5),
        workload(seq=66, mask="causal", batch=5, heads=1),
        workload(seq=66, mask="causal", batch=2, heads=12, kv_heads=4, dtype="bfloat16", direction="forward"),
        workload(seq=70, mask="padding", batch=12, heads=16, kv_heads=1),
        workload(seq=16, mask="causal", batch=9, heads=40, kv_heads=8),
        workload(seq_q=1, seq_k=100, mask="window:20:0", batch=16, heads=32, kv_heads=8, direction="forward"),
        workload(seq_q=1, seq_k=60, mask="padding", alibi=True, batch=3),
    ],
    full=[
        workload(seq_q=1, seq_k=130, batch=3, heads=14, kv_heads=2, direction="forward"),
        workload(seq=40, batch=2, heads=28, kv_heads=4, dtype="float16"),
        workload(seq=33, batch=7, heads=9, kv_heads=3, mask="window:5:5"),
        workload(seq=40, batch=33, heads=2, mask="causal"),
        workload(seq=40, batch=17, mask="document"),
        workload(seq=40, batch=1, heads=64, kv_heads=2, mask="causal"),
    ],
)
def heads(subject: Subject, workload: Workload) -> None:
    """Compare the answer with the reference for one grouping of query heads over key heads."""
    compare_with_reference(subject, workload)


@check(
    "scores",
    demands="scale, softcap and ALiBi are applied in this order before the mask, and gradients account for them",
    why="Gemma-2 caps its scores, T5 does not scale them, and BLOOM and MPT use ALiBi",
    usual_bug="a custom scale is ignored, the softcap's derivative is missing, or ALiBi's sign or alignment is wrong",
    remedy="scores = mask(softcap * tanh(scale * q.k / softcap) - slope * |i + Sk - Sq - j|)",
    quick=[
        workload(seq_q=60, seq_k=90, mask="causal", scale=0.7, softcap=1.5, alibi=True, heads=6, kv_heads=3),
        workload(seq=90, mask="causal", scale=1.0),
        workload(seq_q=40, seq_k=90, scale=0.05),
        workload(seq=90, mask="causal", softcap=1.5, scale=0.7),
        workload(seq_q=40, seq_k=90, softcap=8.0, dtype="bfloat16"),
        workload(seq=90, mask="causal", alibi=True, heads=4, kv_heads=2),
        workload(seq_q=40, seq_k=90, alibi=True, heads=6, kv_heads=3),
        workload(seq_q=90, seq_k=40, alibi=True, heads=2),
        workload(seq_q=9, seq_k=60, alibi=True, heads=40, kv_heads=8, direction="forward"),
        workload(seq=90, mask="window:9:9", softcap=2.0, alibi=True, heads=4, kv_heads=1),
    ],
    full=[
        workload(seq=90, mask="causal", scale=0.3, dtype="bfloat16"),
        workload(seq=90, scale=0.3, dtype="float16"),
        workload(seq=90, mask="padding", softcap=2.0),
        workload(seq=90, mask="document", alibi=True),
        workload(seq_q=1, seq_k=200, mask="causal", alibi=True, heads=12, direction="forward"),
        workload(seq=90, mask="causal", softcap=50.0, dtype="bfloat16", direction="backward"),
        workload(seq=90, mask="causal", softcap=50.0),
        *[workload(seq=90, softcap=softcap, heads=2) for softcap in (0.05, 5000.0)],
        workload(seq=90, mask="causal", alibi=True, heads=8, dtype="float16"),
        workload(seq_q=40, seq_k=90, softcap=0.5, scale=2.0, alibi=True),
        workload(seq=65, head_dim=64, head_dim_v=16, scale=0.125, softcap=30.0),
    ],
)
def scores(subject: Subject, workload: Workload) -> None:
    """Compare the answer with the reference on a workload whose scores are scaled, capped or biased."""
    compare_with_reference(subject, workload)


@check(
    "dtypes",
    demands="output and gradients meet the error rule of each supported dtype",
    why="an accumulator in the input's dtype loses digits with every key",
    usual_bug="low-precision accumulation of the weighted sum, or TF32 in float32",
    remedy="accumulate in float32 and round once at the end; in a textbook variant, declare tier='plain'",
    quick=[
        workload(seq_q=seq_q, seq_k=seq_k, mask=mask, dtype=dtype, head_dim=64)
        for dtype in DTYPES
        for seq_q, seq_k, mask in ((130, 130, "causal"), (64, 200, "none"))
    ],
)
def dtypes(subject: Subject, workload: Workload) -> None:
    """Compare the answer with the reference in the workload's dtype."""
    compare_with_reference(subject, workload)


@check(
    "directions",
    demands="answers are correct in the directions forward and backward, not only in forward_backward",
    why="variants often take a different code path when no gradients are needed",
    usual_bug="the code path without gradients skips a step",
    remedy="compare both code paths on the same inputs",
    quick=[
        workload(seq=80, mask="causal", direction=direction, dtype=dtype)
        for direction, dtype in (("forward", "float32"), ("backward", "float32"), ("backward", "bfloat16"))
    ],
)
def directions(subject: Subject, workload: Workload) -> None:
    """Compare the answer with the reference in direction `forward` or `backward`."""
    compare_with_reference(subject, workload)
