"""docs/headline.py writes the README's headline section from a published run."""

import subprocess
import sys
from pathlib import Path

import pytest

import synthetic
from attnbench.report import write_report

SCRIPT = Path(__file__).parents[2] / "docs" / "headline.py"
MARKED = "# A\n\n<!-- headline: written by docs/headline.py -->\nold\n<!-- /headline -->\n\n## B\n"


@pytest.fixture
def headline(monkeypatch):
    """Import docs/headline.py, and return the module."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import headline

    return headline


def test_the_finding_is_written_between_its_comments(headline, tmp_path):
    """The old section is replaced by the headline table and its verdict, the figure, and a link to the report."""
    cells = synthetic.workloads(seqs=(256, 512), masks=("causal",), directions=("forward",))
    run = synthetic.make_run(tmp_path / "results" / "published" / "box", name="one", cells=cells, rounds=8)
    write_report(run, run / "report")
    (tmp_path / "README.md").write_text(MARKED)
    for _ in range(2):  # the second call must not change anything
        headline.main(str(run), tmp_path)
        text = (tmp_path / "README.md").read_text()
        assert text.startswith("# A\n\n<!-- headline")
        assert text.endswith("<!-- /headline -->\n\n## B\n")
        assert "\nold\n" not in text
        assert text.count("On AMD EPYC 7B13, causal, forward: ") == 1
        assert text.count("| sdpa-flash |") + text.count("| **sdpa-flash** |") == 1
        assert "(results/published/headline.svg)" in text
        assert "(results/published/box/one/report/report.md)" in text
    assert (tmp_path / "results" / "published" / "headline.svg").read_text().startswith("<?xml")


def test_the_machine_option_prints_a_folder_name():
    """`--machine` prints a folder name that contains only letters, digits and dashes."""
    done = subprocess.run([sys.executable, SCRIPT, "--machine"], capture_output=True, text=True, check=True)
    assert done.stdout.strip().replace("-", "").isalnum()
