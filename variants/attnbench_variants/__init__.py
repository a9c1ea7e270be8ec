"""The built-in plugin: each module of this package is a plugin of its own, found by being here.

Modules whose names start with an underscore hold what several variants share and offer none themselves.
"""

from __future__ import annotations

import pkgutil

from attnbench import hookimpl


@hookimpl
def attnbench_modules() -> list[str]:
    """Name every public module in this folder, so that a file dropped in is there without a reinstall."""
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return [f"{__name__}.{name}" for name in modules if not name.startswith("_")]
