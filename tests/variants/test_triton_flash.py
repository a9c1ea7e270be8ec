"""Tests of the Triton variants without a GPU: results in Triton's interpreter, and compilation for GPU generations."""

import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from interpret import judge, wrong

from attnbench import Workload
from attnbench_variants.triton_flash import TritonFlash, TritonFlashAtomic

pytest.importorskip("triton")

import kernel_table
from triton.runtime.errors import OutOfResources

from attnbench_variants.triton_flash import tuning
from attnbench_variants.triton_flash.configurations import Configuration, Gpu, Shape, configurations

needs_compiler = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="needs TRITON_INTERPRET to be unset"
)
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


ONE_PASS = [
    *({"mask": mask, "batch": 2 if mask in ("padding", "document") else 1} for mask in SQUARE_MASKS),
    *({"heads": 1, **shape} for shape in RECTANGLES[1:4]),
    {"mask": "causal", "heads": 4, "kv_heads": 2, "dtype": "bfloat16", "scale": 0.7},
    {"head_dim": 40, "head_dim_v": 24, "softcap": 3.0, "alibi": True},
    *({"head_dim": head_dim, "seq_q": 150} for head_dim in (64, 128, 256)),
    {"head_dim": 64, "seq_q": 128, "dtype": "float16"},
    {"seq_q": 3, "seq_k": 0, "mask": "none"}, {"batch": 0},
]  # fmt: skip


def test_one_pass_with_atomic_additions():
    """The backward pass of `triton-flash-atomic` is correct under every mask, and for all head sizes and lengths."""
    assert not wrong(judge(TritonFlashAtomic.name, [workload(**fields) for fields in ONE_PASS]))


def test_only_the_variant_without_atomic_additions_claims_to_be_repeatable():
    """`triton-flash` claims the trait `repeatable`, and `triton-flash-atomic` does not."""
    assert TritonFlash.traits == {"repeatable"}
    assert not TritonFlashAtomic.traits


def test_both_variants_refuse_the_same_workloads():
    """`triton-flash-atomic` refuses what `triton-flash` refuses, with the same reasons."""
    for fields in ({}, {"dropout": 0.1}, {"head_dim": 512}):
        problem = Workload(**{"heads": 1, "seq_q": 4, "head_dim": 8, **fields})
        for device in ("cpu", "cuda"):
            reasons = [each.unsupported_reason(problem, device) for each in (TritonFlash(), TritonFlashAtomic())]
            assert reasons[0] == reasons[1]


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


HOPPER, AMPERE, ADA = (Gpu(capability, shared) for capability, shared in (
    ((9, 0), 232448), ((8, 0), 166912), ((8, 9), 101376)
))  # fmt: skip
KERNELS = ["forward", "grad_key_value", "grad_query", "gradients"]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("head_dim", [16, 64, 128, 256])
@pytest.mark.parametrize("element_size", [2, 4])
@pytest.mark.parametrize("gpu", [HOPPER, AMPERE, ADA])
def test_at_most_six_configurations_are_timed(kernel, head_dim, element_size, gpu):
    """For long sequences, there are 1 to 6 configurations. For short sequences, there is exactly one."""
    offered = configurations(kernel, Shape(4096, 4096, head_dim, head_dim, element_size), gpu)
    assert 1 <= len(offered) <= 6
    assert all(each.outer >= 32 or element_size == 4 for each in offered)
    for length in (1, 200):
        assert len(configurations(kernel, Shape(length, length, head_dim, head_dim, element_size), gpu)) == 1


def test_one_query_gets_a_small_tile():
    """A single query is padded to only 16 rows, the minimum for a tensor core."""
    assert [each.outer for each in configurations("forward", Shape(1, 4096, 128, 128, 2), HOPPER)] == [16]


def test_only_hopper_runs_ahead():
    """The forward kernel runs ahead on Hopper alone, and only if the rows of keys and values are whole lines."""

    def ahead(gpu, head_dim=128):
        return any(each.ahead for each in configurations("forward", Shape(4096, 4096, head_dim, 128, 2), gpu))

    assert ahead(HOPPER)
    assert not ahead(HOPPER, head_dim=100)
    assert not ahead(AMPERE)
    assert not ahead(Gpu((10, 0), 232448))


class Kernel:
    """A stand-in for a compiled kernel that records launches; `spills` and `failing` hold numbers of warps."""

    def __init__(self, spills=(), failing=()):
        self.spills, self.failing, self.launches = spills, failing, []

    def __getitem__(self, grid):
        def run(*arguments, **options):
            if options["num_warps"] in self.failing:
                raise OutOfResources(2, 1, "shared memory")
            self.launches.append((grid, options))
            return SimpleNamespace(n_spills=16 if options["num_warps"] in self.spills else 0)

        return run


