"""index.html: the report as a single, self-contained page."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib import resources
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from attnbench.atomic_write import write_atomically
from attnbench.report.chart_definitions import CHARTS, MAX_FACETS
from attnbench.report.charts import chart_specs
from attnbench.report.content import METHOD
from attnbench.report.page_data import packed, payload
from attnbench.report.palette import palette
from attnbench.user_cache import cache_folder

if TYPE_CHECKING:
    from attnbench.report.content import Content
    from attnbench.report.figures import FigureProcess, ReportFigure
    from attnbench.report.table import Table


NEEDED = ("altair", "vl_convert")


def missing_packages() -> list[str]:
    """Return the packages of the `report` extra that are not installed."""
    return [name for name in NEEDED if find_spec(name) is None]


def runtime() -> str:
    """Return the script that draws Vega-Lite charts.

    Bundling the script takes seconds, so the result is stored in the user's cache folder.
    """
    import vl_convert

    kept = cache_folder() / f"vega-{version('vl-convert-python')}.js"
    try:
        return kept.read_text(encoding="utf-8")
    except OSError:
        bundled: str = vl_convert.javascript_bundle()  # type: ignore[call-arg] # all its arguments are optional
        script = bundled.replace("</script", "<\\/script")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, script)
    except OSError:
        return script  # if the cache is not writable, each report bundles the script again
    return script


# In print and without JavaScript, the page shows the printed figures of these charts; all of them would be too large.
STATIC_CHARTS = ("latency", "speedup")
SVG_PATH, DECIMALS = re.compile(r' d="[^"]*"'), re.compile(r"(\.\d\d)\d+")
SCRIPTS = ("state.js", "data.js", "charts.js", "coverage.js", "app.js")


def interactive_parts(content: Content) -> dict[str, Any]:
    """Return the page's data, chart specifications and scripts, or {} if packages of the `report` extra are missing."""
    return {} if missing_packages() else _interactive(content)


def to_page(content: Content, process: FigureProcess, interactive: Mapping[str, Any]) -> str:
    """Return the page as HTML.

    `process` must have finished drawing the figures. Printed figures replace the interactive charts in print, without
    JavaScript, and if packages of the `report` extra are missing.
    """
    missing = missing_packages()
    return (
        templates()
        .get_template("page.html")
        .render(
            content=content,
            figures=[
                _inlined(figure)
                for figure in process.figures
                if missing or figure.files["svg"].stem.startswith(STATIC_CHARTS)
            ],
            not_drawn=process.note,
            method=METHOD,
            missing=missing,
            interactive=not missing,
            charts=CHARTS,
            facets=MAX_FACETS,
            standings=_standings(content),
            **interactive,
        )
    )


def templates() -> Environment:
    """Return the templates' Jinja environment, which escapes all values except those of type Markup."""
    return Environment(
        loader=PackageLoader("attnbench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _interactive(content: Content) -> dict[str, Any]:
    """Return the parts of the page that the template does not escape: packed data, JSON and scripts."""
    folder = resources.files("attnbench.report") / "templates"
    scripts = "\n".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS)
    specs = json.dumps(chart_specs(palette(content.results.frame["variant"])), separators=(",", ":"))
    return {
        "data": Markup(packed(payload(content))),  # noqa: S704 - base64 contains no markup
        "specs": Markup(specs.replace("<", "\\u003c")),  # noqa: S704 - without <, no tag can begin in it
        "runtime": Markup(runtime()),  # noqa: S704 - a script from vl-convert
        "scripts": Markup(scripts),  # noqa: S704 - the scripts of this package
    }


def _standings(content: Content) -> dict[str, list[tuple[str, Table]]]:
    """Return the title and the headline table of each contest, grouped by device name."""
    by_device: dict[str, list[tuple[str, Table]]] = {}
    for contest, table in zip(content.contests, content.headline, strict=True):
        mode = "" if contest.mode == "hot" else f" · {contest.mode}"
        by_device.setdefault(contest.device_name, []).append((f"{contest.direction} · {contest.mask}{mode}", table))
    return by_device


def _inlined(figure: ReportFigure) -> dict[str, Any]:
    text = figure.files["svg"].read_text(encoding="utf-8").replace("\n", " ")
    text = SVG_PATH.sub(lambda path: DECIMALS.sub(r"\1", path[0]), text)  # two decimals are enough on a screen
    text = quote(text, safe=" =:/?&;,.()-+'")
    return {**vars(figure), "source": f"data:image/svg+xml,{text}"}
