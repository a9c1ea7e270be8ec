"""Builders of the small workloads that checks run on."""

from __future__ import annotations

from typing import Any

from attnbench.workloads.workload import Workload

DEFAULTS = {"batch": 2, "heads": 4, "kv_heads": 2, "head_dim": 32, "direction": "forward_backward"}
SHAPES = ((100, 100), (70, 150), (150, 70))  # (queries, keys): as many, fewer and more queries than keys
LOW_PRECISION = ("float16", "bfloat16")
DTYPES = ("float32", *LOW_PRECISION)


def workload(**fields: Any) -> Workload:
    """Build a workload from DEFAULTS and `fields`; `seq` sets both seq_q and seq_k.

    With `heads` alone, there are as many key heads as query heads.
    """
    merged = {**DEFAULTS, **fields}
    if "seq" in merged:
        merged["seq_q"] = merged["seq_k"] = merged.pop("seq")
    if "heads" in fields and "kv_heads" not in fields:
        merged["kv_heads"] = merged["heads"]
    return Workload.from_json(merged)


def of_all_shapes(masks: tuple[str, ...], **fields: Any) -> list[Workload]:
    """Build a workload for each mask and each of SHAPES; packed documents need as many queries as keys."""
    return [
        workload(
            mask=mask, seq_q=seq_q, seq_k=seq_k, **{"batch": 3 if mask in ("padding", "document") else 2, **fields}
        )
        for mask in masks
        for seq_q, seq_k in SHAPES
        if mask != "document" or seq_q == seq_k
    ]
