"""The workloads that the checks are run on: small, and each odd in its own way."""

from __future__ import annotations

from typing import Any

from attnbench.conformance.pairwise import covering
from attnbench.workloads.workload import Workload

BASE = {"batch": 2, "heads": 4, "kv_heads": 2, "head_dim": 32, "direction": "forward_backward"}
SHAPES = ((100, 100), (70, 150), (150, 70))  # as many queries as keys, fewer, more
LENGTHS = (1, 2, 63, 64, 65, 127, 129, 257)
LOW = ("float16", "bfloat16")


def workload(**fields: Any) -> Workload:
    """Make a workload from BASE with some fields changed; `seq` sets seq_q and seq_k."""
    merged = {**BASE, **fields}
    if "seq" in merged:
        merged["seq_q"] = merged["seq_k"] = merged.pop("seq")
    if "heads" in fields and "kv_heads" not in fields:
        merged["kv_heads"] = merged["heads"]
    return Workload.from_json(merged)


def _shaped(masks: tuple[str, ...], **fields: Any) -> list[Workload]:
    return [
        workload(
            mask=mask, seq_q=seq_q, seq_k=seq_k, **{"batch": 3 if mask in ("padding", "document") else 2, **fields}
        )
        for mask in masks
        for seq_q, seq_k in SHAPES
        if mask != "document" or seq_q == seq_k
    ]


CHOICES: dict[str, list[Any]] = {
    "mask": [
        "none", "causal", "causal-top-left", "window:7:0", "window:20:13", "window:64:0", "window:300:0",
        "window:1000:0", "window:0:1000", "prefix:10", "prefix:100", "padding", "document",
    ],
    "lengths": [
        (100, 100), (128, 128), (64, 200), (150, 70), (256, 256), (4, 150), (1, 130), (33, 257), (1, 1100), (16, 1024),
        (400, 400),
    ],
    "heads": [(4, 4), (4, 1), (6, 2), (1, 1), (9, 3), (20, 4), (16, 1), (32, 2)],
    "widths": [(32, 32), (64, 64), (80, 80), (40, 24), (16, 48), (128, 128), (72, 72), (50, 50), (36, 20)],
    "scores": [
        {}, {"scale": 0.3}, {"softcap": 2.0}, {"softcap": 50.0}, {"alibi": True},
        {"scale": 0.4, "softcap": 3.0, "alibi": True},
    ],
    "dtype": ["float32", *LOW],
    "batch": [1, 3, 12],
    "direction": ["forward_backward", "forward"],
}  # fmt: skip


def _combined(choice: dict[str, Any]) -> Workload:
    seq_q, seq_k = choice["lengths"]
    heads, kv_heads = choice["heads"]
    head_dim, head_dim_v = choice["widths"]
    return workload(
        seq_q=seq_q,
        seq_k=seq_q if choice["mask"] == "document" else seq_k,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        head_dim_v=head_dim_v,
        **choice["scores"],
        **{name: choice[name] for name in ("mask", "dtype", "batch", "direction")},
    )


