"""The report page's interactive charts as Vega-Lite specifications, built with Altair.

The specifications contain no data; the page supplies the data as a data set named `rows`. Settings with a single length
are drawn as dot plots, whose data set is named `points`.
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
POINTS = "points"  # the data set of dot plots
TICKS_OF_DATA = {"values": {"expr": "ticks"}}  # the page's script defines the parameter `ticks`
WIDENED = 1.25  # a logarithmic axis of derived lengths extends beyond the data by this factor, so that it has ticks
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
    }
    with debug_mode(False):  # skips validation, which takes seconds; the browser tests check the charts
        metrics = {chart.name: _metric_chart(alt, styles, chart) for chart in METRIC_CHARTS}
        devices = {
            "usermeta": {"dots": _faceted(alt, _device_dots(alt), POINTS), "names": "device"},
            **_faceted(alt, _devices(alt)),
        }
        return {**metrics, **{name: _faceted(alt, build()) for name, build in others.items()}, "devices": devices}


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


def _length_axis(alt: Any, name: str = "length", channel: str = "X", **ticks: Any) -> Any:
    """Return a logarithmic axis of lengths. Unless `ticks` says otherwise, its ticks are the lengths in the data."""
    ticks = ticks or TICKS_OF_DATA
    axis = alt.Axis(labelExpr=LENGTH_LABEL_EXPRESSION, title=LENGTH_TITLE, labelOverlap=True, grid=False, **ticks)
    scale = alt.Scale(type="log", base=2, nice=False, padding=8)
    return getattr(alt, channel)(f"{name}:Q", scale=scale, axis=axis)


def _metric_chart(alt: Any, styles: Mapping[str, Style], chart: MetricChart) -> dict[str, Any]:
    """Return the specification of a chart that plots a metric against length, with a band if there is an interval.

    The data rows contain the metric's columns. Vega-Lite multiplies these columns by the chart's factor and names the
    products `value`, `low` and `high`. The page's script reads two things from `usermeta`: the name of the metric's
    column, and the specification of the dot plot that is drawn of settings with a single length.
    """
    columns = {"value": chart.column}
    if chart.low and chart.high:
        columns |= {"low": chart.low, "high": chart.high}
    transform = [{"calculate": f"datum.{column} * {chart.factor}", "as": name} for name, column in columns.items()]
    dots = {"transform": transform, **_faceted(alt, _metric_dots(alt, styles, chart), POINTS)}
    lines = _faceted(alt, _metric_lines(alt, styles, chart))
    return {"usermeta": {"column": chart.column, "dots": dots, "names": "variant"}, "transform": transform, **lines}


def _metric_axis(alt: Any, chart: MetricChart) -> dict[str, Any]:
    title = chart.axis_title()
    if chart.log:
        return {
            "scale": alt.Scale(type="log", nice=False, padding=8),
            "axis": alt.Axis(title=title, tickCount=5, format="~g", labelOverlap=True),
        }
    return {"scale": alt.Scale(type="linear", zero=True), "axis": alt.Axis(title=title, tickCount=5)}


def _metric_tips(alt: Any, chart: MetricChart) -> list[Any]:
    interval = [("low:Q", "95% interval from"), ("high:Q", "to")] if chart.low and chart.high else []
    return _tips(alt, ("variant:N", "variant"), ("workload:N", "workload"), ("value:Q", chart.axis_title()), *interval)


def _metric_lines(alt: Any, styles: Mapping[str, Style], chart: MetricChart) -> Any:
    """Return a chart of a metric against length, with a line for each variant."""
    shared = _metric_axis(alt, chart)
    y = alt.Y("value:Q", **shared)
    base = alt.Chart().encode(x=_length_axis(alt), color=_colour(alt, styles))
    layers = []
    if chart.reference is not None:
        layers.append(alt.Chart().mark_rule(color=GREY).encode(y=alt.datum(chart.reference)))
    if chart.low and chart.high:
        layers.append(base.mark_area(opacity=0.2).encode(y=alt.Y("low:Q", **shared), y2="high:Q"))
    layers.append(base.mark_line(strokeWidth=2).encode(y=y, strokeDash=_dash(alt, styles)))
    layers.append(base.mark_point(filled=True, size=45).encode(y=y, tooltip=_metric_tips(alt, chart)))
    return alt.layer(*layers)


def _metric_dots(alt: Any, styles: Mapping[str, Style], chart: MetricChart) -> Any:
    """Return a chart of a metric at a single length, with a row for each variant."""
    shared = _metric_axis(alt, chart)
    base = alt.Chart().encode(y=_names_axis(alt, "variant"), color=_colour(alt, styles))
    layers = []
    if chart.reference is not None:
        layers.append(alt.Chart().mark_rule(color=GREY).encode(x=alt.datum(chart.reference)))
    if chart.low and chart.high:
        layers.append(base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", **shared), x2="high:Q"))
    point = base.mark_point(filled=True, size=60)
    layers.append(point.encode(x=alt.X("value:Q", **shared), tooltip=_metric_tips(alt, chart)))
    return alt.layer(*layers)


def _names_axis(alt: Any, name: str) -> Any:
    return alt.Y(f"{name}:N", title=None, axis=alt.Axis(labelLimit=190))


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
    base = alt.Chart().encode(y=_names_axis(alt, "pair"), color=_colour(alt, styles, "after"))
    tips = _tips(
        alt, ("before:N", "faster before"), ("after:N", "faster after"), ("length:Q", "length"), ("low:Q", "from"),
        ("high:Q", "to"),
    )  # fmt: skip
    interval = base.mark_rule(strokeWidth=2).encode(x=_length_axis(alt, "low", tickCount=4), x2="high:Q")
    point = base.mark_point(filled=True, size=60).encode(x=_length_axis(alt, tickCount=4), tooltip=tips)
    wider = _widened(alt, "low", "high").encode(x=_length_axis(alt, "from", tickCount=4), x2="to:Q")
    return alt.layer(wider, interval, point)


def _widened(alt: Any, low: str, high: str) -> Any:
    """Return an invisible layer from below the values in the field `low` to above those in the field `high`.

    Without it, an axis whose data has a single value would be a point, at which all ticks are drawn over each other.
    """
    return (
        alt.Chart()
        .transform_calculate(**{"from": f"datum.{low} / {WIDENED}", "to": f"datum.{high} * {WIDENED}"})
        .mark_rule(opacity=0)
    )


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
        legend=alt.Legend(title=None, orient="top", labelLimit=300, symbolFillColor=GREY, symbolStrokeColor=GREY),
    )
    tips = _tips(
        alt, ("variant:N", "variant"), ("batch:O", "batch"), ("largest:Q", "largest that fits"),
        ("out:Q", "smallest that does not fit"),
    )  # fmt: skip
    wider = _widened(alt, "largest", "largest").encode(y=_length_axis(alt, "from", "Y"), y2="to:Q")
    return alt.layer(wider, base.mark_point(filled=True, size=90).encode(shape=shape, tooltip=tips))


def _scalings(alt: Any, styles: Mapping[str, Style]) -> Any:
    """Return a chart of the speed-up of several devices over one, with a dashed line for perfect scaling."""
    scale = alt.Scale(type="log", base=2, nice=False, padding=8)
    axis = alt.Axis(title="number of devices", grid=False, **TICKS_OF_DATA)
    base = alt.Chart().encode(x=alt.X("devices:Q", scale=scale, axis=axis))
    title = alt.Axis(title="speed-up over one device", tickCount=4)
    y = alt.Y("speedup:Q", scale=scale, axis=title)
    perfect_split = base.mark_line(color=GREY, strokeDash=[4, 3]).encode(y=alt.Y("devices:Q", scale=scale, axis=title))
    measured = base.encode(color=_colour(alt, styles))
    tips = _tips(
        alt, ("variant:N", "variant"), ("devices:Q", "devices"), ("speedup:Q", "speed-up"),
        ("efficiency:Q", "efficiency"),
    )  # fmt: skip
    line = measured.mark_line(strokeWidth=2).encode(y=y, strokeDash=_dash(alt, styles))
    return alt.layer(perfect_split, line, measured.mark_point(filled=True, size=55).encode(y=y, tooltip=tips))


def _device_axis(alt: Any) -> dict[str, Any]:
    return {
        "scale": alt.Scale(type="log", nice=False, padding=8),
        "axis": alt.Axis(title="throughput of the fastest (TFLOP/s)", tickCount=5, format="~g", grid=False),
    }


def _device_tips(alt: Any) -> list[Any]:
    return _tips(
        alt, ("device:N", "device"), ("variant:N", "fastest"), ("workload:N", "workload"), ("tflops:Q", "TFLOP/s")
    )


def _devices(alt: Any) -> Any:
    """Return a chart of the throughput of the fastest variant on each kind of device."""
    legend = alt.Legend(title=None, orient="top", labelLimit=300, columns=2)
    base = alt.Chart().encode(x=_length_axis(alt), y=alt.Y("tflops:Q", **_device_axis(alt)), detail="device:N")
    dashes = alt.Scale(range=DEVICE_DASHES)
    line = base.mark_line(strokeWidth=2).encode(strokeDash=alt.StrokeDash("device:N", scale=dashes, legend=legend))
    point = base.mark_point(filled=True, size=45).encode(color=alt.value("#6b7280"), tooltip=_device_tips(alt))
    return alt.layer(line.encode(color=alt.value(GREY)), point)


def _device_dots(alt: Any) -> Any:
    """Return a chart of the throughput of the fastest variant at a single length, with a row for each device."""
    point = alt.Chart().mark_point(filled=True, size=60, color="#6b7280")
    return point.encode(
        x=alt.X("tflops:Q", **_device_axis(alt)), y=_names_axis(alt, "device"), tooltip=_device_tips(alt)
    )


def _faceted(alt: Any, chart: Any, data: str = "rows") -> dict[str, Any]:
    """Return a chart's specification with a facet for each setting.

    The page's script sets the size and arrangement of the facets. The facets are added to the finished specification
    and not through Altair, because Altair would copy the whole chart at each step.
    """
    header = alt.Header(title=None, labelExpr="split(datum.label, ' | ')", labelLimit=330, labelFontWeight="bold")
    by_setting = alt.Facet("setting:N", header=header, sort=alt.EncodingSortField("place", op="min"))
    chart.data = alt.NamedData(data)
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
