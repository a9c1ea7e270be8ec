"""Tests of which workloads `sdpa` and its pinned backends refuse, how masks are passed and how backends are chosen."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from attnbench import Workload
from attnbench.measure.anticheat.integrity import PINNED_FLAG, read_flags
from attnbench.tensors.inputs import make_inputs
from attnbench_variants import sdpa
from attnbench_variants.sdpa import Sdpa, attnbench_variants

FLASH = Sdpa("sdpa-flash", "FLASH_ATTENTION")


def workload(**fields):
    """Return a small workload."""
    return Workload(**{"heads": 2, "seq_q": 8, "head_dim": 16, **fields})


def test_names():
    """There are variants for the dispatcher, four pinned backends and two registered implementations."""
    names = [variant.name for variant in attnbench_variants()]
    assert names == ["sdpa", "sdpa-math", "sdpa-flash", "sdpa-efficient", "sdpa-cudnn", "sdpa-fa3", "sdpa-fa4"]


@pytest.mark.parametrize("variant", attnbench_variants(), ids=lambda each: each.name)
def test_softcap_is_refused(variant):
    """Each variant refuses a softcap, which scaled_dot_product_attention does not support."""
    assert "no softcap" in variant.unsupported_reason(workload(softcap=30.0), "cpu")


@pytest.mark.parametrize("backend", ["EFFICIENT_ATTENTION", "CUDNN_ATTENTION"])
def test_kernels_that_a_cpu_lacks(backend):
    """Variants with the memory-efficient or cuDNN backend refuse to run on a CPU."""
    assert "CUDA" in Sdpa("x", backend).unsupported_reason(workload(), "cpu")


@pytest.mark.parametrize(
    ("fields", "word"),
    [({"dropout": 0.1}, "dropout"), ({"head_dim_v": 8}, "head_dim_v")],
    ids=["dropout", "head_dim_v"],
)
def test_torch_raises_for_what_flash_refuses_on_a_cpu(fields, word):
    """If the CPU's flash kernel does not support a workload, torch raises an error and does not fall back."""
    problem = workload(**fields)
    assert word in FLASH.unsupported_reason(problem, "cpu")
    no_kernel = pytest.raises(RuntimeError, match="No available kernel")
    with pytest.warns(UserWarning, match="."), no_kernel, FLASH.calling_context():
        FLASH.prepare(problem, make_inputs(problem, "cpu"))()


@pytest.mark.parametrize(
    ("fields", "device", "form"),
    [
        ({"mask": "none"}, "cpu", "nothing"),
        ({"mask": "causal"}, "cpu", "is_causal"),
        ({"mask": "causal", "seq_k": 12}, "cpu", "mask"),
        ({"mask": "causal", "seq_k": 12}, "cuda", "lower_right"),
        ({"mask": "causal", "seq_k": 4}, "cuda", "mask"),
        ({"mask": "causal", "seq_q": 1, "seq_k": 12}, "cuda", "nothing"),
        ({"mask": "causal-top-left", "seq_k": 12}, "cuda", "is_causal"),
        ({"mask": "window:2:2"}, "cuda", "mask"),
        ({"mask": "none", "alibi": True}, "cuda", "mask"),
    ],
    ids=str,
)
def test_how_a_mask_is_passed(fields, device, form):
    """Square and top-left causal masks are passed as torch's is_causal; other bottom-right masks are not."""
    assert FLASH._mask_form(workload(**fields), device) == form


@pytest.mark.parametrize("backend", ["MATH", "FLASH_ATTENTION", "EFFICIENT_ATTENTION", "CUDNN_ATTENTION"])
def test_the_calling_context_pins_one_backend(backend):
    """The calling context allows the backends that torch's sdpa_kernel allows, and restores the previous ones."""
    flags = lambda: read_flags()[PINNED_FLAG]  # noqa: E731 - shorter than a function
    before = flags()
    with sdpa_kernel(getattr(SDPBackend, backend)):
        expected = flags()
    with Sdpa("x", backend).calling_context():
        assert flags() == expected
    assert flags() == before
    with pytest.raises(RuntimeError, match="a failed call"), Sdpa("x", backend).calling_context():
        raise RuntimeError("a failed call")
    assert flags() == before
    with Sdpa("sdpa").calling_context():
        assert flags() == before


@pytest.mark.parametrize("backend", ["MATH", "CUDNN_ATTENTION"])
def test_a_mask_that_torch_would_make_at_each_call(backend):
    """For backends without a kernel for `causal_lower_right`, the mask is made in advance on CUDA as well."""
    assert Sdpa("x", backend)._mask_form(workload(mask="causal", seq_k=12), "cuda") == "mask"


@pytest.mark.parametrize(("judge", "form"), [("flash", "CausalBias"), ("efficient", "CausalBias"), (None, "Tensor")])
def test_without_a_pin_torchs_checks_choose_the_form_of_the_mask(monkeypatch, judge, form):
    """Without a pin, `causal_lower_right` is passed if torch has a kernel for it, and a mask otherwise."""
    for name in ("flash", "efficient"):
        monkeypatch.setattr(torch.backends.cuda, f"can_use_{name}_attention", lambda parameters, ok=name == judge: ok)
    monkeypatch.setattr(Sdpa, "_mask_form", lambda *_: "lower_right")
    problem = workload(mask="causal", seq_k=12, kv_heads=1)
    function = Sdpa("sdpa").prepare_function(problem, make_inputs(problem, "cpu"))
    assert type(function.keywords["attn_mask"]).__name__ == form


