"""Tests of variants that wrap libraries for GPUs, with fakes of the libraries."""

import inspect

import fake_libraries
import pytest
import torch

from attnbench import Workload
from attnbench.conformance.gate import Gate
from attnbench.tensors.inputs import make_inputs
from attnbench_variants import _library_support, flash_attention, sage, te_attention, xformers_mea
from attnbench_variants.flash_infer import FlashInfer
from attnbench_variants.flex import Flex
from attnbench_variants.sage import Sage
from attnbench_variants.te_attention import TransformerEngine
from attnbench_variants.triton_flash import TritonFlash
from attnbench_variants.varlen import Varlen
from attnbench_variants.xformers_mea import Xformers

FLASH = flash_attention.attnbench_variants()
VARIANTS = [*FLASH, FlashInfer(), Sage(), TransformerEngine(), Varlen()]
MASKS = [
    "none", "causal", "causal-top-left", "window:5:0", "window:3:4", "window:2:60", "prefix:6", "padding", "document",
]  # fmt: skip
PACKAGES = {
    "flash-attn-2": "flash-attn",
    "flash-attn-2-paged": "flash-attn",
    "flash-attn-3": "flash-attn-3",
    "flash-attn-4": "flash-attn-4",
    "flashinfer": "flashinfer-python",
    "sage": "sageattention",
    "transformer-engine": "transformer-engine[pytorch]",
}


def workload(**fields):
    """Return a small workload that most libraries support."""
    return Workload(**{"batch": 3, "heads": 4, "seq_q": 24, "head_dim": 64, "dtype": "bfloat16", **fields})


@pytest.fixture
def libraries(monkeypatch):
    """Replace the libraries with fakes."""
    fake_libraries.install(monkeypatch)
    monkeypatch.setattr(sage, "version", lambda name: "1.0.6")
    monkeypatch.setattr(te_attention, "version", lambda name: "2.20.2")


@pytest.fixture(params=VARIANTS, ids=lambda each: each.name)
def variant(request):
    """Return each wrapper in turn."""
    return request.param


def assert_correct_if_supported(variant, problem):
    """Skip the test if the variant refuses the workload; otherwise, assert that the variant passes the gate."""
    reason = variant.unsupported_reason(problem, "cuda")
    if reason is not None:
        pytest.skip(reason)
    inputs = make_inputs(problem, "cpu", variant.layout)
    verdict = Gate(variant, problem, inputs, variant.prepare(problem, inputs), seed=0).before()
    assert verdict.passed, f"{verdict.rule}: {verdict.reason}"


@pytest.mark.parametrize("seq_k", [24, 40, 16])
@pytest.mark.parametrize("mask", MASKS)
def test_masks(libraries, variant, mask, seq_k):
    """For each supported mask, the call matches the library's signature and the result is correct."""
    assert_correct_if_supported(variant, workload(mask=mask, seq_k=24 if mask == "document" else seq_k, kv_heads=2))


@pytest.mark.parametrize("mask", ["none", "causal", "padding"])
def test_decoding(libraries, variant, mask):
    """With a single query per sequence, results are correct for full and partly filled pages of keys."""
    assert_correct_if_supported(variant, workload(seq_q=1, seq_k=50, mask=mask, kv_heads=1, batch=4))


@pytest.mark.parametrize("variant", [FLASH[1], FlashInfer()], ids=lambda each: each.name)
@pytest.mark.parametrize(
    "fields",
    [
        {"mask": "causal"},
        {"mask": "padding", "seq_q": 1},
        {"mask": "window:300:0", "seq_q": 4},
        {"mask": "causal", "softcap": 2.0, "scale": 0.3, "seq_q": 9},
    ],
    ids=str,
)
def test_pages(libraries, variant, fields):
    """Results with paged keys and values are correct with a causal mask, unequal lengths, a window and a softcap."""
    problem = workload(**{"seq_q": 1, "seq_k": 512, "kv_heads": 2, **fields})
    assert variant.unsupported_reason(problem, "cuda") is None
    assert_correct_if_supported(variant, problem)


