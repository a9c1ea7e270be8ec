"""A report is written as files."""

import hashlib
from html.parser import HTMLParser

import pytest

import attnbench
import synthetic
from attnbench.errors import UsageError
from attnbench.report import figures, headline, write_report

CELLS = synthetic.workloads(seqs=(512, 1024, 2048), directions=("forward",))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a run in which every status occurs. Tests share the run and only read it."""
    variants = ("naive", "sdpa", "chunked", "xformers", "forgets-a-key", "segfaults", "hangs", "linear-attention")
    return synthetic.make_run(tmp_path_factory.mktemp("runs"), cells=CELLS, variants=variants, rounds=8)


@pytest.fixture(scope="module")
def written(run, tmp_path_factory):
    """Write the run's report, and return the report's folder and the paths of its files."""
    out = tmp_path_factory.mktemp("out") / "report"
    return out, write_report([run], out)


def test_a_report_has_a_page_markdown_data_and_figures(written):
    """A report has index.html (the first path), report.md, tables, results, and each figure as SVG, PNG and PDF."""
    out, paths = written
    assert paths[0] == out / "index.html"
    names = {path.relative_to(out).as_posix() for path in paths}
    assert {"report.md", "tables.tex", "results.csv", "results.parquet"} <= names
    for metric in ("latency", "tflops", "memory", "speedup"):
        assert {f"figures/{metric}-amd-epyc-7b13.{kind}" for kind in ("svg", "png", "pdf")} <= names
    assert all(path.stat().st_size > 100 for path in paths)


def test_a_figure_embeds_its_font_once(written):
    """A PDF figure embeds one TrueType font, as publishers require."""
    for path in (written[0] / "figures").glob("*.pdf"):
        assert path.read_bytes().count(b"/FontFile2") == 1, path.name


def test_the_markdown_names_device_units_versions_and_all_failures(run, written):
    """report.md contains the device, units and versions, and the status and reason of each cell without a latency."""
    text = (written[0] / "report.md").read_text()
    for needed in (
        "AMD EPYC 7B13",
        "Median latency in ms",
        "TFLOP/s",
        "2.13.0+cpu",
        "sdpa",
        "Noise floor: two processes",
        "blocks in which others had the cores",
        "others take 1.2 cores",
        "Following the dispatch table is",
        "Scaling exponents",
    ):
        assert needed in text, needed
    for reason in set(attnbench.load(run)["reason"].dropna()):
        assert reason.replace("<", "&lt;") in text, reason
    assert "| AMD EPYC 7B13 | xformers | unsupported |" in text


def test_a_variant_without_a_supported_cell_is_only_counted(run):
    """A variant that supports no cell has no row in the headline table; a wrong or crashing variant has one."""
    (table, *_) = headline(attnbench.load(run), "sdpa")
    assert {cells[0].text for cells in table.rows} >= {"sdpa", "forgets-a-key", "segfaults"}
    assert "xformers" not in {cells[0].text for cells in table.rows}
    assert any(note.startswith("1 more variant supports none of these cells") for note in table.notes)


def test_wrong_results_are_shown_but_never_ranked(run, written):
    """A wrong variant is marked WRONG in the latency table and is not ranked in the standings."""
    assert "WRONG" in (written[0] / "report.md").read_text()
    for table in headline(attnbench.load(run), "sdpa"):
        places = {cells[0].text: [cell.text for cell in cells[1:]] for cells in table.rows}
        assert places["forgets-a-key"] == ["0 / 3, 3 WRONG", "0", "0", "", "", ""]
        assert "linear-attention" not in places


def test_inexact_variants_have_their_own_section(written):
    """Linear attention, an inexact variant, appears only in the section on inexact variants."""
    text = (written[0] / "report.md").read_text()
    before, apart = text.split("## Inexact variants")
    assert "linear-attention" not in before
    assert "linear-attention" in apart


def test_the_page_links_to_no_other_site(written):
    """No `src` or `href` on the page points to another site, and the page's styles load no other file."""

    class Addresses(HTMLParser):
        found = ()

        def handle_starttag(self, tag, attrs):
            self.found += tuple(value for name, value in attrs if name in ("src", "href", "action", "srcset"))

    text = (written[0] / "index.html").read_text()
    parser = Addresses()
    parser.feed(text)
    assert all(address.startswith(("data:", "#")) for address in parser.found), parser.found
    styles = text[text.index("<style>") : text.index("</style>")]
    assert "@import" not in styles
    assert "url(" not in styles


def test_a_report_is_reproducible(run, written, tmp_path):
    """Writing a report twice from the same records produces byte-identical files."""
    again = write_report([run], tmp_path / "again")
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in written[1]]
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in again] == digests


def test_an_unknown_baseline_is_a_usage_error(run, tmp_path):
    """An unknown baseline raises a usage error that suggests the nearest name."""
    with pytest.raises(UsageError, match="unknown baseline 'naiv': did you mean 'naive'"):
        write_report([run], tmp_path, baseline="naiv")


def test_speedups_are_over_the_chosen_baseline(run, tmp_path):
    """The tables show speed-ups over the chosen baseline."""
    write_report([run], tmp_path, baseline="naive")
    assert "speed-up over naive" in (tmp_path / "report.md").read_text()


def test_an_output_folder_that_is_a_file_is_a_usage_error(run, tmp_path):
    """If the output folder is a file, a usage error says that the folder can't be written."""
    (tmp_path / "taken").write_text("")
    with pytest.raises(UsageError, match="taken' can't be written"):
        write_report([run], tmp_path / "taken")


def test_a_run_without_a_timed_cell_has_a_report(tmp_path):
    """If all cells failed, the report says so and has no figures."""
    run = synthetic.make_run(tmp_path, variants=("xformers", "forgets-a-key"), baseline=None, cells=CELLS)
    paths = write_report(run, tmp_path / "out")
    assert not [path for path in paths if path.suffix == ".svg"]
    assert "fewer than two variants" in (tmp_path / "out" / "report.md").read_text()


def test_an_empty_run_has_a_report(tmp_path):
    """A run without records has a report that counts 0 variants and 0 workloads."""
    write_report(synthetic.make_run(tmp_path, cells=[]), tmp_path / "out")
    assert "0 variants on 0 workloads" in (tmp_path / "out" / "report.md").read_text()


def test_figures_past_the_limit_are_counted(run, tmp_path, monkeypatch):
    """At most MAX_FIGURES figures are drawn; the page and report.md say how many are left out."""
    monkeypatch.setattr(figures, "MAX_FIGURES", 3)
    paths = write_report([run], tmp_path)
    assert len([path for path in paths if path.suffix == ".svg"]) == len(list(tmp_path.glob("figures/*.svg"))) == 3
    for name in ("index.html", "report.md"):
        assert "1 further figures are not drawn" in (tmp_path / name).read_text(), name


def test_a_figure_that_cannot_be_written_is_a_usage_error(run, tmp_path):
    """If a folder exists at a figure's path, writing the report raises a usage error that names the figure's file."""
    (tmp_path / "figures" / "latency-amd-epyc-7b13.svg").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"latency-amd-epyc-7b13\.svg: Is a directory"):
        write_report([run], tmp_path)
