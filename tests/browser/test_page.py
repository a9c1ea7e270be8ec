"""The report's page works in a real browser."""

import csv
import dataclasses
import itertools
import json
import shlex

import pytest

import synthetic
from attnbench.report import write_report
from attnbench.report.chart_definitions import size_text

HOSTILE = '<img src=x onerror="document.title=1">'


def scrolled(page):
    """Scroll through the page until every chart is drawn."""
    for chart in page.locator("figure.chart:visible").all():
        chart.scroll_into_view_if_needed()
    page.wait_for_function(
        "[...document.querySelectorAll('figure.chart:not([hidden]) [data-chart]')].every(box => box.dataset.drawn)"
    )


def shown_cells(page):
    """Return the number of cells that match the filters, as shown on the page."""
    return int(page.locator("#count").inner_text().split()[0])


def test_the_page_loads_without_an_error_and_without_the_network(visit, report):
    """The page with all its charts logs no error or warning and requests no other file."""
    page = visit(report)
    scrolled(page)
    assert page.problems == []
    assert [url for url in page.requests if not url.startswith(("data:", "blob:"))] == [f"file://{report}"]
    assert page.locator("figure.chart:visible svg").count() >= 6


def test_every_chart_that_has_rows_is_drawn(visit, report):
    """Charts over length are drawn, and so are those of trade-offs, exponents, the memory frontier and devices."""
    page = visit(report)
    scrolled(page)
    drawn = {box.get_attribute("data-chart") for box in page.locator("figure.chart:visible [data-chart]").all()}
    over_length = {"latency", "tflops", "roofline", "memory", "energy", "speedup"}
    assert drawn == over_length | {"error", "tradeoff", "exponents", "reaches", "devices"}
    for name in sorted(drawn):
        assert page.locator(f"[data-chart={name}] svg path[aria-roledescription]").count() > 3, name


def test_lengths_are_labelled_as_in_print(visit, report):
    """The page's charts label sequence lengths as the printed figures do."""
    page = visit(report)
    scrolled(page)
    labels = set(page.locator("[data-chart=latency] svg text").all_text_contents())
    assert {size_text(length) for length in (512, 1024, 2048)} <= labels


def test_a_button_shows_further_settings(visit, report):
    """A chart initially shows six facets, and clicking the button below it shows the rest."""
    page = visit(report)
    scrolled(page)
    figure = page.locator("figure.chart", has=page.locator("[data-chart=latency]"))
    before = figure.locator("svg").bounding_box()["height"]
    assert "2 further settings" in figure.locator(".more").inner_text()
    figure.locator(".more button").click()
    figure.locator(".more").wait_for(state="hidden")
    assert figure.locator("svg").bounding_box()["height"] > before


def test_the_first_paint_does_not_wait_for_the_script(visit, report):
    """The first contentful paint comes before the script has finished, because the verdicts are plain HTML."""
    page = visit(report)
    paint, ready = page.evaluate(
        "[performance.getEntriesByName('first-contentful-paint')[0].startTime, performance.now()]"
    )
    assert 0 < paint < ready


def test_a_filter_applies_to_everything_and_is_in_the_address(visit, report):
    """Choosing a device limits cells, verdicts and heatmaps to that device and adds its name to the address."""
    page = visit(report)
    everything = shown_cells(page)
    page.select_option("#filter-device", "NVIDIA H200")
    assert shown_cells(page) == everything / 2
    page.wait_for_url(lambda url: "device=NVIDIA+H200" in url)
    assert page.locator("#verdicts li:visible").count() == 4
    assert "AMD" not in page.locator("#verdicts .maps").inner_text()


def test_an_address_restores_filters_sorting_baseline_and_theme(visit, report):
    """Opening an address applies the filters, sorting, baseline and theme that it contains."""
    page = visit(report, "#device=NVIDIA+H200&mask=causal&baseline=naive&theme=dark&sort=latency_ms&order=down")
    assert page.input_value("#filter-device") == "NVIDIA H200"
    assert page.input_value("#filter-mask") == "causal"
    assert page.input_value("#baseline") == "naive"
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("latency")
    assert shown_cells(page) == 48