@pytest.mark.parametrize(
    "fields",
    [
        {"softcap": 2.0, "mask": "causal"},
        {"alibi": True, "mask": "causal"},
        {"alibi": True, "mask": "padding", "seq_k": 40},
        {"scale": 0.3},
        {"head_dim_v": 128, "mask": "causal", "seq_k": 40},
        {"direction": "forward_backward", "mask": "causal", "kv_heads": 2},
        {"direction": "forward_backward", "mask": "padding", "seq_k": 40},
        {"direction": "forward_backward", "mask": "document"},
    ],
    ids=str,
)
def test_other_features(libraries, variant, fields):
    """If supported, softcap, ALiBi, a custom scale, a different head_dim_v and gradients give correct results."""
    assert_correct_if_supported(variant, workload(**fields))


def test_supported_features_are_those_documented():
    """The wrappers support the features that the libraries document: masks, softcap, ALiBi, dropout and gradients."""
    two, paged, three, four = (each.abilities for each in FLASH)
    assert not paged.backward
    assert (two.softcap, two.alibi, two.dropout, two.other_value_dim) == (True, True, True, False)
    assert (three.softcap, three.alibi, three.dropout, three.other_value_dim) == (True, False, False, True)
    assert four.min_capability == (9, 0)
    assert all("prefix" not in each.masks for each in (two, three, four))


def test_versions_agree_with_torch():
    """The fake of torch's varlen kernel has the signature of the kernel in the installed torch."""
    from torch.nn.attention.varlen import varlen_attn

    recorded = inspect.signature(fake_libraries.varlen_attn).parameters
    for name, parameter in inspect.signature(varlen_attn).parameters.items():
        assert recorded[name].kind == parameter.kind
        assert recorded[name].default == parameter.default


