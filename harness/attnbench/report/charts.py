"""The report page's interactive charts as Vega-Lite specifications, built with Altair.

The specifications contain no data; the page supplies the data as a data set named `rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from attnbench.report.chart_definitions import LENGTH_LABEL_EXPRESSION, LENGTH_TITLE, METRIC_CHARTS, MetricChart
from attnbench.report.page_data import ENDS

if TYPE_CHECKING:
    from attnbench.report.palette import Style

RELATIVE_LATENCY = "latency relative to the fastest"
GREY = "#8a8f98"  # for lines that belong to no variant; visible on both white and dark pages
DEVICE_DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3]]


def chart_specs(styles: Mapping[str, Style]) -> dict[str, Any]:
    """Return the Vega-Lite specification of each chart, keyed by the chart's name."""
    import altair as alt
    from altair.utils.schemapi import debug_mode

    others: dict[str, Callable[[], Any]] = {
        "error": lambda: _tradeoff(alt, styles, "worst error relative to the tolerance"),
        "tradeoff": lambda: _tradeoff(alt, styles, "peak memory relative to the lowest"),
        "exponents": lambda: _exponents(alt, styles),
        "crossovers": lambda: _crossovers(alt, styles),
        "reaches": lambda: _reaches(alt, styles),
        "scalings": lambda: _scalings(alt, styles),
        "devices": lambda: _devices(alt),
    }
    with debug_mode(False):  # skips validation, which takes seconds; the browser tests check the charts
        metrics = {chart.name: _metric_chart(alt, styles, chart) for chart in METRIC_CHARTS}
        return {**metrics, **{name: _faceted(alt, build()) for name, build in others.items()}}


def _colour(alt: Any, styles: Mapping[str, Style], field: str = "variant") -> Any:
    names = list(styles)
    scale = alt.Scale(domain=names, range=[styles[name].colour for name in names])
    return alt.Color(f"{field}:N", scale=scale, legend=None)


def _dash(alt: Any, styles: Mapping[str, Style]) -> Any:
    names = list(styles)
    scale = alt.Scale(domain=names, range=[list(styles[name].dash) or [1, 0] for name in names])
    return alt.StrokeDash("variant:N", scale=scale, legend=None)


def _tips(alt: Any, *fields: tuple[str, str]) -> list[Any]:
    """Return a tooltip for each (field, title) pair. Numbers are shown with four significant digits."""
    return [
        alt.Tooltip(name, title=title, **({"format": ".4~g"} if name.endswith(":Q") else {})) for name, title in fields
    ]


def _length_axis(alt: Any, name: str = "length", channel: str = "X") -> Any:
    powers = [2**power for power in range(4, 24)]
    axis = alt.Axis(labelExpr=LENGTH_LABEL_EXPRESSION, title=LENGTH_TITLE, values=powers, labelOverlap=True, grid=False)
    scale = alt.Scale(type="log", base=2, nice=False, padding=8)
    return getattr(alt, channel)(f"{name}:Q", scale=scale, axis=axis)


def _metric_chart(alt: Any, styles: Mapping[str, Style], chart: MetricChart) -> dict[str, Any]:
    """Return the specification of a chart that plots a metric against length, with a band if there is an interval.

    The data rows contain the metric's columns. Vega-Lite multiplies these columns by the chart's factor and names the
    products `value`, `low` and `high`. The page's script reads the name of the metric's column from `usermeta`.
    """
    title = chart.axis_title()
    if chart.log:
        scale = alt.Scale(type="log", nice=False, padding=8)
        axis = alt.Axis(title=title, tickCount=5, format="~g")
    else:
        scale, axis = alt.Scale(type="linear", zero=True), alt.Axis(title=title, tickCount=5)
    y = alt.Y("value:Q", axis=axis, scale=scale)
    columns = {"value": chart.column}
    tips = [("variant:N", "variant"), ("workload:N", "workload"), ("value:Q", title)]
    base = alt.Chart().encode(x=_length_axis(alt), color=_colour(alt, styles))
    layers = []
    if chart.reference is not None:
        layers.append(alt.Chart().mark_rule(color=GREY).encode(y=alt.datum(chart.reference)))
    if chart.low and chart.high:
        columns |= {"low": chart.low, "high": chart.high}
        tips += [("low:Q", "95% interval from"), ("high:Q", "to")]
        ends = alt.Y("low:Q", axis=axis, scale=scale)
        layers.append(base.mark_area(opacity=0.2).encode(y=ends, y2="high:Q"))
    layers.append(base.mark_line(strokeWidth=2).encode(y=y, strokeDash=_dash(alt, styles)))
    layers.append(base.mark_point(filled=True, size=45).encode(y=y, tooltip=_tips(alt, *tips)))
    transform = [{"calculate": f"datum.{column} * {chart.factor}", "as": name} for name, column in columns.items()]
    return {"usermeta": {"column": chart.column}, "transform": transform, **_faceted(alt, alt.layer(*layers))}


