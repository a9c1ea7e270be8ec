"""Tests of `triton-flash` without a GPU: results in Triton's interpreter, and compilation for two GPU generations."""

import os
import subprocess
import sys

import pytest
import torch
from interpret import judge, wrong

from attnbench import Workload
from attnbench_variants.triton_flash import TritonFlash

triton = pytest.importorskip("triton")

SQUARE_MASKS = ["none", "causal", "window:20:3", "window:0:40", "prefix:37", "padding", "document"]
NONE_AND_CAUSAL = ("none", "causal")
RECTANGLES = [
    {"seq_q": 40, "seq_k": 100, "mask": "causal"},
    {"seq_q": 40, "seq_k": 100, "mask": "window:20:3"},
    {"seq_q": 40, "seq_k": 100, "mask": "prefix:17"},
    {"seq_q": 100, "seq_k": 40, "mask": "causal-top-left", "softcap": 2.0},
    {"seq_q": 100, "seq_k": 40, "mask": "causal"},
    {"seq_q": 100, "seq_k": 40, "mask": "window:20:3"},
    {"seq_q": 70, "seq_k": 1, "mask": "causal", "alibi": True},
    {"seq_q": 1, "seq_k": 70, "mask": "causal"},
    {"seq_q": 1, "seq_k": 70, "mask": "causal-top-left"},
]


def workload(**fields):
    """Return a small training workload; its sequences have several tiles, and the last tile is partial."""
    return {
        "heads": 2, "kv_heads": 1, "seq_q": 100, "head_dim": 16, "mask": "causal",
        "direction": "forward_backward", **fields,
    }  # fmt: skip


def test_masks_on_squares():
    """Output and gradients are correct under every mask, with grouped heads and with skipped and partial tiles."""
    batch = {"padding": 2, "document": 2}
    heads = {"causal": 2}
    cases = [workload(mask=mask, batch=batch.get(mask, 1), heads=heads.get(mask, 1)) for mask in SQUARE_MASKS]
    assert not wrong(judge(TritonFlash.name, cases))


def test_masks_on_rectangles():
    """Results are correct for unequal numbers of queries and keys, rows that see no key, softcap and ALiBi."""
    assert not wrong(judge(TritonFlash.name, [workload(heads=1, **shape) for shape in RECTANGLES]))


def test_shapes_and_dtypes():
    """Results are correct for odd head sizes, wide values, half precision, a custom scale and empty sizes."""
    cases = [
        workload(head_dim=40, head_dim_v=24),
        workload(head_dim=5, head_dim_v=80, seq_q=33, heads=6, kv_heads=2),
        workload(dtype="float16"),
        workload(dtype="bfloat16", softcap=3.0, alibi=True),
        workload(scale=0.7, direction="backward", seq_q=16),
        workload(direction="forward", batch=3, seq_q=70),
        workload(seq_q=0), workload(seq_q=3, seq_k=0, mask="none"), workload(batch=0),
    ]  # fmt: skip
    assert not wrong(judge(TritonFlash.name, cases))


def test_bfloat16_is_rounded_to_nearest():
    """In the interpreter, bfloat16 results are rounded to nearest, although the interpreter truncates by default."""
    verdicts = judge(
        TritonFlash.name,
        [workload(dtype="bfloat16", direction="forward", heads=8, batch=2, mask=mask) for mask in NONE_AND_CAUSAL],
    )
    assert not wrong(verdicts)
    assert max(verdict["worst_ratio"] for verdict in verdicts) < 0.6


def test_needs_a_gpu_or_the_interpreter(monkeypatch):
    """`triton-flash` refuses to run on a CPU without the interpreter, and on a GPU with the interpreter."""
    variant, small = TritonFlash(), Workload(heads=1, seq_q=4, head_dim=8)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert "needs a CUDA GPU (or TRITON_INTERPRET=1" in variant.unsupported_reason(small, "cpu")
    assert variant.unsupported_reason(small, "cuda") is None
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert variant.unsupported_reason(small, "cpu") is None
    assert "unset it" in variant.unsupported_reason(small, "cuda")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"dropout": 0.1}, "has no dropout"),
        ({"head_dim": 576, "head_dim_v": 512}, "supports a head_dim of at most 256"),
    ],
)
def test_unsupported_workloads_are_refused(fields, reason):
    """Dropout, and heads that are too wide for shared memory, are refused with a reason."""
    problem = Workload(**{"heads": 1, "seq_q": 4, "head_dim": 8, **fields})
    assert reason in TritonFlash().unsupported_reason(problem, "cuda")