class TestRefusals:
    @pytest.mark.parametrize("variant", VARIANTS[:-1], ids=lambda each: each.name)
    def test_a_missing_library_is_named(self, monkeypatch, variant):
        """If the library is missing, the reason names the package and the command that installs it."""
        monkeypatch.setattr(_library_support, "installed", lambda name: False)
        package = PACKAGES[variant.name]
        how = "./hopper in a clone of the flash-attention repository" if variant.name == "flash-attn-3" else package
        reason = f"needs the package {package.split('[')[0]} (pip install {how})"
        assert variant.unsupported_reason(workload(), "cuda") == reason
        assert variant.unsupported_reason(workload(), "cpu") == reason
        assert package.split("[")[0] in variant.packages, "the version of the library must be recorded"

    def test_a_cpu_has_no_kernels(self, libraries, variant):
        """The wrapper refuses to run on a CPU even if the library is installed."""
        assert "needs a CUDA GPU" in variant.unsupported_reason(workload(), "cpu")

    @pytest.mark.parametrize(
        ("fields", "word"),
        [({"dtype": "float32"}, "float32"), ({"head_dim": 60}, "head_dim"), ({"seq_k": 0}, "empty")],
        ids=str,
    )
    def test_shapes(self, libraries, variant, fields, word):
        """Dtypes, head dimensions and empty sequences that the kernels do not support are refused."""
        assert word in variant.unsupported_reason(workload(**fields), "cuda")

    def test_gpus_that_are_too_old_or_too_new(self, libraries, monkeypatch):
        """If a GPU is too old or too new for a library, the reason gives the required and the actual capability."""
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (7, 5))
        assert "8.0 or later, but this GPU has 7.5" in FLASH[0].unsupported_reason(workload(), "cuda")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (10, 0))
        assert "8.0 to 9.0, but this GPU has 10.0" in FLASH[2].unsupported_reason(workload(), "cuda")

    @pytest.mark.parametrize(
        ("variant", "capability", "fields", "word"),
        [
            (FLASH[0], (9, 0), {"softcap": 2.0, "dropout": 0.1}, "not support dropout with a softcap"),
            (FLASH[2], (9, 0), {"head_dim": 128, "head_dim_v": 64}, "here head_dim is 128 and head_dim_v is 64"),
            (
                FLASH[3],
                (9, 0),
                {"head_dim": 64, "head_dim_v": 256},
                "does not compile on this GPU for a head_dim_v of 256 with a head_dim of 64",
            ),
            (
                FLASH[3],
                (9, 0),
                {"head_dim_v": 32, "kv_heads": 2, "direction": "backward"},
                "no backward pass on this GPU for grouped",
            ),
            (FLASH[3], (10, 0), {"head_dim": 160}, "here head_dim is 160 and head_dim_v is 160"),
            (
                FLASH[3],
                (10, 0),
                {"head_dim": 256, "softcap": 2.0, "direction": "backward"},
                "no backward pass on this GPU for a soft",
            ),
        ],
        ids=lambda each: getattr(each, "name", str(each)),
    )
    def test_combinations(self, libraries, monkeypatch, variant, capability, fields, word):
        """Combinations of fields that a library can't handle, perhaps only on some GPUs, are refused with a reason."""
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
        assert word in variant.unsupported_reason(workload(**fields), "cuda")

    @pytest.mark.parametrize(
        ("variant", "capability", "fields"),
        [
            (FLASH[2], (9, 0), {"head_dim": 192, "head_dim_v": 128}),
            (FLASH[2], (9, 0), {"head_dim": 64, "head_dim_v": 256}),
            (FLASH[3], (9, 0), {"head_dim": 160}),
            (FLASH[3], (9, 0), {"head_dim": 128, "head_dim_v": 256}),
            (FLASH[3], (9, 0), {"head_dim_v": 32, "direction": "backward"}),
            (FLASH[3], (10, 0), {"head_dim": 192, "head_dim_v": 128}),
            (FLASH[3], (10, 0), {"head_dim": 256, "direction": "backward"}),
        ],
        ids=lambda each: getattr(each, "name", str(each)),
    )
    def test_neighbours_of_refused_combinations(self, libraries, monkeypatch, variant, capability, fields):
        """Supported shapes that are close to refused shapes are not refused."""
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
        assert variant.unsupported_reason(workload(**fields), "cuda") is None

    def test_an_old_transformer_engine_has_no_softcap(self, libraries, monkeypatch):
        """A softcap is refused with an old Transformer Engine, and the reason names the oldest supported version."""
        monkeypatch.setattr(te_attention, "version", lambda name: "2.19.0")
        assert "before 2.20" in TransformerEngine().unsupported_reason(workload(softcap=2.0), "cuda")

    @pytest.mark.parametrize(
        "variant",
        [Sage(), Flex(), TritonFlash(), Xformers("xformers-triton-splitk", "triton_splitk")],
        ids=lambda each: each.name,
    )
    def test_triton_without_a_compiler(self, libraries, monkeypatch, variant):
        """On a GPU, each variant with Triton kernels is refused with Triton's problem if Triton can't launch them."""
        monkeypatch.delenv("TRITON_INTERPRET", raising=False)
        monkeypatch.setattr(xformers_mea, "find_spec", lambda name: True)
        for found, reason in ((True, "neither gcc nor clang"), (False, "needs the package triton")):
            monkeypatch.setattr(_library_support, "installed", lambda name, found=found: found or name != "triton")
            monkeypatch.setattr(_library_support, "triton_compiler_problem", lambda: "neither gcc nor clang")
            assert reason in variant.unsupported_reason(workload(head_dim=64, mask="causal"), "cuda")
        monkeypatch.setattr(_library_support, "installed", lambda name: True)
        assert "neither" not in (variant.unsupported_reason(workload(head_dim=64, mask="causal"), "cpu") or "")

    def test_keys_that_sage_would_miscount(self, libraries, monkeypatch):
        """Partial blocks of keys are refused only for versions of Sage before 2, which count them as full blocks."""
        assert "multiple of 64, not 24" in Sage().unsupported_reason(workload(), "cuda")
        assert Sage().unsupported_reason(workload(mask="causal"), "cuda") is None
        monkeypatch.setattr(sage, "version", lambda name: "2.2.0")
        assert Sage().unsupported_reason(workload(), "cuda") is None

    def test_forward_only_libraries(self, libraries):
        """The wrappers of FlashInfer and SageAttention refuse training."""
        for each in (FlashInfer(), Sage()):
            assert "no backward" in each.unsupported_reason(workload(direction="backward"), "cuda")

    @pytest.mark.parametrize(
        "variant", [FLASH[1], FLASH[2], FlashInfer(), Sage(), Varlen()], ids=lambda each: each.name
    )
    def test_dropout(self, libraries, variant):
        """Wrappers of libraries without dropout refuse dropout."""
        assert "no dropout" in variant.unsupported_reason(workload(dropout=0.1), "cuda")
