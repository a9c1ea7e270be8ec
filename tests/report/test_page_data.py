"""The data embedded in the report's page."""

import base64
import gzip
import json
import shlex

import pytest

import synthetic
from attnbench.report.content import read
from attnbench.report.page_data import log_end, packed, payload
from attnbench.report.palette import COLOURS, palette
from attnbench.workloads.workload import Workload

CELLS = synthetic.workloads(seqs=(512, 1024), masks=("causal",), directions=("forward",))


def test_each_cell_has_the_command_that_runs_it_again(tmp_path):
    """The command that measures a cell again contains the cell's variant, device and workload."""
    run = synthetic.make_run(tmp_path, cells=CELLS, rounds=8)
    data = payload(read(run))
    cells, lists = data["cells"], data["lists"]
    for place, command in enumerate(cells["rerun"]):
        words = shlex.split(command)
        options = dict(zip(words[2:8:2], words[3:8:2], strict=True))
        assert words[:2] == ["attnbench", "run"]
        assert options["--variant"] == lists["variant"][cells["variant"][place]]
        assert options["--device"] == lists["device"][cells["device"][place]]
        assert Workload.parse(options["--workload"]).id == data["workloads"][cells["workload"][place]]["id"]


def test_a_log_is_read_from_its_end_and_never_from_outside_the_run(tmp_path):
    """The last bytes of a log are shown, unless the log's path leads out of the run's folder."""
    (tmp_path / "secret").write_text("secret")
    run = tmp_path / "run"
    (run / "logs").mkdir(parents=True)
    (run / "logs" / "a.log").write_text("x" * 5000 + "the end")
    assert log_end(run, "logs/a.log").endswith("the end")
    assert len(log_end(run, "logs/a.log")) == 1500
    (run / "logs" / "link").symlink_to(tmp_path / "secret")
    for outside in ("../secret", str(tmp_path / "secret"), "logs/link", "logs", "logs/none"):
        assert log_end(run, outside) is None


def test_columns_have_one_length_and_store_repeated_strings_once(tmp_path):
    """Each column has one entry per cell that is not a control, and each histogram counts all samples of its cell."""
    run = synthetic.make_run(tmp_path, cells=CELLS, rounds=8)
    data = payload(read(run))
    cells = data["cells"]
    assert {len(column) for column in cells.values()} == {len(CELLS) * len(synthetic.DEFAULT_VARIANTS)}
    assert sorted(data["lists"]["variant"]) == sorted(synthetic.DEFAULT_VARIANTS)
    for histogram, samples in zip(cells["histogram"], cells["samples"], strict=True):
        assert (histogram is None) == (samples is None)
        assert histogram is None or sum(histogram[2:]) == samples


def test_packing_is_reproducible_and_reversible():
    """Packing a value twice gives identical strings that contain no `<`, and unpacking a string restores the value."""
    value = {"name": "</script><script>"}
    assert packed(value) == packed(value)
    assert "<" not in packed(value)
    assert json.loads(gzip.decompress(base64.b64decode(packed(value)))) == value


@pytest.mark.parametrize("count", [1, 12, 30])
def test_each_variant_looks_different(count):
    """Each variant has its own style, which does not depend on the order in which the variants are given."""
    names = [f"variant-{index:02}" for index in range(count)]
    looks = palette(names)
    assert len(set(looks.values())) == count
    assert palette(reversed(names)) == looks
    assert looks["variant-00"].colour == COLOURS[0]
