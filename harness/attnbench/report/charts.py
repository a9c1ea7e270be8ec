"""The page's interactive charts: Vega-Lite by Altair, and the runtime that draws them, inlined."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from attnbench.cache import cache_folder

if TYPE_CHECKING:
    from attnbench.report.palette import Style

NEEDED = ("altair", "vl_convert", "great_tables")
OVER_LENGTH = {
    "latency": ("latency", "Median latency (ms)", "log", True),
    "tflops": ("tflops", "TFLOP/s over visible pairs", "linear", False),
    "roofline": ("roofline_pct", "% of the measured roofline", "linear", False),
    "memory": ("peak_mib", "Peak memory above inputs (MiB)", "log", False),
    "energy": ("energy_mj", "Energy per call (mJ)", "log", False),
    "speedup": ("speedup", "Speed-up over the baseline", "log", True),
}
BAND = {"latency": ("latency_low", "latency_high"), "speedup": ("speedup_low", "speedup_high")}


def missing_packages() -> list[str]:
    """Name the packages of the extra `report` that are not installed."""
    return [name for name in NEEDED if find_spec(name) is None]


def chart_specs(styles: Mapping[str, Style]) -> dict[str, Any]:
    """Give each chart's Vega-Lite specification by name; the page supplies the rows as the data set `cells`."""
    from altair.utils.schemapi import debug_mode

    with debug_mode(False):  # validating each step takes seconds; the page's tests see what is drawn
        specs = {name: _over_length(styles, name) for name in OVER_LENGTH}
        return {
            **specs,
            "error": _against(styles, *ERROR),
            "tradeoff": _against(styles, *MEMORY),
            "devices": _devices(),
        }


ERROR = ("error_ratio", "Worst row error over its tolerance", "relative", "Latency over the fastest")
MEMORY = ("peak_mib", "Peak memory above inputs (MiB)", "relative", "Latency over the fastest")


def _colour(alt: Any, styles: Mapping[str, Style]) -> Any:
    names = list(styles)
    scale = alt.Scale(domain=names, range=[styles[name].colour for name in names])
    return alt.Color("variant:N", scale=scale, legend=None)


def _dash(alt: Any, styles: Mapping[str, Style]) -> Any:
    names = list(styles)
    scale = alt.Scale(domain=names, range=[list(styles[name].dash) or [1, 0] for name in names])
    return alt.StrokeDash("variant:N", scale=scale, legend=None)


def _length_axis(alt: Any) -> Any:
    label = "datum.value >= 1024 && datum.value % 1024 == 0 ? datum.value / 1024 + 'k' : datum.value"
    powers = [2**power for power in range(4, 24)]
    axis = alt.Axis(labelExpr=label, title="sequence length", values=powers, labelOverlap=True, grid=False)
    return alt.X("length:Q", scale=alt.Scale(type="log", base=2, nice=False, padding=8), axis=axis)


def _over_length(styles: Mapping[str, Style], name: str) -> dict[str, Any]:
    """Draw a metric over length: lines, points and, where it has one, the interval as a band."""
    import altair as alt

    field, title, scale, banded = OVER_LENGTH[name]
    scales: Any = {"type": "log", "nice": False, "padding": 8} if scale == "log" else {"type": "linear", "zero": True}
    axis = alt.Axis(title=title, tickCount=5, format="~g") if scale == "log" else alt.Axis(title=title, tickCount=5)
    y = alt.Y(f"{field}:Q", axis=axis, scale=alt.Scale(**scales))
    tips = [alt.Tooltip("variant:N"), alt.Tooltip("workload:N"), alt.Tooltip(f"{field}:Q", title=title, format=".4~g")]
    if banded:
        tips.append(alt.Tooltip("interval:N", title="95% interval"))
    base = alt.Chart().encode(x=_length_axis(alt), color=_colour(alt, styles))
    layers = [base.mark_line(strokeWidth=2).encode(y=y, strokeDash=_dash(alt, styles))]
    layers += [base.mark_point(filled=True, size=45).encode(y=y, tooltip=tips)]
    if banded:
        low, high = BAND[name]
        layers.insert(
            0,
            base.mark_area(opacity=0.2).encode(
                y=alt.Y(f"{low}:Q", axis=axis, scale=alt.Scale(**scales)), y2=f"{high}:Q"
            ),
        )
    return _faceted(alt, alt.layer(*layers))


def _against(styles: Mapping[str, Style], x: str, x_title: str, y: str, y_title: str) -> dict[str, Any]:
    """Draw one point a cell: what it costs against how fast it is; below and to the left is better."""
    import altair as alt

    scale = alt.Scale(type="log", nice=False, padding=8)
    tips = [alt.Tooltip("variant:N"), alt.Tooltip("workload:N"), alt.Tooltip(f"{x}:Q", format=".4~g")]
    chart = (
        alt.Chart()
        .mark_point(filled=True, size=50, opacity=0.8)
        .encode(
            x=alt.X(f"{x}:Q", scale=scale, axis=alt.Axis(title=x_title, labelOverlap=True, format="~g", tickCount=5)),
            y=alt.Y(f"{y}:Q", scale=scale, axis=alt.Axis(title=y_title, format="~g", tickCount=5)),
            color=_colour(alt, styles),
            tooltip=[*tips, alt.Tooltip(f"{y}:Q", format=".4~g")],
        )
    )
    return _faceted(alt, chart)


def _devices() -> dict[str, Any]:
    """Draw TFLOP/s of the same variant on each device, a facet a variant."""
    import altair as alt

    tips = [alt.Tooltip("device:N"), alt.Tooltip("workload:N"), alt.Tooltip("tflops:Q", format=".4~g")]
    base = alt.Chart().encode(
        x=_length_axis(alt),
        y=alt.Y("tflops:Q", title="TFLOP/s over visible pairs"),
        color=alt.Color("device:N", legend=alt.Legend(title=None, orient="top"), scale=alt.Scale(scheme="tableau10")),
    )
    return _faceted(
        alt, alt.layer(base.mark_line(), base.mark_point(filled=True, size=45).encode(tooltip=tips)), "variant"
    )


def _faceted(alt: Any, chart: Any, by: str = "setting") -> dict[str, Any]:
    """Lay a chart out by setting; the page sets the facets' width and how many stand in a row."""
    header = alt.Header(title=None, labelExpr="split(datum.label, ' | ')", labelLimit=330, labelFontWeight="bold")
    facets = chart.properties(width=250, height=190, data=alt.NamedData("cells")).facet(
        facet=alt.Facet(f"{by}:N", header=header), columns=3
    )
    spec: dict[str, Any] = facets.resolve_scale(y="independent", x="independent").to_dict()
    spec.pop("config", None)
    spec.pop("$schema", None)  # an address; the inlined runtime needs none
    return spec


def runtime() -> str:
    """Give the script that draws Vega-Lite; kept in the user's cache, because bundling it takes seconds."""
    import vl_convert

    kept = cache_folder() / f"vega-{version('vl-convert-python')}.js"
    try:
        return kept.read_text(encoding="utf-8")
    except OSError:
        bundled: str = vl_convert.javascript_bundle()  # type: ignore[call-arg] # all arguments may be left out
        script = bundled.replace("</script", "<\\/script")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        unfinished = kept.with_suffix(f".{os.getpid()}")
        unfinished.write_text(script, encoding="utf-8")
        unfinished.replace(kept)
    except OSError:
        return script  # a read-only home: the next report bundles again
    return script
