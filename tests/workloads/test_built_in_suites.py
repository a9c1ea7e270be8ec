"""The suites that come with attnbench."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attnbench.workloads.suite import BUILT_IN, built_in_suites

SUITES = built_in_suites()


def test_the_documented_suites_exist():
    """Every documented suite exists, and each file is named after its suite."""
    assert {path.stem for path in BUILT_IN.glob("*.toml")} == set(SUITES)
    assert set(SUITES) >= {
        "quick", "standard", "long-context", "bert", "gpt", "translation", "vision", "llama", "gemma",
        "deepseek-mla", "decode", "varlen", "multi-gpu", "layer",
    }  # fmt: skip


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_each_shape_names_its_model_and_source(suite):
    """Each suite has a description, and each of its grids names a model and the source of its shape."""
    assert suite.description
    for grid in suite.grids:
        assert grid.title
        assert grid.source


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_no_grid_repeats_another(suite):
    """A suite's grids do not overlap, so each workload has only one title."""
    assert sum(len(grid.workloads) for grid in suite.grids) == len(suite.workloads)


def test_quick_is_quick():
    """`quick` has at least 12 workloads, both forward and training, each below 20 GFLOP and 100 MB of data."""
    workloads = SUITES["quick"].workloads
    assert len(workloads) >= 12
    assert {workload.direction for workload in workloads} == {"forward", "forward_backward"}
    assert max(workload.flops() for workload in workloads) < 20e9
    assert max(workload.bytes() for workload in workloads) < 100e6


def test_standard_is_the_flash_attention_table():
    """Every workload in `standard` has 16k tokens and a model width of 2048."""
    for workload in SUITES["standard"].workloads:
        assert workload.batch * workload.seq_q == 16384
        assert workload.heads * workload.head_dim == 2048


def test_suites_cover_what_their_names_say():
    """Suites have the features that their names suggest, such as cross attention, grouped heads or a softcap."""
    assert any(w.seq_q != w.seq_k for w in SUITES["translation"].workloads)
    assert any(w.kv_heads < w.heads and w.seq_q == 1 for w in SUITES["llama"].workloads)
    assert any(w.softcap and w.mask.kind == "window" and w.head_dim == 256 for w in SUITES["gemma"].workloads)
    assert {(w.head_dim, w.head_dim_v) for w in SUITES["deepseek-mla"].workloads} == {(192, 128), (576, 512)}
    assert all(w.seq_q <= 8 < w.seq_k for w in SUITES["decode"].workloads)
    assert {w.mask.kind for w in SUITES["varlen"].workloads} == {"padding", "document", "causal"}
    assert {w.split for w in SUITES["multi-gpu"].workloads if w.gpus > 1} == {"batch", "heads", "ring"}
    layers = SUITES["layer"].workloads
    assert {replace(w, embed_dim=0) for w in layers if w.embed_dim} == {w for w in layers if not w.embed_dim}
    assert max(w.seq_q for w in SUITES["long-context"].workloads) >= 131072
    assert [name for name, suite in SUITES.items() if suite.frontier] == ["long-context"]