@pytest.fixture
def gpu(monkeypatch):
    """Make tuning see a Hopper GPU on which a tile of keys of 64 is fastest, and return the list of timed options."""
    timed = []

    def milliseconds(run):
        run()
        timed.append(run.__defaults__[0])
        return abs(timed[-1]["BLOCK_N"] - 64) + timed[-1]["num_warps"]

    monkeypatch.setattr(tuning, "_gpu", lambda: HOPPER)
    monkeypatch.setattr(tuning, "_milliseconds", milliseconds)
    return timed


LONG = Shape(4096, 4096, 128, 128, 2)


def work(kernel, length=4096, heads=16):
    """Return a launch of the stand-in for the forward kernel."""
    return tuning.Launch("forward", kernel, "BLOCK_M", length, heads, (), {})


@needs_compiler
def test_the_fastest_configuration_is_chosen_once_and_then_launched_directly(gpu):
    """The first launch times the configurations; the next ones run the fastest, with one launch a call."""
    kernel, chosen = Kernel(), {}
    tuning.launch(chosen, LONG, work(kernel))
    assert len(gpu) == len(configurations("forward", LONG, HOPPER))
    assert (chosen["forward"]["BLOCK_N"], chosen["forward"]["num_warps"]) == (64, 4)
    timings, launches = len(gpu), len(kernel.launches)
    tuning.launch(chosen, LONG, work(kernel))
    assert len(gpu) == timings
    assert kernel.launches[launches:] == [((4096 // 64 * 16,), chosen["forward"])]


@needs_compiler
def test_configurations_that_spill_or_do_not_compile_are_not_timed(gpu):
    """A configuration that spills registers on this GPU, or needs too much memory, is dropped before it is timed."""
    chosen = {}
    tuning.launch(chosen, LONG, work(Kernel(spills=(4,))))
    assert {options["num_warps"] for options in gpu} == {8}
    gpu.clear()
    tuning.launch({}, LONG, work(Kernel(failing=(8,))))
    assert {options["num_warps"] for options in gpu} == {4}
    with pytest.raises(OutOfResources):
        tuning.launch({}, LONG, work(Kernel(failing=(4, 8))))


@needs_compiler
def test_the_tensor_that_a_kernel_adds_to_is_cleared_after_tuning(gpu):
    """The launches that choose a configuration leave nothing in the sums; later launches don't clear them."""
    sums, chosen = torch.zeros(4), {}

    class Adding(Kernel):
        def __getitem__(self, grid):
            sums.add_(1)
            return super().__getitem__(grid)

    adding = tuning.Launch("gradients", Adding(), "BLOCK_N", 4096, 16, (), {}, sums)
    for launches in (1, 2):
        tuning.launch(chosen, LONG, adding)
        assert sums.tolist() == [launches] * 4


@needs_compiler
def test_tuning_long_sequences_computes_only_a_part(gpu):
    """Tuning computes at most 131,072 rows in a launch, and the launch that counts computes all of them."""
    kernel = Kernel()
    tuning.launch({}, LONG, work(kernel, length=524288))
    *tried, (whole, options) = kernel.launches
    assert whole == (524288 // options["BLOCK_M"] * 16,)
    assert all(grid[0] * options["BLOCK_M"] == tuning.MAX_TUNED_ROWS for grid, options in tried)


def test_the_choice_is_remembered_between_prepares():
    """Two prepares of one workload share their choice; another batch, mask or softcap is another choice."""
    from attnbench.tensors.inputs import make_inputs
    from attnbench_variants.triton_flash.attention import describe

    def chosen(**fields):
        small = Workload(**{"heads": 2, "seq_q": 32, "head_dim": 16, "mask": "causal", **fields})
        return describe(small, make_inputs(small, "cpu")).chosen

    assert chosen() is chosen(direction="forward_backward")
    for other in ({"batch": 2}, {"mask": "window:8:0"}, {"softcap": 2.0}, {"dtype": "float32"}, {"kv_heads": 1}):
        assert chosen(**{"dtype": "float16", **other}) is not chosen(dtype="float16")
    assert tuning.remembered.cache_info().maxsize == tuning.MAX_REMEMBERED


def test_tensors_at_odd_addresses_are_copied():
    """A tensor that does not start at a multiple of 16 bytes is copied, because tensor descriptors can't read it."""
    from attnbench_variants.triton_flash.attention import contiguous

    storage = torch.arange(33, dtype=torch.bfloat16)
    assert storage.data_ptr() % 16 == 0
    aligned, odd = storage[8:24], storage[1:17]
    same, copied = contiguous(aligned, odd)
    assert same is aligned
    assert copied.data_ptr() % 16 == 0
    assert torch.equal(copied, odd)


@needs_compiler
@pytest.mark.parametrize("version", ["3.6", "3.7"])
def test_no_configuration_spills(version):
    """The table has a row for each configuration; none spills, serialises or needs more memory than the GPU has."""
    rows = (kernel_table.TABLES_FOLDER / f"kernels_triton_{version}.md").read_text(encoding="utf-8").splitlines()[2:]
    for line, each in zip(rows, kernel_table.offered(), strict=True):
        kernel, head_dim, gpu, configuration, _ = each
        assert line.startswith(kernel_table.table_row(*kernel_table.cells(*each))[:-1])
        *_, spilled, shared, serialised = line.strip("| ").split(" | ")
        assert (spilled, serialised) == ("0", "no"), line
        estimate = configuration.shared_bytes(kernel, kernel_table.shape_of(head_dim), kernel_table.GPUS[gpu])
        assert int(shared) <= estimate <= kernel_table.GPUS[gpu].shared_bytes, line


COMPILED = [
    ("forward", 128, "sm_90", -2),
    ("grad_key_value", 128, "sm_90", 0),
    ("grad_query", 128, "sm_90", 0),
    ("grad_key_value", 256, "sm_89", -1),
    ("grad_query", 256, "sm_89", -1),
    ("forward", 64, "sm_80", 0),
    ("gradients", 128, "sm_90", 0),
    ("gradients", 256, "sm_89", 0),
]


@needs_compiler
@pytest.mark.parametrize(("kernel", "head_dim", "gpu", "place"), COMPILED)
def test_compiled_configurations(kernel, head_dim, gpu, place):
    """A configuration neither spills nor serialises when it is compiled, and uses the GPU's tensor cores."""
    device, shape = kernel_table.GPUS[gpu], kernel_table.shape_of(head_dim)
    result, log = kernel_table.compiled(kernel, configurations(kernel, shape, device)[place], shape, device)
    needed = kernel_table.resources(result, log)
    assert (needed.spilled_bytes, needed.serialised) == (0, False)
    assert needed.shared_bytes <= device.shared_bytes
    assert ("wgmma.mma_async" if gpu == "sm_90" else "mma.sync") in result.asm["ptx"]


@needs_compiler
def test_running_ahead_computes_exponentials_during_products():
    """In the kernel that runs ahead, exponentials stand between the products and the wait; in the other one, none."""

    def overlapping(*, ahead):
        configuration = Configuration(128, 64, 8, ahead=ahead)
        shape, device = kernel_table.shape_of(128), kernel_table.GPUS["sm_90"]
        return kernel_table.overlapping_exponentials(kernel_table.compiled("forward", configuration, shape, device)[0])

    assert overlapping(ahead=False) == 0
    assert overlapping(ahead=True) >= 34  # all exponentials of a tile of 128 x 64 in 256 threads, and two of its rows


@needs_compiler
def test_one_pass_computes_each_exponential_once():
    """On Hopper, one pass has as many exponentials as each of two, and its additions to memory are vectors of four."""

    def count(kernel, pattern):
        configuration, device = Configuration(64, 64, 4), kernel_table.GPUS["sm_90"]
        result, _ = kernel_table.compiled(kernel, configuration, kernel_table.shape_of(64), device)
        return len(re.findall(pattern, result.asm["sass"]))

    two_passes = [count(kernel, r"\bMUFU\.EX2\b") for kernel in ("grad_key_value", "grad_query")]
    assert count("gradients", r"\bMUFU\.EX2\b") == two_passes[0] == two_passes[1]
    assert count("gradients", r"\bREDG\.E\.ADD\.F32x4\b") > 0
    assert count("gradients", r"\bREDG\.E\.ADD\.F32\.") == count("grad_key_value", r"\bREDG\b") == 0


def test_wide_heads_have_a_backward_pass_on_small_gpus():
    """With 99 KiB of shared memory, tiles of the backward pass at head_dim 256 are at least 32 x 32."""
    for kernel in ("grad_key_value", "grad_query", "gradients"):
        offered = configurations(kernel, Shape(4096, 4096, 256, 256, 2), ADA)
        assert all(each.outer >= 32 and each.inner >= 32 for each in offered)


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
