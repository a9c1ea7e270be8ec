"""The dispatch table, and the speed-up from following it."""

import json

import pytest

import attnbench
import synthetic
from attnbench.analysis.dispatch_table import dispatch_gains, from_json, pick, regions, to_json
from attnbench.analysis.results import Results
from attnbench.errors import UsageError

CELLS = synthetic.workloads(seqs=(512, 1024, 2048, 4096, 8192), masks=("causal",), directions=("forward",))


def overtaken(tmp_path):
    """Return results from one device, on which `sdpa` overtakes `chunked` between the lengths 1024 and 4096."""
    slow_start = synthetic.Machine("cpu", "model", 1.2e11, 1.4e10, 15_000_000, 8e9)
    first = synthetic.make_run(tmp_path, name="a", cells=CELLS, variants=("chunked",), baseline=None)
    late = synthetic.make_run(tmp_path, name="b", cells=CELLS, variants=("sdpa",), baseline=None, machine=slow_start)
    return Results(attnbench.load([first, late]).assign(device_name="one", environment_id="one"))


def shape(**fields):
    """Return a shape like those in CELLS, with the given fields replaced."""
    frame = {"mode": "hot", "direction": "forward", "mask": "causal", "dtype": "float32", "form": "self"}
    numbers = {"head_dim": 64, "head_dim_v": 64, "batch": 1, "heads": 8, "kv_heads": 8, "length": 1024}
    extras = {"softcap": None, "alibi": False, "dropout": 0.0, "scale": None}
    return {**frame, **numbers, **extras, **fields}


def test_lengths_with_one_fastest_variant_make_one_region(tmp_path):
    """If one variant is fastest at all lengths, the table has one region, with its margin over the runner-up."""
    run = synthetic.make_run(tmp_path, cells=CELLS, variants=("sdpa", "chunked", "naive"))
    (region,) = regions(Results.load(run))
    assert (region.variant, region.length_from, region.length_to) == ("sdpa", 512, 8192)
    assert (region.clear, region.shapes, region.tied) == (5, 5, ())
    assert region.order == ("sdpa", "chunked", "naive")
    assert region.margin == pytest.approx(0.62 / 0.45, rel=0.1)


def test_a_crossover_splits_the_lengths(tmp_path):
    """The lengths on each side of a crossover form a region, and `pick` chooses the region nearest to a shape."""
    table = regions(overtaken(tmp_path))
    assert min((region.variant, region.length_from) for region in table) == ("chunked", 512)
    assert pick(table, shape(length=600)).variant == "chunked"
    assert pick(table, shape(length=16384, heads=16, kv_heads=16)).variant == "sdpa"


def test_a_kind_of_shape_that_was_never_measured_has_no_region(tmp_path):
    """`pick` returns None for a mask, direction, dtype or head_dim that was never measured."""
    table = regions(overtaken(tmp_path))
    for field, value in (("mask", "none"), ("dtype", "bfloat16"), ("head_dim", 128), ("direction", "backward")):
        assert pick(table, shape(**{field: value})) is None


def test_only_ranked_variants_are_chosen(tmp_path):
    """No region lists an incorrect, inexact or unsupported variant."""
    results = Results.load(synthetic.make_run(tmp_path, cells=CELLS[:2]))
    for region in regions(results):
        assert not {"forgets-a-key", "linear-attention", "xformers"} & set(region.order)


def test_ties_are_listed(tmp_path):
    """Two variants with indistinguishable latencies are tied, and no shape has a clear leader."""
    results = Results.load(synthetic.make_run(tmp_path, cells=CELLS[:3], variants=("sdpa", "sdpa-flash", "naive")))
    (region,) = regions(results)
    assert {region.variant, *region.tied} == {"sdpa", "sdpa-flash"}
    assert region.clear == 0


def test_a_table_can_be_written_and_read_as_json(tmp_path):
    """A table is unchanged after it is written as JSON and read back.

    Reading a table with another schema version or an incomplete region raises UsageError.
    """
    table = regions(overtaken(tmp_path))
    text = json.loads(json.dumps(to_json(table), allow_nan=False))
    assert from_json(text) == table
    with pytest.raises(UsageError, match="schema 9"):
        from_json({**text, "schema": 9})
    with pytest.raises(UsageError, match="does not fit"):
        from_json({"schema": 1, "regions": [{"variant": "sdpa"}]})


def test_the_gain_is_measured_on_shapes_left_out_of_the_table(tmp_path):
    """Following the table is faster than always using one variant if that variant is slower at half of the lengths."""
    found = dispatch_gains(overtaken(tmp_path), "sdpa")["one"]
    assert found.shapes == len(CELLS)
    assert found.gain > 1.2
    assert "each left out of the table" in str(found)


def test_there_is_no_gain_over_the_variant_that_is_always_fastest(tmp_path):
    """Following the table gains nothing over `sdpa` if `sdpa` is always the fastest."""
    results = Results.load(synthetic.make_run(tmp_path, cells=CELLS, variants=("sdpa", "naive")))
    assert dispatch_gains(results, "sdpa")["AMD EPYC 7B13"].gain == pytest.approx(1)