def test_missing_triton_is_named(monkeypatch):
    """If triton is missing, the reason names the package and the command that installs it."""
    monkeypatch.setattr("attnbench_variants._library_support.find_spec", lambda name: None)
    reason = TritonFlash().unsupported_reason(Workload(heads=1, seq_q=4, head_dim=8), "cuda")
    assert reason == "needs the package triton (pip install triton)"


@pytest.fixture
def fitting():
    """Return a function that computes the candidate configurations of a kernel for a shape."""
    from attnbench_variants.triton_flash import tuning

    def fit(kernel, dtype=torch.bfloat16, head_dim=128, *, seq_q=4096, seq_k=4096, shared_bytes=232448):
        arguments = {
            "query": torch.empty(1, dtype=dtype), "seq_q": seq_q, "seq_k": seq_k, "BLOCK_D": head_dim,
            "BLOCK_DV": head_dim,
        }  # fmt: skip
        return tuning.fitting(kernel, tuning.candidates(), arguments, shared_bytes)

    return fit


@pytest.mark.parametrize("kernel", ["forward", "grad_key_value", "grad_query"])
@pytest.mark.parametrize("head_dim", [16, 64, 128, 256])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_at_most_twelve_candidates_are_timed(fitting, kernel, head_dim, dtype):
    """For long sequences, there are 1 to 12 candidate configurations. For short sequences, there is exactly one.

    Long sequences are tested with the shared memory sizes of Hopper (227 KiB) and Ampere (163 KiB).
    """
    for shared_bytes in (232448, 166912):
        configs = fitting(kernel, dtype, head_dim, shared_bytes=shared_bytes)
        assert 1 <= len(configs) <= 12
        assert all(min(config.kwargs.values()) >= 16 < max(config.kwargs.values()) for config in configs)
    assert len(fitting(kernel, dtype, head_dim, seq_q=200, seq_k=200)) == 1
    assert len(fitting(kernel, dtype, head_dim, seq_q=1, seq_k=1)) == 1


def test_one_query_gets_a_small_tile(fitting):
    """A single query is padded to only 16 rows, the minimum for a tensor core."""
    assert {config.kwargs["BLOCK_M"] for config in fitting("forward", seq_q=1)} == {16}


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("kernel", ["forward", "grad_key_value", "grad_query"])
def test_kernels_compile_for_a_gpu(kernel, capability):
    """Each kernel compiles to machine code for Ampere and Hopper that uses tensor cores."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("compilation needs TRITON_INTERPRET to be unset")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from attnbench_variants.triton_flash import backward, forward

    function = getattr(forward if kernel == "forward" else backward, f"{kernel}_kernel").fn
    constants = {"HEAD_DIM": 64, "HEAD_DIM_V": 64, "BLOCK_D": 64, "BLOCK_DV": 64, "BLOCK_M": 64, "BLOCK_N": 64}
    constants |= {"RAGGED": False} if kernel == "grad_key_value" else {}
    absent = ("key_lengths", "document_starts", "document_stops", "slopes", "left", "prefix", "softcap")
    types = dict.fromkeys((*constants, *absent), "constexpr") | {
        "log_sum": "*fp32",
        "row_dots": "*fp32",
        "scale": "fp32",
    }
    types |= dict.fromkeys(("heads", "kv_heads", "seq_q", "seq_k", "offset", "right"), "i32")
    names = function.arg_names
    source = ASTSource(
        function,
        signature={name: types.get(name, "*bf16") for name in names},
        constexprs={**constants, **dict.fromkeys(absent)},
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 4})
    assert compiled.asm["cubin"]
    assert ("wgmma.mma_async" if capability == 90 else "mma.sync") in compiled.asm["ptx"]


STRIDED = """
from dataclasses import replace
from attnbench import Workload
from attnbench.conformance.suite import cases, run_case
from attnbench.conformance.subject import Subject
from attnbench_variants.triton_flash import TritonFlash
(case, *_) = cases(TritonFlash(), level="quick", only=["strides"])
small = Workload(2, 10, 16, batch=2, kv_heads=1, mask="causal", direction="forward_backward")
result = run_case(Subject(TritonFlash()), replace(case, workload=small))
print(result.status, result.reason)
"""


def test_tensors_of_any_strides_are_read_correctly():
    """The conformance check for views and strides passes in the interpreter."""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-c", STRIDED]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "passed None\n"