def _tradeoff(alt: Any, styles: Mapping[str, Style], cost: str) -> Any:
    """Return a chart of relative latency against a cost, with a line through the Pareto-optimal variants.

    `cost` is the title of the horizontal axis.
    """
    scale = alt.Scale(type="log", nice=False, padding=14)
    x = alt.X("cost:Q", scale=scale, axis=alt.Axis(title=cost, labelOverlap=True, format="~g", tickCount=5))
    axis = alt.Axis(title=RELATIVE_LATENCY, format="~g", tickCount=5)
    y = alt.Y("slower:Q", scale=scale, axis=axis)
    base = alt.Chart().encode(x=x, y=y)
    best = alt.Y("best:Q", scale=scale, axis=axis)
    pareto_front = alt.Chart().mark_line(color=GREY, strokeDash=[4, 3], interpolate="step-after").encode(x=x, y=best)
    tips = _tips(
        alt, ("variant:N", "variant"), ("cost:Q", cost), ("slower:Q", RELATIVE_LATENCY), ("shapes:Q", "shapes")
    )
    points = base.mark_point(filled=True, size=70).encode(color=_colour(alt, styles), tooltip=tips)
    return alt.layer(pareto_front, points)


def _exponents(alt: Any, styles: Mapping[str, Style]) -> Any:
    """Return a chart of each variant's scaling exponent and its interval, with a line at the exponent of the FLOPs."""
    axis = alt.Axis(title="exponent of latency over length", tickCount=5)
    scale = alt.Scale(zero=False, padding=10)
    base = alt.Chart().encode(y=alt.Y("variant:N", title=None), color=_colour(alt, styles))
    tips = _tips(alt, ("variant:N", "variant"), ("exponent:Q", "exponent"), ("low:Q", "from"), ("high:Q", "to"))
    flops = alt.X("flops:Q", aggregate="mean", axis=axis, scale=scale)
    work = alt.Chart().mark_rule(color=GREY, strokeDash=[4, 3]).encode(x=flops)
    interval = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", axis=axis, scale=scale), x2="high:Q")
    point = base.mark_point(filled=True, size=60).encode(x=alt.X("exponent:Q", axis=axis, scale=scale), tooltip=tips)
    return alt.layer(work, interval, point)


def _crossovers(alt: Any, styles: Mapping[str, Style]) -> Any:
    """Return a chart of the lengths above which one variant is faster than another, in the faster variant's colour."""
    base = alt.Chart().encode(
        y=alt.Y("pair:N", title=None, axis=alt.Axis(labelLimit=190)), color=_colour(alt, styles, "after")
    )
    tips = _tips(
        alt, ("before:N", "faster before"), ("after:N", "faster after"), ("length:Q", "length"), ("low:Q", "from"),
        ("high:Q", "to"),
    )  # fmt: skip
    interval = base.mark_rule(strokeWidth=2).encode(x=_length_axis(alt, "low"), x2="high:Q")
    return alt.layer(interval, base.mark_point(filled=True, size=60).encode(x=_length_axis(alt), tooltip=tips))


