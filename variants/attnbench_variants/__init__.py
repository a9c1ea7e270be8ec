"""The built-in plugin: each module of this package is a plugin of its own, found by being here."""

from __future__ import annotations

import pkgutil

from attnbench import hookimpl


@hookimpl
def attnbench_modules() -> list[str]:
    """Name every module in this folder, so that a file dropped in is there without a reinstall."""
    return [f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)]
