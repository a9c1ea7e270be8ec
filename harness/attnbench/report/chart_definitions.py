"""Chart definitions, shared by the report page's Vega-Lite charts and the printed matplotlib figures."""

from __future__ import annotations

from dataclasses import dataclass

# The maximum number of facets in a printed figure; more facets would be too small to read. On the page, a chart shows
# at most this many facets until the button below the chart is clicked.
MAX_FACETS = 6
LENGTH_TITLE = "sequence length"
LENGTH_LABEL_EXPRESSION = (  # a Vega expression that formats a length in the same way as `size_text`
    "datum.value >= 1024 && datum.value % 1024 == 0 ? datum.value / 1024 + 'k' : datum.value"
)


@dataclass(frozen=True, kw_only=True)
class ChartDefinition:
    """A chart's name, its title, and a note on how to read it. The title may contain the placeholder `{baseline}`."""

    name: str
    title: str
    note: str = ""

    def titled(self, baseline: str | None = None) -> str:
        """Return the title with `{baseline}` replaced by `baseline`, or by 'the baseline' if `baseline` is None."""
        return self.title.format(baseline=baseline or "the baseline")


@dataclass(frozen=True, kw_only=True)
class MetricChart(ChartDefinition):
    """A chart of one metric against sequence length, with a line for each variant and a facet for each setting.

    `column` names the column of the results whose values, multiplied by `factor`, are drawn. `low` and `high` name the
    columns with the ends of the 95% interval, which is drawn as a band. `reference` is a value to mark with a line. If
    `printed` is true, matplotlib also draws the chart for print.
    """

    column: str
    quantity: str
    unit: str = ""
    low: str | None = None
    high: str | None = None
    factor: float = 1.0
    log: bool = False
    reference: float | None = None
    printed: bool = True

    def axis_title(self, baseline: str | None = None) -> str:
        """Return the title of the vertical axis: the quantity, followed by its unit (if any) in parentheses."""
        quantity = self.quantity.format(baseline=baseline or "the baseline")
        return f"{quantity} ({self.unit})" if self.unit else quantity


METRIC_CHARTS = (
    MetricChart(
        name="latency", title="Latency against sequence length", column="latency_ms", quantity="median latency",
        unit="ms", low="latency_low_ms", high="latency_high_ms", log=True, note="The band is the 95% interval.",
    ),
    MetricChart(
        name="tflops", title="Throughput against sequence length", column="tflops",
        quantity="throughput", unit="TFLOP/s", note="Only visible query-key pairs are counted.",
    ),
    MetricChart(
        name="roofline", title="Share of the measured roofline", column="roofline_pct",
        quantity="share of the measured roofline", unit="%", printed=False,
    ),
    MetricChart(
        name="memory", title="Peak memory against sequence length", column="peak_bytes",
        quantity="peak memory above inputs", unit="MiB", factor=2**-20, log=True,
    ),
    MetricChart(
        name="energy", title="Energy per call", column="energy_mj", quantity="energy per call", unit="mJ", log=True,
        printed=False,
        note="Read from the device's energy counter, or computed from the mean power if there is no counter.",
    ),
    MetricChart(
        name="speedup", title="Speed-up over {baseline}", column="speedup", quantity="speed-up over {baseline}",
        low="speedup_low", high="speedup_high", log=True, reference=1.0,
        note="The band spans all ratios of values in both intervals, so it is never narrower than a paired interval.",
    ),
)  # fmt: skip

OTHER_CHARTS = (
    ChartDefinition(
        name="error", title="Speed against error",
        note="Each point is a variant, placed by its worst error over all shapes and by the geometric mean of its"
        " latency relative to the fastest variant. Lower left is better. No other variant is better in both respects"
        " than a variant on the dashed line.",
    ),
    ChartDefinition(
        name="tradeoff", title="Speed against memory",
        note="Each point is a variant, placed by the geometric means of its latency and memory relative to the best"
        " variant of each shape. Lower left is better. No other variant is better in both respects than a variant on"
        " the dashed line.",
    ),
    ChartDefinition(
        name="exponents", title="Scaling exponent of each variant",
        note="Latency divided by the batch grows as length to the power of the exponent. The bar spans the slopes"
        " between neighbouring lengths, including their noise. The dashed line marks the exponent of the FLOPs.",
    ),
    ChartDefinition(
        name="crossovers", title="Crossover lengths",
        note="The first variant is faster than the second at every length above the point. Within the bar, neither is"
        " measurably faster.",
    ),
    ChartDefinition(
        name="reaches", title="Out-of-memory frontier",
        note="The largest sequence length that fits in memory, for each batch size.",
    ),
    ChartDefinition(
        name="scalings", title="Scaling over devices",
        note="Several devices of the same model share one problem, and the time of the slowest device counts. The"
        " dashed line shows perfect scaling.",
    ),
    ChartDefinition(
        name="devices", title="Devices compared", note="The throughput of the fastest variant on each device.",
    ),
)  # fmt: skip

CHARTS: tuple[ChartDefinition, ...] = (*METRIC_CHARTS, *OTHER_CHARTS)


def size_text(size: float) -> str:
    """Return a whole number, such as a sequence length, as short text, e.g. `512`, `1k` or `16k`."""
    return f"{size / 1024:.0f}k" if size >= 1024 and size % 1024 == 0 else f"{size:.0f}"
