"""The Sphinx configuration. Figures and generated pages are written before each build."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

project = "attnbench"
author = "attnbench developers"
copyright = author  # noqa: A001 - Sphinx requires this name

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "attnbench"
html_static_path: list[str] = []
html_show_sphinx = False
smartquotes = False  # smart quotes would turn the `--` of an option into a dash
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
nitpicky = False  # references to types from torch and pluggy can't be resolved
suppress_warnings = ["myst.header"]  # included pages start with a second-level heading


def setup(app):  # noqa: ANN001, ANN201 - a hook that Sphinx calls
    """Write the figures and the generated pages before Sphinx reads the sources."""
    from generate import generate_all

    app.connect("config-inited", lambda *_: generate_all(HERE / "_generated"))
