"""The page's embedded data."""

import base64
import gzip
import json
import shlex

import pytest

import synthetic
from attnbench.report import document as documents
from attnbench.report.palette import COLOURS, palette
from attnbench.report.payload import log_end, packed, payload, rerun_arguments
from attnbench.workload import Workload

CELLS = synthetic.workloads(seqs=(512, 1024), masks=("causal",), directions=("forward",))


def test_the_command_names_every_axis_of_the_workload():
    """The arguments of `attnbench run` give the same workload back, unequal lengths and widths included."""
    workload = Workload(
        batch=2, heads=8, kv_heads=2, seq_q=1, seq_k=4096, head_dim=64, head_dim_v=32, mask="window:8:0"
    )
    words = shlex.split(rerun_arguments(workload))
    told = dict(zip(words[::2], words[1::2], strict=True))
    assert told == {
        "--batch": "2", "--heads": "8", "--kv-heads": "2", "--seq": "1", "--seq-k": "4096", "--head-dim": "64",
        "--head-dim-v": "32", "--dtype": "float32", "--mask": "window:8:0", "--direction": "forward",
    }  # fmt: skip


def test_a_log_is_read_from_its_end_and_never_from_outside_the_run(tmp_path):
    """A record that names a path outside its run's folder gets no log shown."""
    (tmp_path / "secret").write_text("secret")
    run = tmp_path / "run"
    (run / "logs").mkdir(parents=True)
    (run / "logs" / "a.log").write_text("x" * 5000 + "the end")
    assert log_end(run, "logs/a.log").endswith("the end")
    assert len(log_end(run, "logs/a.log")) == 1500
    (run / "logs" / "link").symlink_to(tmp_path / "secret")
    for outside in ("../secret", str(tmp_path / "secret"), "logs/link", "logs", "logs/none"):
        assert log_end(run, outside) is None


def test_columns_are_of_one_length_and_say_repeated_texts_once(tmp_path):
    """Each column has an entry a cell, the control left out, and the histogram counts all samples."""
    run = synthetic.make_run(tmp_path, cells=CELLS, rounds=8)
    data = payload(documents.read(run))
    cells = data["cells"]
    assert {len(column) for column in cells.values()} == {len(CELLS) * len(synthetic.FEW)}
    assert sorted(data["lists"]["variant"]) == sorted(synthetic.FEW)
    for histogram, samples in zip(cells["histogram"], cells["samples"], strict=True):
        assert (histogram is None) == (samples is None)
        assert histogram is None or sum(histogram[2:]) == samples


def test_packing_is_reproducible_and_reversible():
    """The same value packs to the same text, in which no tag can begin, and unpacks to itself."""
    value = {"name": "</script><script>"}
    assert packed(value) == packed(value)
    assert "<" not in packed(value)
    assert json.loads(gzip.decompress(base64.b64decode(packed(value)))) == value


@pytest.mark.parametrize("count", [1, 12, 30])
def test_each_variant_has_a_look_of_its_own(count):
    """Up to four dozen variants, no two look the same, and a variant's look does not depend on the order."""
    names = [f"variant-{index:02}" for index in range(count)]
    looks = palette(names)
    assert len(set(looks.values())) == count
    assert palette(reversed(names)) == looks
    assert looks["variant-00"].colour == COLOURS[0]
