"""The built-in variants. Each module of this package is a separate plugin that is found without registration.

Modules whose names start with an underscore hold code that several variants share, and offer no variant.
"""

from __future__ import annotations

import pkgutil

from attnbench import hookimpl


@hookimpl
def attnbench_modules() -> list[str]:
    """Return the public modules of this folder, so that a new file is a plugin without a new installation."""
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return [f"{__name__}.{name}" for name in modules if not name.startswith("_")]
