"""Tests of SageAttention and of xformers' triton_splitk in Triton's interpreter."""

import inspect

import fake_libraries
import pytest
from interpret import judge, wrong

for library in ("triton", "xformers", "sageattention"):
    pytest.importorskip(library)

HALF_PRECISION = ("float16", "bfloat16")


def workload(**fields):
    """Return a small workload with grouped heads; its keys fill whole blocks, but its queries do not."""
    return {"batch": 2, "heads": 4, "kv_heads": 2, "seq_q": 100, "seq_k": 128, "head_dim": 64, **fields}


def test_sage():
    """`sage` is as accurate as its tier requires for several head sizes, masks, dtypes, lengths and scales."""
    cases = [
        *[workload(head_dim=head_dim, dtype=dtype) for head_dim in (64, 96, 128) for dtype in HALF_PRECISION],
        *[workload(seq_q=150, seq_k=150, mask="causal", dtype=dtype) for dtype in HALF_PRECISION],
        workload(seq_q=1, seq_k=192, dtype="float16"),
        workload(scale=1.0, dtype="float16"),
    ]
    verdicts = judge("interpreted-sage", cases)
    assert not wrong(verdicts)
    # Such a large error shows that the kernel used 8-bit queries and keys.
    assert max(verdict["worst_ratio"] for verdict in verdicts) > 0.1


def test_sage_miscounts_part_blocks():
    """For a workload that the wrapper refuses, SageAttention's result includes keys that do not exist."""
    (verdict,) = judge("unguarded-sage", [workload(seq_k=77, dtype="float16")])
    assert not verdict["passed"]
    assert "constant factor" in verdict["reason"]


def test_split_keys():
    """triton_splitk is correct for all kinds of workloads that its wrapper supports."""
    cases = [
        *[workload(seq_q=7, seq_k=100, mask=mask, dtype="float16") for mask in ("causal", "window:30:0", "padding")],
        *[workload(seq_q=1, seq_k=300, mask=mask, dtype="float16") for mask in ("none", "window:30:9", "padding")],
        workload(seq_q=7, seq_k=100, mask="prefix:20", dtype="float16"),
        workload(seq_k=100, dtype="float16", kv_heads=4, head_dim=128),
    ]
    assert not wrong(judge("interpreted-xformers-triton-splitk", cases))


def test_the_recorded_signature():
    """The fake `sageattn` has the same signature as the installed function."""
    from sageattention import sageattn

    real, recorded = (inspect.signature(each).parameters.values() for each in (sageattn, fake_libraries.sageattn))
    assert [(p.name, p.kind, p.default) for p in real] == [(p.name, p.kind, p.default) for p in recorded]
