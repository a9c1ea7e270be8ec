"""What each chart shows, declared once: the page's Vega-Lite and matplotlib's figures both read it from here."""

from __future__ import annotations

from dataclasses import dataclass

FACETS = 6  # shown in a chart at first, and at most in a printed figure, where more would be too small to read
LENGTH_TITLE = "sequence length"
LENGTH_LABEL_EXPRESSION = (  # the rule of `size_text` as a Vega expression
    "datum.value >= 1024 && datum.value % 1024 == 0 ? datum.value / 1024 + 'k' : datum.value"
)


@dataclass(frozen=True, kw_only=True)
class ChartDefinition:
    """A chart's name, its title and a note on how to read it; a title may name the `{baseline}`."""

    name: str
    title: str
    note: str = ""

    def titled(self, baseline: str | None = None) -> str:
        """Return the title with the baseline's name in it."""
        return self.title.format(baseline=baseline or "the baseline")


@dataclass(frozen=True, kw_only=True)
class MetricChart(ChartDefinition):
    """A chart of one metric over sequence length: a line for each variant, a facet for each setting.

    `column` is the frame's column, shown times `factor`; `low` and `high` are the columns of its 95% interval, drawn as
    a band. `reference` is a value to mark with a line. `printed` says whether matplotlib draws it for print, too.
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
        """Return the vertical axis's title: the quantity, and its unit in parentheses."""
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
        note="From the device's energy counter, or else from the mean power during the cell.", printed=False,
    ),
    MetricChart(
        name="speedup", title="Speed-up over {baseline}", column="speedup", quantity="speed-up over {baseline}",
        low="speedup_low", high="speedup_high", log=True, reference=1.0,
        note="The band divides the far ends of both intervals: it is never narrower than a paired interval.",
    ),
)  # fmt: skip

OTHER_CHARTS = (
    ChartDefinition(
        name="error", title="Speed against error",
        note="Variants at the lower left are better. Each point is a variant: its worst error over all shapes, and the"
        " geometric mean of its latency over the fastest. No variant is better in both than one on the dashed line.",
    ),
    ChartDefinition(
        name="tradeoff", title="Speed against memory",
        note="Variants at the lower left are better. Both axes are ratios to the best variant of each shape, as"
        " geometric means. No variant is better in both than one on the dashed line.",
    ),
    ChartDefinition(
        name="exponents", title="Scaling exponent of each variant",
        note="The bar spans the slopes between neighbouring lengths and their noise; the dashed line marks the"
        " quadratic growth of exact attention.",
    ),
    ChartDefinition(
        name="crossovers", title="Crossover lengths",
        note="From this length on the first variant is faster than the second. Along the bar neither is measurably"
        " faster.",
    ),
    ChartDefinition(
        name="reaches", title="Out-of-memory frontier", note="The largest sequence length that fits, for each batch.",
    ),
    ChartDefinition(
        name="scalings", title="Scaling over devices",
        note="Several devices of one model work on one problem, each on its share; the slowest one's time counts. The"
        " dashed line is a perfect split.",
    ),
    ChartDefinition(
        name="devices", title="Devices compared", note="Each device with the variant that is fastest on it.",
    ),
)  # fmt: skip

CHARTS: tuple[ChartDefinition, ...] = (*METRIC_CHARTS, *OTHER_CHARTS)


def size_text(size: float) -> str:
    """Return a whole number, such as a sequence length, in short form: 512, 1k, 16k."""
    return f"{size / 1024:.0f}k" if size >= 1024 and size % 1024 == 0 else f"{size:.0f}"
