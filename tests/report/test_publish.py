"""The site of many runs, and the page that compares runs."""

import pytest

import synthetic
from attnbench.errors import UsageError
from attnbench.report.comparison import write_comparison
from attnbench.report.site import write_site

CELLS = synthetic.workloads(seqs=(512,), masks=("causal",), directions=("forward",))
HOSTILE = "<script>alert(1)</script>"


def runs(folder, **second):
    """Write two runs of one machine."""
    options = {"cells": CELLS, "variants": ("sdpa", "chunked"), "rounds": 8, "noise": 0.005, "drift": 0.0}
    first = synthetic.make_run(folder / "box", name="one", **options)
    later = {"name": "two", "seed": 5, "started": "2026-02-01T00:00:00+00:00", **options, **second}
    return first, synthetic.make_run(folder / "box", **later)


def test_a_site_has_an_index_each_report_and_the_trends(tmp_path):
    """The index lists runs by machine with links to their reports, and each cell's trend with its change points."""
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
    """Newly failing cells stand before slower ones, and names are text."""
    first, second = runs(tmp_path, replace={"reason": HOSTILE, "variant": "sdpa"})
    page = write_comparison([first, second], tmp_path / "out").read_text()
    assert "<h2>one to two</h2>" in page
    assert "removed" in page
    assert HOSTILE not in page


def test_a_comparison_needs_two_runs(tmp_path):
    """One run can't be compared with itself."""
    with pytest.raises(UsageError, match="at least two runs"):
        write_comparison([tmp_path], tmp_path)
