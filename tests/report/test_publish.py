"""The site that covers many runs, and the page that compares runs."""

import pytest

import synthetic
from attnbench.errors import UsageError
from attnbench.report.comparison import compared, write_page
from attnbench.report.site import write_site

CELLS = synthetic.workloads(seqs=(512,), masks=("causal",), directions=("forward",))
HOSTILE = "<script>alert(1)</script>"


def runs(folder, **second):
    """Write two runs from one machine, and return their folders. `second` overrides options of the second run."""
    options = {"cells": CELLS, "variants": ("sdpa", "chunked"), "rounds": 8, "noise": 0.005, "drift": 0.0}
    first = synthetic.make_run(folder / "box", name="one", **options)
    later = {"name": "two", "seed": 5, "started": "2026-02-01T00:00:00+00:00", **options, **second}
    return first, synthetic.make_run(folder / "box", **later)


def test_a_site_has_an_index_each_report_and_the_trends(tmp_path):
    """The index groups runs by machine, links to their reports, and shows the trends of cells with change points."""
    runs(tmp_path, slower={"chunked": 1.5})
    index = write_site(tmp_path / "box", tmp_path / "site")
    text = index.read_text()
    for place in ("runs/box-one/index.html", "runs/box-two/index.html"):
        assert f'href="{place}"' in text
        assert (tmp_path / "site" / place).is_file()
    assert "AMD EPYC 7B13" in text
    assert "slower in two" in text
    assert (tmp_path / "site" / ".nojekyll").exists()


def test_a_comparison_page_shows_newly_failing_cells_first(tmp_path):
    """Newly failing cells come first on the comparison page, and their reasons are escaped."""
    first, second = runs(tmp_path, slower={"chunked": 1.5})
    broken = {"variant": "sdpa", "status": "crash", "reason": HOSTILE, "samples_ns": (), "block_sizes": (),
              "block_rounds": (), "block_processes": ()}  # fmt: skip
    third = synthetic.make_run(tmp_path / "box", name="three", cells=CELLS, variants=("sdpa",), replace=broken,
                               rounds=8, started="2026-03-01T00:00:00+00:00", baseline=None)  # fmt: skip
    page = write_page(compared([first, second, third]), tmp_path / "out" / "page.html").read_text()
    assert "<h2>one to two</h2>" in page
    assert "0 cells newly failing, 1 slower beyond the gate" in page
    assert "1 cell newly failing" in page
    assert page.index(">newly failing</td>") < page.index(">removed</td>")
    assert HOSTILE not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_machines_are_compared_on_common_cells(tmp_path):
    """If the runs are on different devices, the comparison page states the mean speed-up of the new device."""
    options = {"cells": CELLS, "variants": ("sdpa", "chunked"), "rounds": 8}
    old = synthetic.make_run(tmp_path, name="a100", machine=synthetic.A100, **options)
    new = synthetic.make_run(tmp_path, name="h200", machine=synthetic.H200, **options)
    page = write_page(compared([old, new]), tmp_path / "page.html").read_text()
    assert "Two kinds of device: the new one is " in page
    assert "x faster (geometric mean over 2 cells)" in page


def test_a_page_that_cannot_be_written_is_a_usage_error(tmp_path):
    """If the page's path is a folder, a usage error says that the page can't be written."""
    with pytest.raises(UsageError, match="can't be written"):
        write_page(compared(runs(tmp_path)), tmp_path)