def test_sorting_by_a_column_orders_the_cells(visit, report):
    """Clicking a column heading sorts by that column, and clicking it again reverses the order."""
    page = visit(report)
    page.click("[data-sort=latency_ms]")
    column = [float(text) for text in page.locator("#cells tbody tr td:nth-child(5)").all_inner_texts() if text]
    assert column == sorted(column)
    page.click("[data-sort=latency_ms]")
    column = [float(text) for text in page.locator("#cells tbody tr td:nth-child(5)").all_inner_texts() if text]
    assert column == sorted(column, reverse=True)
    page.wait_for_url(lambda url: "order=down" in url)


def test_another_baseline_changes_speedups(visit, report):
    """With `naive` as the baseline, the speed-up of `naive` is 1, and faster variants have higher speed-ups."""
    page = visit(report, "#device=NVIDIA+H200&direction=forward&mask=none")
    page.select_option("#baseline", "naive")
    rows = [row.split("\t") for row in page.locator("#cells tbody tr").all_inner_texts()]
    speedups = {row[0]: float(row[7]) for row in rows if row[7]}
    assert speedups["naive"] == 1
    assert speedups["sdpa"] > 2
    assert "naive" in page.locator(".baseline-name").inner_text()


def test_a_cell_shows_reason_log_and_the_command_that_reruns_it(visit, report):
    """Clicking a failed cell in the coverage matrix shows the cell's reason, log and rerun command."""
    page = visit(report, "#device=AMD+EPYC+7B13")
    page.locator("#coverage button.s-crash").first.click()
    text = page.locator("#cell").inner_text()
    assert "worker died of SIGSEGV" in text
    assert "worker 1234: segfaults" in text
    command = shlex.split(page.locator("#cell .command").inner_text())
    assert command[:6] == ["attnbench", "run", "--variant", "segfaults", "--device", "cpu"]
    assert command[6] == "--workload"
    assert "-s2048-" in command[7]
    page.wait_for_url(lambda url: "cell=" in url)


def test_a_timed_cell_shows_kernels_and_the_histogram_of_its_samples(visit, report):
    """A correct cell shows its interval, the kernels that ran and its raw samples as a histogram."""
    page = visit(report)
    page.locator("#coverage button.s-ok").first.click()
    assert "_kernel" in page.locator("#cell").inner_text()
    assert "95% interval" in page.locator("#cell").inner_text()
    assert page.locator("#cell .histogram rect").count() == 16
    page.keyboard.press("Escape")
    assert not page.locator("#cell").is_visible()
    page.wait_for_url(lambda url: "cell=" not in url)


def test_the_keyboard_reaches_a_cell(visit, report):
    """If a cell's button has the keyboard focus, pressing Enter opens the cell."""
    page = visit(report)
    page.locator("#coverage button.s-incorrect").first.focus()
    page.keyboard.press("Enter")
    assert "differs from the fp64 reference" in page.locator("#cell").inner_text()


def test_wrong_results_are_shown_but_in_no_chart(visit, report):
    """A wrong variant is in the coverage matrix but not in the legend. An inexact variant is labelled as inexact."""
    page = visit(report)
    assert page.locator("#coverage button.s-incorrect").count() == 24
    legend = page.locator("#legend").inner_text()
    assert "forgets-a-key" not in legend
    assert "linear-attention" not in legend
    assert "inexact" in page.locator("#coverage").inner_text()


def test_the_legend_hides_a_variant(visit, report):
    """Clicking a variant in the legend removes that variant from the charts and adds its name to the address."""
    page = visit(report)
    page.locator("#legend button", has_text="naive").click()
    assert page.locator("#legend button[aria-pressed=false]").all_inner_texts() == ["naive"]
    page.wait_for_url(lambda url: "hide=naive" in url)
    scrolled(page)
    assert "naive" not in page.locator("[data-chart=latency] svg").first.get_attribute("aria-label")


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_the_filtered_data_can_be_downloaded(visit, report, kind, tmp_path):
    """The downloaded file contains the cells that match the filters, with their latencies."""
    page = visit(report, "#device=NVIDIA+H200&mask=causal")
    with page.expect_download() as download:
        page.click(f"#{kind}")
    path = tmp_path / "results"
    download.value.save_as(path)
    rows = json.loads(path.read_text()) if kind == "json" else list(csv.DictReader(path.open()))
    assert len(rows) == shown_cells(page) == 48
    assert {row["mask"] for row in rows} == {"causal"}
    assert sum(bool(row["latency_ms"]) for row in rows) > 30


