"""index.html: the report as one file that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from attnbench.report.markdown import METHOD

if TYPE_CHECKING:
    from attnbench.report.document import Document
    from attnbench.report.figures import Drawn


def to_page(document: Document, figures: Sequence[Drawn]) -> str:
    """Write the page; figures are inlined."""
    return (
        templates()
        .get_template("page.html")
        .render(document=document, figures=[_inlined(figure) for figure in figures], method=METHOD)
    )


def templates() -> Environment:
    """Load the templates; everything that they print is escaped unless marked safe here."""
    return Environment(
        loader=PackageLoader("attnbench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _inlined(figure: Drawn) -> dict[str, Any]:
    data = base64.b64encode(figure.files["svg"].read_bytes()).decode()
    return {"title": figure.title, "alt": figure.alt, "source": f"data:image/svg+xml;base64,{data}"}