COMBINED = [_combined(choice) for choice in covering(CHOICES)]
MASKS = [
    *_shaped(
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
    *[workload(mask=mask, seq=130, heads=2) for mask in ("window:1000:0", "window:0:1000", "prefix:100", "prefix:64")],
    workload(mask="causal-top-left", seq_q=128, seq_k=256, heads=2),
]
MORE_MASKS = [
    *_shaped(("window:0:0", "window:64:0", "window:63:64", "window:1000:1000", "prefix:0", "prefix:90"), heads=2),
    *[workload(mask=mask, seq_q=256, seq_k=128, heads=2) for mask in ("causal", "causal-top-left", "prefix:128")],
    *[workload(mask=mask, seq_q=128, seq_k=384, heads=2) for mask in ("causal", "window:128:0", "prefix:128")],
    workload(mask="prefix:1100", seq=1200, batch=1, heads=1),
    workload(mask="window:300:0", seq=512, batch=1, heads=2),
    workload(mask="window:300:300", seq=700, batch=1, heads=1),
    *_shaped(("causal", "window:7:0", "padding", "document"), dtype="float16", heads=2),
    *_shaped(("causal", "window:7:0", "padding", "document"), dtype="bfloat16", heads=2),
    *[workload(mask=mask, seq=200, batch=5, kv_heads=1) for mask in ("padding", "document")],
    workload(mask="document", seq=1, batch=3),
    workload(mask="padding", seq_q=1, seq_k=300, batch=4),
]
MASKED_ROWS = [
    workload(mask="causal", seq_q=150, seq_k=70),
    workload(mask="window:5:0", seq_q=200, seq_k=90),
    workload(mask="causal", seq_q=130, seq_k=1),
    workload(mask="causal", seq_q=100, seq_k=33, dtype="bfloat16"),
]
MORE_MASKED_ROWS = [
    workload(mask="window:5:5", seq_q=200, seq_k=90, alibi=True),
    workload(mask="causal-top-left", seq_q=33, seq_k=100),
    workload(mask="causal", seq_q=100, seq_k=33, dtype="float16"),
    workload(mask="causal", seq_q=140, seq_k=70, softcap=2.0),
    workload(mask="causal", seq_q=140, seq_k=70, direction="forward"),
]
OF_LENGTHS = [workload(mask="causal", seq=length, heads=2) for length in LENGTHS] + [
    workload(seq_q=5, seq_k=length, heads=2, direction="forward") for length in LENGTHS
]
OF_LENGTHS.append(workload(mask="causal", seq=256, heads=1))
MORE_LENGTHS = [
    *[workload(seq=length, heads=2, dtype="bfloat16") for length in LENGTHS],
    *[workload(seq_q=length, seq_k=7, heads=2) for length in LENGTHS],
    *[workload(mask="causal", seq_q=1, seq_k=length, heads=2, direction="forward") for length in (255, 256, 511, 513)],
    *[workload(mask="causal", seq=length, heads=1) for length in (31, 33, 255, 256, 300, 511, 512, 513)],
]
LONG = [
    workload(seq_q=1, seq_k=1100, heads=2),
    workload(seq_q=16, seq_k=1024, heads=2),
    workload(mask="causal", seq=1100, batch=1, heads=2, kv_heads=1),
    workload(seq_q=3, seq_k=4100, batch=1, heads=2),
    workload(mask="causal-top-left", seq_q=4100, seq_k=5, batch=1, heads=2),
    workload(mask="causal", seq_q=600, seq_k=1700, batch=1, heads=1, dtype="bfloat16"),
]
MORE_LONG = [
    *[workload(seq_q=seq_q, seq_k=seq_k, heads=2) for seq_q in (1, 3) for seq_k in (1023, 1025, 2039, 2048)],
    workload(seq=1300, batch=1, heads=2),
    workload(mask="window:130:0", seq=1500, batch=1, heads=2),
    workload(mask="document", seq=1500, batch=2, heads=1),
    workload(mask="causal", seq=2100, batch=1, heads=1, dtype="float16", head_dim=64),
    workload(mask="padding", seq_q=40, seq_k=2100, batch=3, heads=2),
    workload(mask="causal", seq_q=1, seq_k=9000, batch=1, heads=2, direction="forward", dtype="bfloat16"),
]
HEAD_DIMS = [
    *[workload(seq=70, mask="causal", head_dim=size, heads=2) for size in (8, 40, 64, 80, 96, 128, 256)],
    workload(seq_q=40, seq_k=70, head_dim=192, head_dim_v=128, heads=2),
    workload(seq=70, head_dim=16, head_dim_v=48, mask="causal", heads=2),
    workload(seq=70, head_dim=50, head_dim_v=36, heads=2),
]
MORE_HEAD_DIMS = [
    *[workload(seq=70, head_dim=size, heads=2, dtype="bfloat16") for size in (16, 24, 48, 72, 104, 112, 160, 192, 224)],
    *[workload(seq=70, mask="causal", head_dim=size, heads=2, dtype="float16") for size in (8, 64, 80, 96, 128, 256)],
    workload(seq_q=1, seq_k=200, head_dim=576, head_dim_v=512, heads=8, kv_heads=1, direction="forward"),
    workload(seq=60, head_dim=192, head_dim_v=128, mask="causal", heads=3, dtype="bfloat16"),
    workload(seq=60, head_dim=64, head_dim_v=8, heads=3),
    *[workload(seq=70, mask="causal", head_dim=size, heads=2) for size in (17, 33, 100, 127)],
    *[workload(seq=70, head_dim=size, head_dim_v=32, heads=2) for size in (1, 3, 5)],
]
HEADS = [
    workload(seq=90, mask="causal", batch=3, heads=6, kv_heads=2),
    workload(seq_q=20, seq_k=90, batch=2, heads=8, kv_heads=1),
    workload(seq=66, batch=1, heads=5, kv_heads=5),
    workload(seq=66, mask="causal", batch=5, heads=1),
    workload(seq=66, mask="causal", batch=2, heads=12, kv_heads=4, dtype="bfloat16", direction="forward"),
    workload(seq=70, mask="padding", batch=12, heads=16, kv_heads=1),
    workload(seq=16, mask="causal", batch=9, heads=40, kv_heads=8),
    workload(seq_q=1, seq_k=100, mask="window:20:0", batch=16, heads=32, kv_heads=8, direction="forward"),
    workload(seq_q=1, seq_k=60, mask="padding", alibi=True, batch=3),
]
MORE_HEADS = [
    workload(seq_q=1, seq_k=130, batch=3, heads=14, kv_heads=2, direction="forward"),
    workload(seq=40, batch=2, heads=28, kv_heads=4, dtype="float16"),
    workload(seq=33, batch=7, heads=9, kv_heads=3, mask="window:5:5"),
    workload(seq=40, batch=33, heads=2, mask="causal"),
    workload(seq=40, batch=17, mask="document"),
    workload(seq=40, batch=1, heads=64, kv_heads=2, mask="causal"),
]
SCORES = [
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
]
MORE_SCORES = [
    workload(seq_q=60, seq_k=90, mask="causal", scale=0.7, softcap=1.5, alibi=True, heads=6, kv_heads=3),
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
]
DTYPES = [
    workload(seq_q=seq_q, seq_k=seq_k, mask=mask, dtype=dtype, head_dim=64)
    for dtype in ("float32", *LOW)
    for seq_q, seq_k, mask in ((130, 130, "causal"), (64, 200, "none"))
]
DIRECTIONS = [
    workload(seq=80, mask="causal", direction=direction, dtype=dtype)
    for direction, dtype in (("forward", "float32"), ("backward", "float32"), ("backward", "bfloat16"))
]
NEEDLES = [
    *[workload(mask=mask, seq_q=130, seq_k=257, heads=2) for mask in ("none", "causal", "window:40:3")],
    *[workload(mask=mask, seq=150, batch=3, kv_heads=2) for mask in ("padding", "document", "prefix:20")],
    workload(mask="causal-top-left", seq_q=200, seq_k=129, heads=2, head_dim=64),
    workload(mask="window:63:0", seq_q=129, seq_k=200, heads=2, head_dim=80),
    *[workload(mask="causal", seq=140, dtype=dtype, head_dim=64, heads=6, kv_heads=3) for dtype in LOW],
    workload(seq_q=9, seq_k=1100, heads=2, batch=1, direction="forward"),
]
MORE_NEEDLES = [
    workload(seq_q=9, seq_k=5000, heads=2, batch=1, dtype="bfloat16", direction="forward", head_dim=64),
    workload(seq=1100, mask="causal", heads=1, batch=1),
    workload(seq_q=257, seq_k=130, mask="causal", head_dim=128),
    workload(seq_q=1, seq_k=513, mask="causal", batch=5, heads=8, kv_heads=2, direction="forward"),
    workload(seq=90, mask="window:5:5", head_dim=192, head_dim_v=128, dtype="float16"),
    *[workload(mask=mask, seq=260, batch=4, dtype="bfloat16") for mask in ("padding", "document")],
]
GAPS = [
    workload(seq=90),
    workload(seq=90, mask="causal", head_dim=80, head_dim_v=32, dtype="bfloat16"),
    workload(seq_q=30, seq_k=90, scale=0.4),
    workload(seq_q=9, seq_k=4100, batch=1, heads=2),
]
MORE_GAPS = [
    workload(seq_q=9, seq_k=4100, batch=1, heads=2, dtype="bfloat16", direction="forward"),
    *[workload(seq=90, head_dim=size, dtype=dtype) for size in (8, 96, 160) for dtype in LOW],
]
HUGE = [workload(seq=80, mask=mask, dtype=dtype) for mask, dtype in (("none", "float32"), ("causal", "bfloat16"))]
MORE_HUGE = [workload(seq=80, mask="causal", dtype="float16", head_dim=128), workload(seq=80, mask="window:5:0")]
CLIMBS = [workload(seq=200, mask="causal", heads=2)]
MORE_CLIMBS = [workload(seq_q=30, seq_k=400, heads=2), workload(seq=200, heads=2, dtype="bfloat16")]
UNIFORM = [workload(seq_q=40, seq_k=77), workload(seq=77, mask="causal", dtype="bfloat16")]
MORE_UNIFORM = [workload(seq=200, mask="padding", batch=3), workload(seq=77, mask="window:9:2", dtype="float16")]
SINGLE_KEYS = [
    workload(seq_q=70, seq_k=1, dtype=dtype, mask=mask)
    for dtype, mask in (("float32", "none"), ("bfloat16", "causal-top-left"))
]
LEAKS = [
    *_shaped(("causal", "window:9:4"), heads=2)[:4],
    workload(seq=140, mask="document", batch=2),
    workload(seq=140, mask="padding", batch=3),
]
MORE_LEAKS = [
    workload(seq=300, mask="causal", dtype="bfloat16", heads=2),
    workload(seq=140, mask="prefix:20", dtype="float16"),
    workload(seq_q=70, seq_k=200, mask="causal-top-left"),
]
INDEPENDENT = [workload(seq=70, batch=3, heads=6, kv_heads=3, direction="forward", mask="causal")]
MORE_INDEPENDENT = [workload(seq_q=1, seq_k=300, batch=4, direction="forward", dtype="bfloat16")]
UNMASKED = [workload(seq_q=50, seq_k=130, direction="forward")]
MORE_UNMASKED = [workload(seq_q=50, seq_k=130, direction="forward", dtype="bfloat16")]
GROUPED = [workload(seq=70, heads=6, kv_heads=2, mask="causal", direction="forward")]
MORE_GROUPED = [workload(seq=70, heads=8, kv_heads=1, direction="forward", dtype="float16")]
DECODES = [workload(seq=length, mask="causal", direction="forward") for length in (65, 130)]
MORE_DECODES = [workload(seq=200, mask=mask, direction="forward", dtype="bfloat16") for mask in ("none", "window:20:0")]
EMPTY = [
    workload(seq_q=0, seq_k=20),
    workload(batch=0, seq=20, mask="causal"),
    workload(batch=0, seq=20, mask="padding", direction="forward"),
]
STRIDED = [
    workload(seq_q=40, seq_k=70, mask="causal"),
    workload(seq=66, heads=3, dtype="bfloat16"),
    workload(seq=66, heads=2, direction="forward"),
]
FRESH = [workload(seq=70, mask="causal"), workload(seq=70, direction="forward")]
INTERLEAVED = [workload(seq=70, mask="causal")]
MORE_INTERLEAVED = [
    workload(seq=90, mask="padding", batch=3, dtype="bfloat16"),
    workload(seq_q=1, seq_k=300),
    workload(seq=90, mask="window:9:0", softcap=2.0, alibi=True),
    workload(seq=90, dropout=0.3),
]
NEIGHBOURS = [
    workload(seq_q=70, seq_k=101, mask="causal", batch=2),
    workload(seq_q=1, seq_k=300, batch=2, direction="forward"),
]
MORE_NEIGHBOURS = [
    workload(seq=90, mask="window:9:0"),
    workload(seq=90, mask="document"),
    workload(seq_q=60, seq_k=90, mask="causal", scale=0.4, softcap=3.0, alibi=True),
]
AGAIN = [workload(seq=70, mask="causal", direction=direction) for direction in ("forward", "forward_backward")]
DROPOUTS = [
    workload(seq=64, head_dim=32, head_dim_v=64, dropout=0.3),
    workload(seq_q=2000, seq_k=64, head_dim_v=64, batch=1, heads=1, dropout=0.3),
]
MORE_DROPOUTS = [
    workload(seq_q=100, seq_k=120, head_dim=32, head_dim_v=128, dropout=0.1, mask="causal", heads=2),
    workload(seq=64, head_dim=64, dropout=0.5, dtype="bfloat16"),
    workload(seq=64, head_dim=64, dropout=0.2, dtype="float16"),
    *[workload(seq=64, head_dim=64, dropout=rate) for rate in (0.02, 0.75, 0.95)],
    workload(seq_q=1, seq_k=128, head_dim=32, head_dim_v=128, batch=3, heads=32, dropout=0.4),
    workload(seq_q=64, seq_k=512, head_dim_v=512, batch=1, heads=1, dropout=0.3),
]
DROPOUT_CHOICES: dict[str, list[Any]] = {
    "mask": ["none", "causal", "window:20:13", "prefix:40", "padding", "document"],
    "lengths": [(100, 100), (1, 256), (64, 200), (300, 300)],
    "heads": [(16, 16), (16, 2)],
    "dropout": [0.1, 0.3, 0.75],
    "dtype": ["float32", *LOW],
    "scores": [{}, {"softcap": 2.0}, {"alibi": True}],
    "direction": ["forward_backward", "forward"],
}
DROPPED = [
    workload(
        seq_q=choice["lengths"][1 if choice["mask"] == "document" else 0],
        seq_k=choice["lengths"][1],
        heads=choice["heads"][0],
        kv_heads=choice["heads"][1],
        batch=3,
        **choice["scores"],
        **{name: choice[name] for name in ("mask", "dropout", "dtype", "direction")},
    )
    for choice in covering(DROPOUT_CHOICES)
]
MAGNITUDES = [workload(seq_q=60, seq_k=90, dtype=dtype) for dtype in ("float32", *LOW)]
MORE_MAGNITUDES = [workload(seq=90, mask="causal", dtype=dtype, heads=6, kv_heads=2) for dtype in ("float32", *LOW)]
COHERENT = [workload(seq_q=4100, seq_k=5, batch=1, heads=2, dtype="bfloat16")]
MORE_COHERENT = [workload(seq_q=4100, seq_k=5, batch=1, heads=2, dtype="float16")]
PAST = (1 << 24) + 64  # times a width of 128: more than 2^31 elements
LARGE = [
    workload(dtype="bfloat16", direction="forward", **{"batch": 1, "heads": 1, **shape})
    for shape in (
        {"seq_q": 2, "seq_k": PAST, "head_dim": 128, "head_dim_v": 8},
        {"seq_q": 2, "seq_k": PAST, "head_dim": 8, "head_dim_v": 128},
        {"seq_q": PAST, "seq_k": 2, "head_dim": 128, "head_dim_v": 8},
        {"seq_q": 1, "seq_k": 2048, "head_dim": 128, "head_dim_v": 8, "batch": 1025, "heads": 8},
    )
]
FAR_APART = [workload(seq=65, batch=1, heads=1, dtype=dtype) for dtype in ("bfloat16", "float32")]
VERY_LARGE = [
    workload(seq_q=1, seq_k=2, batch=1, heads=65537, kv_heads=1, head_dim=8, direction="forward"),
    workload(seq_q=1, seq_k=2, batch=65537, heads=1, head_dim=8, direction="forward"),
    workload(seq_q=16, seq_k=65600, mask="causal", batch=1, heads=2, kv_heads=1, head_dim=16),
    workload(seq_q=65600, seq_k=16, mask="causal-top-left", batch=1, heads=1, head_dim=16),
    workload(seq_q=40, seq_k=33000, mask="window:70:9", batch=1, heads=1, dtype="bfloat16"),
    workload(seq=4200, mask="causal", batch=1, heads=1, head_dim=16),
]
LOG_SUM_EXPS = [
    workload(seq_q=70, seq_k=100, mask="causal"),
    workload(seq_q=100, seq_k=70, mask="causal", dtype="bfloat16"),
    workload(seq=70, softcap=2.0, scale=0.7),
    workload(seq=90, mask="window:9:4", dtype="float16"),
]
MORE_LOG_SUM_EXPS = [
    workload(seq_q=100, seq_k=70, mask="causal", heads=6, kv_heads=2),
    *[workload(seq=90, mask=mask, batch=3) for mask in ("padding", "document")],
    workload(seq_q=1, seq_k=600, direction="forward", mask="causal", alibi=True),
]
UNMISTAKABLE_SOFTCAP = 8.0  # scores below it: a larger one may be left out and nobody sees
TRAITS = [workload(seq=130, mask="causal"), workload(seq=130, mask="causal", dtype="bfloat16")]
EMPTY_KEYS = [workload(seq_q=20, seq_k=0, direction="forward")]
DRAWN = [workload(seq=8, dtype=dtype) for dtype in ("float32", *LOW)]
EVERY = [
    *MASKS, *MORE_MASKS, *LONG, *HEAD_DIMS, *MORE_HEAD_DIMS, *HEADS, *SCORES, *MORE_SCORES, *DTYPES, *DIRECTIONS,
    *DROPOUTS, *MORE_DROPOUTS,
]  # fmt: skip