class TestOnCuda:
    """On CUDA, torch's own functions check whether a workload is supported. The tests replace them with fakes."""

    def test_without_a_gpu(self):
        """The device `cuda` is refused on a machine without a GPU."""
        if torch.cuda.is_available():
            pytest.skip("this machine has a GPU")
        assert "CUDA GPU" in FLASH.unsupported_reason(workload(), "cuda")

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_alibi_in_half_precision(self, monkeypatch, dtype):
        """ALiBi is refused in half precision, where a bias tensor would not be precise enough."""
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        assert "ALiBi" in FLASH.unsupported_reason(workload(alibi=True, dtype=dtype), "cuda")

    def test_the_reason_is_that_of_torch(self, monkeypatch):
        """The reason is torch's warning, and torch checks tensors with the workload's shapes, dtype and mask."""
        import warnings

        asked = []

        def judge(parameters, debug):
            asked.append(parameters)
            warnings.warn("head_dim is too large. (Triggered internally at file.cpp:1.)", stacklevel=1)
            return False

        monkeypatch.setattr(torch.backends.cuda, "can_use_flash_attention", judge)
        problem = workload(mask="window:2:2", head_dim=32, kv_heads=1, dtype="bfloat16", direction="backward")
        reason = FLASH._lacking_on_cuda(problem, torch.device("cpu"))
        assert reason == "torch reports: head_dim is too large."
        (parameters,) = asked
        assert parameters.query.shape == (1, 2, 8, 32)
        assert parameters.key.shape == (1, 1, 8, 32)
        assert parameters.attn_mask.shape == (1, 2, 8, 8)
        assert parameters.query.dtype == torch.bfloat16
        assert parameters.query.requires_grad
        assert parameters.enable_gqa
        assert not parameters.is_causal

    def test_torch_agrees(self, monkeypatch):
        """If torch accepts the workload for the backend, the variant returns no reason."""
        monkeypatch.setattr(torch.backends.cuda, "can_use_flash_attention", lambda parameters, debug: True)
        assert FLASH._lacking_on_cuda(workload(), torch.device("cpu")) is None


class TestRegisteredImplementations:
    """`sdpa-fa3` and `sdpa-fa4` replace torch's flash kernel with an implementation that is registered in torch."""

    @pytest.mark.parametrize(
        ("name", "package", "install"),
        [("FA3", "flash-attn-3", "./hopper in a clone"), ("FA4", "flash-attn-4", "flash-attn-4)")],
        ids=["FA3", "FA4"],
    )
    def test_a_missing_package_is_named(self, monkeypatch, name, package, install):
        """If the package is missing, the reason names the package and the command that installs it."""
        monkeypatch.setattr(sdpa, "installed", lambda module: False)
        reason = Sdpa("x", "FLASH_ATTENTION", name).unsupported_reason(workload(), "cuda")
        assert reason.startswith(f"needs the package {package} (pip install {install}")

    @pytest.mark.parametrize(
        ("name", "capability", "fields", "reason"),
        [
            ("FA3", (8, 0), {}, "compute capability 9.x, but this GPU has 8.0"),
            ("FA3", (10, 0), {}, "compute capability 9.x, but this GPU has 10.0"),
            ("FA4", (12, 0), {}, "compute capability 9.x or 10.x, but this GPU has 12.0"),
            ("FA4", (9, 0), {"dropout": 0.1}, "with dropout"),
        ],
    )
    def test_workloads_that_torch_does_not_route(self, monkeypatch, name, capability, fields, reason):
        """A GPU for which torch would not call the registered kernels is refused, and so is dropout with `sdpa-fa4`."""
        monkeypatch.setattr(sdpa, "installed", lambda module: True)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
        assert reason in Sdpa("x", "FLASH_ATTENTION", name).unsupported_reason(workload(**fields), "cuda")

    def test_an_old_torch(self, monkeypatch):
        """If torch is too old to register the implementation, the reason says that another version is needed."""
        monkeypatch.setattr(torch.nn.attention, "list_flash_attention_impls", list)
        reason = Sdpa("x", "FLASH_ATTENTION", "FA4").unsupported_reason(workload(), "cuda")
        assert "needs a version of torch that can register FA4" in reason

    def test_a_cpu_is_refused(self, monkeypatch):
        """`sdpa-fa3` refuses to run on a CPU, although torch has a different flash kernel for CPUs."""
        monkeypatch.setattr(sdpa, "installed", lambda module: True)
        assert "CUDA" in Sdpa("x", "FLASH_ATTENTION", "FA3").unsupported_reason(workload(), "cpu")

    def test_each_call_uses_the_implementation_of_its_variant(self, monkeypatch):
        """Each call activates its variant's implementation, unless the implementation is already active."""
        done, current = [], [None]

        def activate(name):
            done.append(name)
            current[0] = name

        attention = torch.nn.attention
        monkeypatch.setattr(attention, "activate_flash_attention_impl", activate)
        monkeypatch.setattr(attention, "restore_flash_attention_impl", lambda: activate(None))
        monkeypatch.setattr(attention, "current_flash_attention_impl", lambda: current[0])
        for implementation in (None, "FA3", "FA3", None, None, "FA4", "FA3"):
            sdpa._select(implementation)
        assert done == ["FA3", None, "FA4", "FA3"]

    def test_a_torch_that_cannot_restore_its_kernels(self, monkeypatch):
        """If torch can't restore its own kernels, as in 2.10, the error says what to do."""
        monkeypatch.setattr(torch.nn.attention, "current_flash_attention_impl", lambda: "FA4")
        monkeypatch.delattr(torch.nn.attention, "restore_flash_attention_impl")
        with pytest.raises(RuntimeError, match=r"can't replace FA4 .* start a new process, or update torch"):
            sdpa._select(None)
