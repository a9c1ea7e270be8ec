"""Tests of `flash-attn-4` that compile the kernels of the installed package for Hopper, without a GPU."""

from pathlib import Path

import pytest
from separate_process import verdicts

pytest.importorskip("flash_attn.cute", reason="needs flash-attn-4 (CONTRIBUTING.md has the command)")

SCRIPT = Path(__file__).parent / "compile_flash_attention_4.py"
HOPPER = {"FLASH_ATTENTION_ARCH": "sm_90", "CUTE_DSL_ARCH": "sm_90a", "FLASH_ATTENTION_NUM_SMS": "132"}
BOTH_WAYS = ("forward", "forward_backward")


def compiled(*changes):
    """Compile a small workload with each of the given changes, all in one process, and return the verdicts."""
    base = {"batch": 2, "heads": 4, "kv_heads": 2, "seq_q": 128, "head_dim": 64, "dtype": "bfloat16", "mask": "causal"}
    return verdicts(str(SCRIPT), [{**base, **change} for change in changes], **HOPPER)


def test_supported_workloads_compile():
    """The library compiles supported workloads with various masks, directions and head dimensions."""
    masks = ("none", "causal", "window:20:0", "window:20:5", "padding", "document")
    found = compiled(
        *[{"mask": mask, "direction": way} for mask in masks for way in BOTH_WAYS],
        *[{"mask": mask, "seq_q": 40, "seq_k": 128, "direction": "backward"} for mask in ("causal", "padding")],
        *[{"head_dim": width, "direction": "backward"} for width in (8, 40, 96, 128, 192, 256)],
        {"head_dim": 192, "head_dim_v": 128, "kv_heads": 4, "direction": "backward"},
        {"head_dim": 64, "head_dim_v": 192},
        {"head_dim": 256, "softcap": 5.0, "direction": "backward"},
        {"seq_q": 1, "seq_k": 128, "dtype": "float16", "kv_heads": 1},
    )
    assert [verdict for verdict in found if verdict["refused"] or verdict["error"]] == []


def test_refused_workloads_do_not_compile():
    """The library can't compile workloads whose head dimensions the wrapper refuses on Hopper."""
    found = compiled(
        {"head_dim": 64, "head_dim_v": 200},
        {"head_dim": 96, "head_dim_v": 256},
        {"head_dim": 192, "head_dim_v": 128, "direction": "backward"},
        {"head_dim": 60},
    )
    assert all(verdict["refused"] and verdict["error"] for verdict in found), found
