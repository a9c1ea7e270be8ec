"""Tests of the input tensors: values, layouts, and refilling in place."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from attnbench import Workload
from attnbench.tensors import chunks
from attnbench.tensors.inputs import alibi_slopes, dtype_of, make_inputs, refill
from attnbench.tensors.layer import make_layer_inputs

GROUPED = Workload(
    batch=2, heads=4, kv_heads=2, seq_q=6, seq_k=10, head_dim=8, head_dim_v=5, direction="forward_backward"
)
TENSORS = ("query", "key", "value", "grad_output")


def test_shapes_in_bhsd():
    """Query, key, value and the output's gradient have the documented shapes."""
    inputs = make_inputs(GROUPED, "cpu")
    assert inputs.query.shape == (2, 4, 6, 8)
    assert inputs.key.shape == (2, 2, 10, 8)
    assert inputs.value.shape == (2, 2, 10, 5)
    assert inputs.grad_output.shape == (2, 4, 6, 5)


@pytest.mark.parametrize("name", TENSORS)
def test_layouts_hold_the_same_values(name):
    """Inputs in both layouts contain the same values, and their tensors are contiguous."""
    bhsd, bshd = (getattr(make_inputs(GROUPED, "cpu", layout, seed=3), name) for layout in ("BHSD", "BSHD"))
    assert torch.equal(bhsd, bshd.transpose(1, 2))
    assert bhsd.is_contiguous()
    assert bshd.is_contiguous()


DISTRIBUTIONS = ("normal", "uniform", "integers", "outliers", "zeros")


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_layouts_hold_the_same_values_in_several_chunks(distribution, monkeypatch):
    """Inputs that are drawn in several chunks contain the same values in both layouts."""
    monkeypatch.setitem(chunks.CHUNK_ELEMENTS, "cpu", 20)
    workload = Workload.from_json({**GROUPED.to_json(), "distribution": distribution})
    bhsd, bshd = (make_inputs(workload, "cpu", layout, seed=3) for layout in ("BHSD", "BSHD"))
    for name in TENSORS:
        assert torch.equal(getattr(bhsd, name), getattr(bshd, name).transpose(1, 2))


class UsedDevices(TorchDispatchMode):
    """A mode that records the device types of all tensors that torch's operators read or return."""

    def __init__(self):
        super().__init__()
        self.types = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        """Run one operator and record its tensors."""
        result = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        self.types |= {tensor.device.type for tensor in tensors}
        return result


@pytest.mark.parametrize("fields", [{"distribution": name} for name in DISTRIBUTIONS] + [{"embed_dim": 24}], ids=str)
def test_values_are_drawn_on_the_device(fields, monkeypatch):
    """For another device than the CPU, generators are on that device, and no tensor is drawn on the CPU and copied."""
    generators, on_cpu = [], torch.Generator

    class Generator:
        """A stand-in that records the device and returns a generator on the CPU, because `meta` has none."""

        def __new__(cls, device):
            generators.append(str(device))
            return on_cpu()

    monkeypatch.setattr(torch, "Generator", Generator)
    workload = Workload.from_json({**GROUPED.to_json(), **fields})
    with UsedDevices() as used:
        if workload.embed_dim:
            make_layer_inputs(workload, "meta", "BSHD", 0)  # `meta` stands in for a GPU
        else:
            refill(make_inputs(workload, "meta"), 1, workload.distribution)
    assert used.types == {"meta"}
    assert set(generators) == {"meta"}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_dtype(dtype):
    """The tensors have the workload's dtype."""
    workload = Workload(heads=1, seq_q=2, head_dim=2, dtype=dtype)
    assert make_inputs(workload, "cpu").query.dtype == dtype_of(workload) == getattr(torch, dtype)


def test_only_directions_with_a_backward_pass_have_gradients():
    """In all directions except forward, query, key and value require gradients and `grad_output` is present."""
    forward = make_inputs(Workload(heads=1, seq_q=2, head_dim=2), "cpu")
    assert forward.grad_output is None
    assert not any(leaf.requires_grad for leaf in forward.leaves)
    for direction in ("backward", "forward_backward"):
        training = make_inputs(Workload(heads=1, seq_q=2, head_dim=2, direction=direction), "cpu")
        assert all(leaf.requires_grad and leaf.is_leaf for leaf in training.leaves)
        assert not training.grad_output.requires_grad