def test_dark_mode_follows_the_system_and_the_button(visit, report):
    """The page is dark if the system is in dark mode, and a button switches the theme."""
    page = visit(report, color_scheme="dark")
    paper = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(paper) == "rgb(20, 23, 28)"
    page.click("#theme")
    assert page.evaluate(paper) == "rgb(255, 255, 255)"
    page.wait_for_url(lambda url: "theme=light" in url)


def test_a_phone_needs_no_sideways_scrolling(visit, report):
    """On a screen as narrow as a phone's, the page is no wider than the screen."""
    page = visit(report, viewport={"width": 390, "height": 844})
    scrolled(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_without_javascript_the_page_has_verdicts_tables_and_figures(visit, report):
    """Without JavaScript, the page shows verdicts, heatmaps, figures and failures, but no controls or empty charts."""
    page = visit(report, wait=False, java_script_enabled=False)
    text = page.locator("body").inner_text()
    assert "On NVIDIA H200\n" in text
    assert "causal, forward: " in text
    assert page.locator("table.map").count() == 8
    assert page.locator("figure img").count() == 4
    assert page.locator("figure img").first.get_attribute("alt")
    assert not page.locator(".filters").is_visible()
    assert not page.locator("figure.chart").first.is_visible()
    assert "worker died" in page.locator("#coverage-section").text_content()


def test_print_has_figures_and_tables_and_no_controls(visit, report):
    """In print, figures replace the charts, folds are open, colours are kept, and there is no control or dark theme."""
    page = visit(report, "#theme=dark&device=NVIDIA+H200")
    on_screen = page.locator("figure img:visible").count()
    page.emulate_media(media="print")
    assert (on_screen, page.locator("figure img:visible").count()) == (0, 2)  # the figures of the chosen device
    assert page.evaluate("[...document.querySelectorAll('figure img')].every(image => image.naturalWidth > 0)")
    for control in (".filters", "#legend", "#csv", "figure.chart", "#cells > button"):
        assert page.locator(f"{control}:visible").count() == 0, control
    assert page.locator("#provenance td").first.is_visible()
    style = "element => [getComputedStyle(element).printColorAdjust, getComputedStyle(element).backgroundColor]"
    assert page.locator("td.square:visible").first.evaluate(style)[0] == "exact"
    assert page.locator("body").evaluate(style)[1] == "rgb(255, 255, 255)"


def test_folds_are_open_while_the_page_is_printed(visit, report):
    """Printing opens all folds and closes them afterwards."""
    page = visit(report)
    before = page.locator("details[open]").count()
    closed = "document.querySelectorAll('details:not([open])').length"
    page.evaluate(f"addEventListener('beforeprint', () => {{ window.closedInPrint = {closed}; }})")
    page.pdf()
    assert page.evaluate("window.closedInPrint") == 0
    assert 0 < page.locator("details[open]").count() == before < page.locator("details").count()


def test_hostile_names_are_shown_as_text(visit, tmp_path):
    """HTML in a run's names and reasons is shown as text in tables, charts, dialogs and tooltips."""
    cells = synthetic.workloads(seqs=(512, 1024), masks=("none",), directions=("forward",))
    variants = ("sdpa", HOSTILE, "</script><script>document.title=1</script>")
    run = synthetic.make_run(
        tmp_path,
        name="hostile",
        cells=cells,
        variants=variants,
        replace={"device_name": HOSTILE, "reason": HOSTILE, "plugin": HOSTILE},
    )
    page = visit(write_report(run, tmp_path / "out")[0])
    scrolled(page)
    page.locator("#coverage button.s-ok").nth(1).click()
    assert HOSTILE in page.locator("#cell").inner_text()
    page.keyboard.press("Escape")
    page.locator("[data-chart=latency] svg path[aria-roledescription=point]").first.hover(force=True)
    assert page.title() != "1"
    assert page.locator("img[src=x]").count() == 0
    assert page.problems == []


@pytest.fixture(scope="module")
def odd_lengths(tmp_path_factory):
    """Write a report with settings that have a single length, two crossovers and a frontier, and return its page."""
    folder = tmp_path_factory.mktemp("lengths")
    cells = synthetic.workloads(seqs=(512, 1024, 2048, 4096), masks=("none",), directions=("forward",))
    cells += synthetic.workloads(seqs=(3000,), masks=("causal",), directions=("forward",))
    small = dataclasses.replace(synthetic.CPU, memory_bytes=3e8)
    late = dataclasses.replace(small, launch_ns=20_000_000)
    synthetic.make_run(
        folder / "runs", name="a", cells=cells, variants=("chunked", "naive"), baseline=None, machine=small
    )
    synthetic.make_run(folder / "runs", name="b", cells=cells, variants=("sdpa",), baseline=None, machine=late)
    synthetic.make_run(folder / "runs", name="c", cells=cells, variants=("sdpa",), machine=synthetic.H200)
    return write_report(folder / "runs", folder / "out")[0]


def labels_of(page, chart):
    """Return the tick labels of each axis of a chart, as a list of texts for each axis."""
    return page.evaluate(
        """(chart) => [...document.querySelectorAll(`[data-chart=${chart}] svg .role-axis-label`)]
            .map((axis) => [...axis.querySelectorAll("text")]
            .filter((text) => text.textContent && text.style.opacity !== "0" && text.getAttribute("opacity") !== "0")
            .map((text) => [text.textContent, text.getBoundingClientRect().toJSON()]))""",
        chart,
    )


def boxes_overlap(one, other):
    """Return whether two boxes on the page share an area."""
    return (
        one["left"] < other["right"] - 1 and other["left"] < one["right"] - 1
        and one["top"] < other["bottom"] - 1 and other["top"] < one["bottom"] - 1
    )  # fmt: skip


def test_every_axis_has_ticks_from_the_data_that_do_not_overlap(visit, odd_lengths):
    """Each axis of each chart has a label, no two labels overlap, and lengths that were not measured are no ticks."""
    page = visit(odd_lengths)
    scrolled(page)
    charts = {box.get_attribute("data-chart") for box in page.locator("figure.chart:visible [data-chart]").all()}
    assert {"latency", "speedup", "crossovers", "reaches", "devices"} <= charts
    for chart in sorted(charts):
        axes = labels_of(page, chart)
        assert axes, chart
        assert all(axes), chart
        for labels in axes:
            for (text, box), (other_text, other_box) in itertools.combinations(labels, 2):
                assert not boxes_overlap(box, other_box), (chart, text, other_text)
    texts = {text for axis in labels_of(page, "latency") for text, _ in axis}
    assert {"512", "1k", "2k", "4k"} <= texts
    assert not {"16", "256", "8k", "16k", "8192k"} & texts


def test_a_setting_with_one_length_is_a_dot_plot(visit, odd_lengths):
    """A setting with a single length has a row for each variant, or each device, and its title has the length."""
    page = visit(odd_lengths)
    scrolled(page)
    for chart, names in (("latency", ("chunked", "sdpa")), ("devices", ("AMD EPYC 7B13", "NVIDIA H200"))):
        titles = page.locator(f"[data-chart={chart}] svg text").all_text_contents()
        assert any("length 3000" in title for title in titles), chart
        assert any({text for text, _ in axis} == set(names) for axis in labels_of(page, chart)), chart


def test_a_crossover_has_ticks_around_it(visit, odd_lengths):
    """The horizontal axis of the crossover chart has at least two ticks."""
    page = visit(odd_lengths)
    scrolled(page)
    axes = [[text for text, _ in axis] for axis in labels_of(page, "crossovers")]
    numbers = [axis for axis in axes if all(text.removesuffix("k").isdigit() for text in axis)]
    assert numbers
    assert all(len(axis) >= 2 for axis in numbers)
