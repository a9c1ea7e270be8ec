"""Sphinx: what the site is made of, and what is drawn and generated before it is built."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

project = "attnbench"
author = "attnbench developers"
copyright = author  # noqa: A001 - the name that Sphinx reads

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "attnbench"
html_static_path: list[str] = []
html_show_sphinx = False
smartquotes = False  # options have two hyphens
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
nitpicky = False  # torch's and pluggy's types are documented elsewhere
suppress_warnings = ["myst.header"]  # an included page starts below the first level


def setup(app):  # noqa: ANN001, ANN201 - Sphinx's own hook
    """Draw the figures and write the generated pages, before Sphinx looks for sources."""
    from generate import generate_all

    app.connect("config-inited", lambda *_: generate_all(HERE / "_generated"))
