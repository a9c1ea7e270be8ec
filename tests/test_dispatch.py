"""Run-time dispatch to the variant that was measured as the fastest."""

import json

import pytest
import torch

import attnbench
import synthetic
from attnbench import dispatch
from attnbench.analysis.dispatch_table import regions, to_json
from attnbench.analysis.results import Results
from attnbench.errors import UsageError
from attnbench.workloads.workload import Workload

CELLS = synthetic.workloads(seqs=(64, 128, 256), heads=2, head_dim=16)


@pytest.fixture
def table(tmp_path):
    """Write a dispatch table for this machine's CPU in which chunked is the fastest variant."""
    dispatch._variant.cache_clear()
    here = synthetic.Machine("cpu", dispatch._device_name("cpu"), 1.2e11, 1.4e10, 9_000, 8e9)
    variants = ("naive", "sdpa", "chunked", "xformers")
    run = synthetic.make_run(
        tmp_path, cells=CELLS, variants=variants, machine=here, slower={"chunked": 0.5}, baseline=None, rounds=8
    )
    path = tmp_path / "table.json"
    path.write_text(json.dumps(to_json(regions(Results.load(run)))))
    return path


def tensors(seq, *, grad=False, kv_heads=2):
    """Return random query, key and value tensors."""
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn((1, heads, seq, 16), generator=generator).requires_grad_(grad) for heads in (2, kv_heads, kv_heads)
    ]


def test_best_names_the_fastest_measured_variant(table):
    """`best` returns the name of the fastest variant in the table, even for a shape between two measured shapes."""
    workload = Workload(heads=2, seq_q=100, head_dim=16, mask="causal")
    assert attnbench.best(workload, "cpu", table) == "chunked"


def test_best_reads_runs_as_well_as_a_table(table):
    """A folder of runs can be used as the table."""
    assert attnbench.best(Workload(heads=2, seq_q=64, head_dim=16), "cpu", table.parent) == "chunked"


def test_a_device_of_another_type_is_refused(table):
    """A device that is neither a CPU nor a CUDA GPU raises UsageError, instead of being looked up as a CPU."""
    with pytest.raises(UsageError, match="device 'mps:0': expected cpu, cuda or cuda:N"):
        attnbench.best(Workload(heads=2, seq_q=64, head_dim=16), "mps:0", table)


def test_the_table_may_come_from_the_environment(table, monkeypatch):
    """If the `table` argument is omitted, the path is read from the ATTNBENCH_TABLE environment variable."""
    monkeypatch.setenv("ATTNBENCH_TABLE", str(table))
    assert attnbench.best(Workload(heads=2, seq_q=64, head_dim=16), "cpu") == "chunked"


@pytest.mark.parametrize("mask", ["none", "causal"])
@pytest.mark.parametrize("grad", [False, True])
def test_attention_equals_scaled_dot_product_attention(table, mask, grad):
    """The dispatched output and its gradients equal those of scaled dot-product attention."""
    query, key, value = tensors(100, grad=grad)
    output = attnbench.attention(query, key, value, mask=mask, table=table)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=mask == "causal")
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-5)
    if grad:
        (ours,) = torch.autograd.grad(output.sum(), query)
        (theirs,) = torch.autograd.grad(expected.sum(), query)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_attention_uses_the_next_variant_if_the_fastest_refuses(table, monkeypatch):
    """If the fastest variant does not support a workload, the next variant in the table is used."""
    installed = dict(dispatch._installed())
    monkeypatch.setattr(type(installed["chunked"]), "unsupported_reason", lambda *_: "not today")
    workload = Workload(heads=2, seq_q=64, head_dim=16)
    dispatch._variant.cache_clear()
    assert dispatch._variant(workload, "cpu", table).name == "sdpa"
    dispatch._variant.cache_clear()


def test_shapes_that_were_never_measured_are_refused_with_a_remedy(table):
    """For a head_dim that was not measured, the error suggests the command that measures it."""
    with pytest.raises(UsageError, match=r"no workload similar to .*d32.* was measured on .*attnbench run"):
        attnbench.best(Workload(heads=2, seq_q=64, head_dim=32), "cpu", table)


def test_a_table_that_cannot_be_read_is_named(tmp_path):
    """A missing table raises a UsageError that names the file."""
    with pytest.raises(UsageError, match=r"dispatch table .*none\.json.* can't be read"):
        attnbench.best(Workload(heads=2, seq_q=64, head_dim=16), "cpu", tmp_path / "none.json")


def test_seeded_masks_and_odd_shapes_are_refused(table):
    """Masks with random lengths are refused, and so are tensors that do not have four dimensions."""
    with pytest.raises(UsageError, match="padding has random lengths"):
        attnbench.attention(*tensors(64), mask="padding", table=table)
    with pytest.raises(UsageError, match="four dimensions"):
        attnbench.attention(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 3), table=table)
