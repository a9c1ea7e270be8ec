"""The built-in variants. Each public module of this package is a separate plugin that needs no registration.

Modules whose names start with an underscore hold code shared by several variants and define no variants.
"""

from __future__ import annotations

import pkgutil

from attnbench import hookimpl


@hookimpl
def attnbench_modules() -> list[str]:
    """Return the names of this package's public modules, including modules that were added after installation."""
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return [f"{__name__}.{name}" for name in modules if not name.startswith("_")]
