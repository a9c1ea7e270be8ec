"""The plugins in examples/ compute correct results, and refuse workloads that they do not support."""

import csv
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from attnbench import Workload
from attnbench.conformance.gate import Gate
from attnbench.conformance.suite import checks
from attnbench.tensors.inputs import make_inputs
from attnbench.workloads.suite import read_suite

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name):
    """Import an example from its file, as `--plugin` does."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def check(variant, *names):
    """Run conformance checks at the `quick` level, assert that no test fails, and return how many tests passed."""
    results = list(checks(variant, level="quick", only=names or None))
    assert [
        f"{result.check} {result.workload_id}: {result.reason}" for result in results if result.status == "failed"
    ] == []
    return sum(result.status == "passed" for result in results)


def pass_gate(variant, **fields):
    """Assert that the variant passes the gate, the check that precedes each timing."""
    workload = Workload.from_json({"batch": 2, "heads": 4, "kv_heads": 2, "head_dim": 16, **fields})
    assert variant.unsupported_reason(workload, "cpu") is None
    inputs = make_inputs(workload, "cpu", variant.layout)
    verdict = Gate(variant, workload, inputs, variant.prepare(workload, inputs), 0).before()
    assert verdict.passed, verdict.reason


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton")
def test_triton_kernel_is_correct():
    """In the interpreter, the Triton kernel is correct with grouped heads, arbitrary strides and partial blocks."""
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_examples import check, load, pass_gate
(variant,) = load("triton_attention").attnbench_variants()
assert check(variant, "masks", "dtypes", "strides", "fresh-output", "neighbours", "refusals") > 10
for mask in ("none", "causal"):
    for sizes in ({{"seq_q": 70}}, {{"seq_q": 5, "seq_k": 40}}, {{"seq_q": 40, "seq_k": 5}}):
        pass_gate(variant, mask=mask, head_dim_v=32, **sizes)
print("right")
"""
    done = subprocess.run(  # a new process is needed, because triton reads TRITON_INTERPRET only on import
        [sys.executable, "-c", program], env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.stdout == "right\n", done.stderr


def test_triton_kernel_without_a_gpu(monkeypatch):
    """With neither a GPU nor the interpreter, the kernel is unsupported. The reason names the variable to set."""
    pytest.importorskip("triton")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    (variant,) = load("triton_attention").attnbench_variants()
    reason = variant.unsupported_reason(Workload(heads=1, seq_q=16, head_dim=16), "cpu")
    assert "TRITON_INTERPRET=1" in reason


def test_compiled_window_is_correct():
    """Compiled window attention and its gradients are correct, even with grouped heads or more keys than queries."""
    (variant,) = load("compiled_window").attnbench_variants()
    pass_gate(variant, seq_q=50, seq_k=70, mask="window:9:4")
    pass_gate(variant, seq_q=128, mask="window:64:0", direction="forward_backward")
    assert check(variant, "masks")


@pytest.mark.parametrize("sizes", [(33, 33), (7, 40), (40, 7), (1, 50), (64, 64)])
@pytest.mark.parametrize("window", [(0, 0), (3, 2), (100, 5)])
def test_window_function_is_correct(sizes, window):
    """Without compilation, window attention and its gradients are correct, even if the window exceeds the sequence."""
    module = load("compiled_window")
    (variant,) = module.attnbench_variants()
    seq_q, seq_k = sizes
    left, right = window
    workload = Workload(
        heads=2, seq_q=seq_q, seq_k=seq_k, head_dim=8, mask=f"window:{left}:{right}", direction="backward"
    )
    inputs = make_inputs(workload, "cpu")

    def call():
        return module.window_attention(
            inputs.query, inputs.key, inputs.value, left=left, right=right, scale=workload.effective_scale, block=16
        )

    verdict = Gate(variant, workload, inputs, call, 0).before()
    assert verdict.passed, verdict.reason


@pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler")
def test_cpp_extension_is_correct(monkeypatch):
    """The C++ extension builds, and is correct with equal and with different numbers of queries and keys."""
    # The build runs ninja, which is installed in the same folder as python.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    (variant,) = load("cpp_attention").attnbench_variants()
    for mask in ("none", "causal"):
        for sizes in ({"seq_q": 33}, {"seq_q": 7, "seq_k": 40}, {"seq_q": 40, "seq_k": 7}):
            pass_gate(variant, mask=mask, head_dim_v=24, **sizes)
    assert check(variant) > 80


@pytest.mark.parametrize("name", ["triton_attention", "compiled_window", "cpp_attention"])
def test_examples_refuse_what_they_do_not_compute(name):
    """Each example refuses softcap, ALiBi and dropout with a reason, instead of ignoring them."""
    (variant,) = load(name).attnbench_variants()
    mask = "window:4:0" if name == "compiled_window" else "none"
    for feature in ({"softcap": 5.0}, {"alibi": True}, {"dropout": 0.5}):
        workload = Workload.from_json({"heads": 1, "seq_q": 16, "head_dim": 16, "mask": mask, **feature})
        assert variant.unsupported_reason(workload, "cuda" if name == "triton_attention" else "cpu")


def test_live_table_shows_each_record(tmp_path, monkeypatch):
    """The observer starts a new table for each run, and appends a line for each record. Failed records have no time."""
    monkeypatch.setenv("LIVE_TABLE", str(tmp_path / "live.csv"))
    observer = load("live_table")
    workload = Workload(heads=1, seq_q=4, head_dim=2).to_json()
    record = {"variant": "naive", "workload": workload, "device": "cpu", "reason": None}
    for _ in range(2):
        observer.attnbench_run_started()
        observer.attnbench_record_stored({**record, "status": "ok", "samples_ns": [1e6, 3e6, 2e6]})
        observer.attnbench_record_stored({**record, "status": "crash", "samples_ns": [], "reason": "signal 11"})
    with (tmp_path / "live.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [(line["status"], line["median_ms"], line["reason"]) for line in lines] == [
        ("ok", "2.0000", ""), ("crash", "", "signal 11"),
    ]  # fmt: skip


def test_example_suite_is_a_suite():
    """The example suite can be read, and its grids cover prefill, decode and training."""
    suite = read_suite(EXAMPLES / "my_model.toml")
    assert suite.name == "my-model"
    assert len(suite.workloads) == 7
    assert {workload.direction for workload in suite.workloads} == {"forward", "forward_backward"}
    assert {workload.seq_q for workload in suite.workloads} >= {1, 256, 512}
