"""Each built-in variant that calls torch's attention passes only what the signatures of its versions have."""

import importlib
import inspect

import fake_libraries
import pytest
import torch
from torch_signatures import RECORDED, signature

from attnbench import Workload
from attnbench.tensors.inputs import make_inputs
from attnbench_variants import flex, sdpa, varlen
from attnbench_variants.varlen import Varlen

VARIANTS = {
    variant.name: variant
    for module in (sdpa, flex, varlen)
    for variant in module.attnbench_variants()
    if getattr(variant, "implementation", None) is None
}
WORKLOADS = [
    Workload(batch=2, heads=4, seq_q=24, head_dim=16, dtype=dtype, mask=mask, direction=direction, **fields)
    for mask in ("none", "causal", "causal-top-left", "window:5:0", "prefix:6", "padding", "document")
    for fields in ({}, {"kv_heads": 2}, {"seq_k": 40}, {"softcap": 2.0}, {"alibi": True}, {"scale": 0.3})
    for dtype, direction in (("float32", "forward"), ("bfloat16", "forward_backward"))
    if mask != "document" or "seq_k" not in fields
]


def owner_and_name(path):
    """Return the object that has the function as an attribute, and the attribute's name."""
    parts = path.split(".")
    for end in range(len(parts) - 1, 0, -1):
        try:
            owner = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for part in parts[end:-1]:
            owner = getattr(owner, part)
        return owner, parts[-1]
    raise LookupError(path)


@pytest.fixture
def called(monkeypatch):
    """Return a function that checks calls of torch against a version's signatures, and returns the called names.

    With `gpu`, a fake of the varlen kernel is installed, and torch reports a GPU.
    """

    def record(version, *, gpu=False):
        names = set()
        if gpu:
            fake_libraries.install(monkeypatch)
        for path in RECORDED[version]:
            owner, name = owner_and_name(path)
            monkeypatch.setattr(owner, name, checked(path, getattr(owner, name), signature(version, path), names))
        path = "torch.nn.attention.flex_attention.flex_attention"
        compiled = checked(path, lambda query, *_, **named: query, signature(version, path), names)
        monkeypatch.setattr(flex, "_compiled", lambda: compiled)
        return names

    def checked(path, function, expected, names):
        def call(*args, **named):
            expected.bind(*args, **named)  # raises TypeError for an argument that this version does not have
            names.add(path)
            return function(*args, **named)

        call.__signature__ = expected
        return call

    return record


def test_the_newest_recorded_signatures_are_those_of_the_installed_torch():
    """The signatures recorded for the installed version of torch are those of its functions."""
    version = torch.__version__.partition("+")[0]
    if version not in RECORDED:
        pytest.skip(f"no signatures of torch {version} are recorded")
    for path in RECORDED[version]:
        function = getattr(*owner_and_name(path))
        if path.endswith("scaled_dot_product_attention"):
            continue  # a built-in function, which has no signature in Python
        installed = inspect.signature(function).parameters
        recorded = signature(version, path).parameters
        assert [(each.name, each.kind) for each in installed.values()] == [
            (each.name, each.kind) for each in recorded.values()
        ], path


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("version", RECORDED)
@pytest.mark.parametrize("name", VARIANTS)
def test_calls_match_the_signatures(called, name, version):
    """For each workload that the variant supports, its preparation and its call match the version's signatures."""
    names, variant, supported = called(version, gpu=name == "varlen"), VARIANTS[name], 0
    for workload in WORKLOADS:
        if variant.unsupported_reason(workload, "cuda" if name == "varlen" else "cpu") is not None:
            continue
        supported += 1
        inputs = make_inputs(workload, "cpu", variant.layout)
        with variant.calling_context():
            variant.prepare(workload, inputs)()
    if (name, version) != ("varlen", "2.10.0") and name not in ("sdpa-efficient", "sdpa-cudnn"):
        assert supported
        assert names


@pytest.mark.parametrize("version", RECORDED)
@pytest.mark.parametrize("name", ["sdpa", "sdpa-flash", "sdpa-efficient", "sdpa-cudnn"])
def test_checks_of_a_gpu_match_the_signatures(called, monkeypatch, name, version):
    """On CUDA, the arguments of torch's checks and of its bottom-right bias match the version's signatures."""
    names, variant = called(version), VARIANTS[name]
    workload = Workload(heads=4, kv_heads=2, seq_q=8, seq_k=12, head_dim=16, mask="causal")
    variant._lacking_on_cuda(workload, torch.device("cpu"))
    monkeypatch.setattr(type(variant), "_mask_form", lambda *_: "lower_right")
    variant.prepare(workload, make_inputs(workload, "cpu"))
    assert any("can_use" in each for each in names)


@pytest.mark.parametrize(
    ("version", "fields", "reason"),
    [
        ("2.10.0", {}, "needs torch 2.11 or later, whose varlen_attn supports windows"),
        ("2.11.0", {"kv_heads": 2}, "needs torch 2.12 or later, whose varlen_attn supports grouped heads"),
        ("2.11.0", {}, None),
        ("2.12.0", {"kv_heads": 2}, None),
    ],
)
def test_varlen_refuses_what_a_version_lacks(called, version, fields, reason):
    """`varlen` names the version of torch that supports the workload, if the signature lacks an argument for it."""
    called(version, gpu=True)
    workload = Workload(heads=4, seq_q=24, head_dim=16, dtype="bfloat16", mask="causal", **fields)
    found = Varlen().unsupported_reason(workload, "cuda")
    assert found == reason if reason is None else found.startswith(reason)
