"""index.html: the report as one file that needs nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from attnbench.report.chart_definitions import CHARTS, FACETS
from attnbench.report.charts import chart_specs
from attnbench.report.markdown import METHOD
from attnbench.report.page_data import packed, payload
from attnbench.report.palette import palette
from attnbench.report.vega import missing_packages, runtime

if TYPE_CHECKING:
    from attnbench.report.content import Content
    from attnbench.report.figures import FigureProcess, ReportFigure
    from attnbench.report.table import Table

FALL_BACK = ("latency", "speedup")  # figures in the page for who has no JavaScript; all are beside it
PATH, LONG = re.compile(r' d="[^"]*"'), re.compile(r"(\.\d\d)\d+")
SCRIPTS = ("state.js", "data.js", "charts.js", "coverage.js", "app.js")


def content_of(document: Content) -> dict[str, Any]:
    """Make the page's interactive content; none without the packages of the extra `report`."""
    return {} if missing_packages() else _interactive(document)


def to_page(document: Content, process: FigureProcess, content: Mapping[str, Any]) -> str:
    """Write the page of figures that are drawn; without interactive content they stand in place of charts."""
    missing = missing_packages()
    return (
        templates()
        .get_template("page.html")
        .render(
            document=document,
            figures=[
                _inlined(figure)
                for figure in process.figures
                if missing or figure.files["svg"].stem.startswith(FALL_BACK)
            ],
            not_drawn=process.note,
            method=METHOD,
            missing=missing,
            interactive=not missing,
            charts=CHARTS,
            facets=FACETS,
            standings=_standings(document),
            **content,
        )
    )


def templates() -> Environment:
    """Load the templates; everything that they print is escaped but for what is Markup."""
    return Environment(
        loader=PackageLoader("attnbench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _interactive(document: Content) -> dict[str, Any]:
    """Make the parts that are safe as they stand: packed data, escaped JSON, our own and the runtime's scripts."""
    folder = resources.files("attnbench.report") / "templates"
    specs = json.dumps(chart_specs(palette(document.results.frame["variant"])), separators=(",", ":"))
    return {
        "data": Markup(packed(payload(document))),  # noqa: S704 - base64
        "specs": Markup(specs.replace("<", "\\u003c")),  # noqa: S704 - no tag can begin in it
        "runtime": Markup(runtime()),  # noqa: S704 - vl-convert's own script
        "scripts": Markup("\n".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS)),  # noqa: S704
    }


def _standings(document: Content) -> dict[str, list[tuple[str, Table]]]:
    """Return the headline tables by device, each with the contest that it ranks."""
    by_device: dict[str, list[tuple[str, Table]]] = {}
    for contest, table in zip(document.contests, document.headline, strict=True):
        mode = "" if contest.mode == "hot" else f" · {contest.mode}"
        by_device.setdefault(contest.device_name, []).append((f"{contest.direction} · {contest.mask}{mode}", table))
    return by_device


def _inlined(figure: ReportFigure) -> dict[str, Any]:
    text = figure.files["svg"].read_text(encoding="utf-8").replace("\n", " ")
    text = PATH.sub(lambda path: LONG.sub(r"\1", path[0]), text)  # hundredths of a point are not seen
    text = quote(text, safe=" =:/?&;,.()-+'")
    return {"title": figure.title, "description": figure.description, "source": f"data:image/svg+xml,{text}"}