def test_values_depend_on_the_seed():
    """Equal seeds give equal values, different seeds give different values, and the tensors of one workload differ."""
    one, again, other = (make_inputs(GROUPED, "cpu", seed=seed) for seed in (1, 1, 2))
    for name in TENSORS:
        assert torch.equal(getattr(one, name), getattr(again, name))
        assert not torch.equal(getattr(one, name), getattr(other, name))
    assert not torch.equal(one.key[..., :5], one.value)


def test_global_generator_is_left_alone():
    """Making inputs does not change torch's global random state."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    make_inputs(GROUPED, "cpu")
    assert torch.equal(torch.rand(3), expected)


def test_refill_keeps_addresses():
    """Refilled inputs have the same values as new inputs with the same seed, but keep their addresses."""
    inputs = make_inputs(GROUPED, "cpu", "BSHD", seed=1)
    addresses = [getattr(inputs, name).data_ptr() for name in TENSORS]
    refill(inputs, 7)
    fresh = make_inputs(GROUPED, "cpu", "BSHD", seed=7)
    assert addresses == [getattr(inputs, name).data_ptr() for name in TENSORS]
    assert all(torch.equal(getattr(inputs, name), getattr(fresh, name)) for name in TENSORS)
    assert all(leaf.grad is None and leaf.is_leaf for leaf in inputs.leaves)


def test_values_are_normal_about_a_mean_per_head():
    """Values have unit variance around a mean that differs between heads."""
    query = make_inputs(Workload(batch=4, heads=8, seq_q=512, head_dim=32), "cpu").query
    means = query.mean(dim=(0, 2))
    assert query.sub(means[None, :, None]).std().item() == pytest.approx(1.0, abs=0.02)
    assert 0.3 < means.std().item() < 0.7


def test_padding_lengths():
    """With a padding mask the inputs contain the key lengths as int32; with other masks they do not."""
    workload = Workload(batch=3, heads=1, seq_q=4, seq_k=40, head_dim=2, mask="padding")
    lengths = make_inputs(workload, "cpu").key_lengths
    assert lengths.dtype == torch.int32
    assert tuple(lengths.tolist()) == workload.key_lengths
    assert make_inputs(GROUPED, "cpu").key_lengths is None


def test_document_ids():
    """With a document mask the inputs contain document ids; positions with equal ids are visible to each other."""
    workload = Workload(batch=2, heads=1, seq_q=50, head_dim=2, mask="document")
    ids = make_inputs(workload, "cpu").document_ids
    assert ids.shape == (2, 50)
    assert ids.dtype == torch.int32
    assert int((ids[:, :, None] == ids[:, None, :]).sum()) == workload.visible_pairs
    assert make_inputs(GROUPED, "cpu").document_ids is None


@pytest.mark.parametrize("mask", ["none", "padding", "document"])
@pytest.mark.parametrize("sizes", [{"batch": 0, "seq_q": 3}, {"batch": 2, "seq_q": 0}])
def test_empty_workloads_have_inputs(mask, sizes):
    """A workload with an empty batch or sequence has empty input tensors."""
    inputs = make_inputs(Workload(heads=2, head_dim=4, mask=mask, direction="forward_backward", **sizes), "cpu")
    assert inputs.query.numel() == 0
    assert inputs.query.shape[3] == 4


@pytest.mark.parametrize("heads", [1, 2, 8, 16, 64])
def test_alibi_slopes_of_a_power_of_two(heads):
    """If the number of heads, n, is a power of two, the slopes are the geometric sequence from 2^(-8/n) to 2^-8."""
    expected = [2.0 ** (-8.0 / heads * (index + 1)) for index in range(heads)]
    assert alibi_slopes(heads).tolist() == pytest.approx(expected)


def test_alibi_slopes_of_twelve():
    """For 12 heads, the slopes are those for 8 heads, followed by every second slope for 16 heads."""
    assert alibi_slopes(12).tolist() == pytest.approx(alibi_slopes(8).tolist() + alibi_slopes(16)[0::2][:4].tolist())


def test_only_alibi_workloads_have_slopes():
    """Only the inputs of an ALiBi workload contain slopes, one for each head."""
    assert make_inputs(Workload(heads=6, seq_q=2, head_dim=2, alibi=True), "cpu").alibi_slopes.shape == (6,)
    assert make_inputs(GROUPED, "cpu").alibi_slopes is None