def _reaches(alt: Any, styles: Mapping[str, Style]) -> Any:
    """Return a chart of the largest length that fits in memory for each batch size.

    An upward triangle means that all tested lengths fit.
    """
    base = alt.Chart().encode(
        x=alt.X("batch:O", title="batch", axis=alt.Axis(labelAngle=0)),
        y=_length_axis(alt, "largest", "Y"),
        color=_colour(alt, styles),
    )
    shape = alt.Shape(
        "end:N",
        scale=alt.Scale(domain=ENDS, range=["circle", "triangle-up", "cross"]),
        legend=alt.Legend(title=None, orient="top", symbolFillColor=GREY, symbolStrokeColor=GREY),
    )
    tips = _tips(
        alt, ("variant:N", "variant"), ("batch:O", "batch"), ("largest:Q", "largest that fits"),
        ("out:Q", "smallest that does not fit"),
    )  # fmt: skip
    return base.mark_point(filled=True, size=90).encode(shape=shape, tooltip=tips)


def _scalings(alt: Any, styles: Mapping[str, Style]) -> Any:
    """Return a chart of the speed-up of several devices over one, with a dashed line for perfect scaling."""
    scale = alt.Scale(type="log", base=2, nice=False, padding=8)
    axis = alt.Axis(title="number of devices", values=[2**power for power in range(12)], grid=False)
    base = alt.Chart().encode(x=alt.X("devices:Q", scale=scale, axis=axis))
    title = alt.Axis(title="speed-up over one device", values=[2**power for power in range(12)])
    y = alt.Y("speedup:Q", scale=scale, axis=title)
    perfect_split = base.mark_line(color=GREY, strokeDash=[4, 3]).encode(y=alt.Y("devices:Q", scale=scale, axis=title))
    measured = base.encode(color=_colour(alt, styles))
    tips = _tips(
        alt, ("variant:N", "variant"), ("devices:Q", "devices"), ("speedup:Q", "speed-up"),
        ("efficiency:Q", "efficiency"),
    )  # fmt: skip
    line = measured.mark_line(strokeWidth=2).encode(y=y, strokeDash=_dash(alt, styles))
    return alt.layer(perfect_split, line, measured.mark_point(filled=True, size=55).encode(y=y, tooltip=tips))


def _devices(alt: Any) -> Any:
    """Return a chart of the throughput of the fastest variant on each kind of device."""
    tips = _tips(
        alt, ("device:N", "device"), ("variant:N", "fastest"), ("workload:N", "workload"), ("tflops:Q", "TFLOP/s")
    )
    scale = alt.Scale(type="log", nice=False, padding=8)
    axis = alt.Axis(title="throughput of the fastest (TFLOP/s)", tickCount=5, format="~g", grid=False)
    legend = alt.Legend(title=None, orient="top", labelLimit=300, columns=2)
    base = alt.Chart().encode(
        x=_length_axis(alt),
        y=alt.Y("tflops:Q", scale=scale, axis=axis),
        detail="device:N",
    )
    dashes = alt.Scale(range=DEVICE_DASHES)
    line = base.mark_line(strokeWidth=2).encode(strokeDash=alt.StrokeDash("device:N", scale=dashes, legend=legend))
    point = base.mark_point(filled=True, size=45).encode(color=alt.value("#6b7280"), tooltip=tips)
    return alt.layer(line.encode(color=alt.value(GREY)), point)


def _faceted(alt: Any, chart: Any) -> dict[str, Any]:
    """Return a chart's specification with a facet for each setting.

    The page's script sets the size and arrangement of the facets. The facets are added to the finished specification
    and not through Altair, because Altair would copy the whole chart at each step.
    """
    header = alt.Header(title=None, labelExpr="split(datum.label, ' | ')", labelLimit=330, labelFontWeight="bold")
    by_setting = alt.Facet("setting:N", header=header, sort=alt.EncodingSortField("place", op="min"))
    chart.data = alt.NamedData("rows")
    spec: dict[str, Any] = chart.to_dict(validate=False)
    for name in ("config", "$schema"):  # the page sets its own configuration, and the Vega-Lite runtime needs no schema
        spec.pop(name, None)
    return {
        "data": spec.pop("data"),
        "facet": {"field": "setting", "type": "nominal", **by_setting.to_dict(validate=False)},
        "columns": 3,
        "resolve": {"scale": {"x": "independent", "y": "independent"}},
        "spec": {**spec, "width": 250, "height": 190},
    }
