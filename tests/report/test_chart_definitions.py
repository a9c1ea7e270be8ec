"""The charts on the report's page and the printed figures agree, because they share their definitions."""

import pytest

import synthetic
from attnbench.analysis.results import Results
from attnbench.report import figures
from attnbench.report.chart_definitions import CHARTS, MAX_FACETS, METRIC_CHARTS, size_text
from attnbench.report.charts import chart_specs
from attnbench.report.matplotlib_figures import draw
from attnbench.report.palette import palette

PRINTED = [chart for chart in METRIC_CHARTS if chart.printed]


@pytest.fixture(scope="module")
def specs():
    """Return a dict that maps each chart's name to its specification on the page."""
    return chart_specs(palette(["sdpa", "chunked"]))


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """Return a dict that maps each chart's name to its planned print figure and the figure's plot."""
    folder = tmp_path_factory.mktemp("runs")
    cells = synthetic.workloads(seqs=(512, 1024, 2048), directions=("forward",))
    run = synthetic.make_run(folder, cells=cells, variants=("sdpa", "chunked"), rounds=8)
    planned = figures._planned(Results.load(run), folder)
    return {figure.files["svg"].name.partition("-")[0]: (figure, plot) for figure, plot in planned}


def axes_of(spec):
    """Return the `y` encodings of the chart layers in which `y` is a field."""
    return [layer["encoding"]["y"] for layer in spec["spec"]["layer"] if "field" in layer["encoding"]["y"]]


def test_each_defined_chart_is_drawn_on_the_page(specs):
    """The page has one specification for each chart definition and no other specifications."""
    assert list(specs) == [chart.name for chart in CHARTS]


def test_each_printed_chart_is_planned_once_for_a_device(printed):
    """A report on one device has one figure for each chart in PRINTED."""
    assert list(printed) == [chart.name for chart in PRINTED]


@pytest.mark.parametrize("chart", PRINTED, ids=lambda chart: chart.name)
def test_page_and_print_show_the_same_axis(chart, specs, printed):
    """The page's chart and the printed figure have the same axis titles and the same vertical scale."""
    _, plot = printed[chart.name]
    axes = draw(plot).axes[0]
    assert axes.get_ylabel() == chart.axis_title("sdpa")
    assert axes.get_xlabel() == specs[chart.name]["spec"]["layer"][-1]["encoding"]["x"]["axis"]["title"]
    for encoding in axes_of(specs[chart.name]):
        assert encoding["axis"]["title"].replace("the baseline", "sdpa") == axes.get_ylabel()
        assert encoding["scale"]["type"] == axes.get_yscale() == ("log" if chart.log else "linear")


@pytest.mark.parametrize("chart", PRINTED, ids=lambda chart: chart.name)
def test_page_and_print_read_the_same_columns(chart, specs, printed):
    """The page's chart and the figure draw the same column, and either both or neither draw an interval band."""
    _, plot = printed[chart.name]
    transform = {step["as"]: step["calculate"] for step in specs[chart.name]["transform"]}
    curves = plot["facets"][0]["curves"]
    assert specs[chart.name]["usermeta"]["column"] == chart.column
    assert transform["value"].startswith(f"datum.{chart.column} *")
    assert all(bool(curve["low"]) == bool(curve["high"]) == ("low" in transform) for curve in curves)
    for curve in curves:
        assert len(curve["values"]) == len(curve["lengths"]) == 3


@pytest.mark.parametrize("chart", PRINTED, ids=lambda chart: chart.name)
def test_titles_are_those_of_the_definition(chart, printed):
    """A figure's title names the chart and device. Its description lists the variants and ends with the chart note."""
    figure, _ = printed[chart.name]
    assert figure.title == f"{chart.titled('sdpa')} on AMD EPYC 7B13"
    assert figure.description.startswith(f"{figure.title}: chunked, sdpa, in ")
    assert figure.description.endswith(chart.note)


def test_a_speed_up_lies_within_its_band(printed):
    """Each speed-up lies in its band, which spans all ratios of values in the two latencies' intervals."""
    _, plot = printed["speedup"]
    for facet in plot["facets"]:
        for curve in facet["curves"]:
            for low, value, high in zip(curve["low"], curve["values"], curve["high"], strict=True):
                assert low < value < high


def test_a_figure_has_no_more_facets_than_the_page_shows_at_first(tmp_path):
    """A figure shows the first six of eight settings, and its description says that two more are in results.csv."""
    cells = synthetic.workloads(
        seqs=(512,), masks=("none", "causal"), directions=("forward", "backward", "forward_backward")
    )
    cells += synthetic.workloads(seqs=(512,), masks=("window:128:0",), directions=("forward", "backward"))
    run = synthetic.make_run(tmp_path, cells=cells, variants=("sdpa", "chunked"), rounds=8)
    (figure, plot), *_ = figures._planned(Results.load(run), tmp_path)
    assert len(plot["facets"]) == MAX_FACETS
    assert "2 further settings are in results.csv" in figure.description


def test_lengths_are_short():
    """Multiples of 1024 are abbreviated, e.g. to 16k, and other lengths are written in full."""
    assert [size_text(length) for length in (512, 1024, 1536, 16384)] == ["512", "1k", "1536", "16k"]
