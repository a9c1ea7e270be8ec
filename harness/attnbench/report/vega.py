"""The Vega runtime that draws the page's charts, as a script for the page."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec

from attnbench.atomic_write import write_atomically
from attnbench.cache import cache_folder

NEEDED = ("altair", "vl_convert")


def missing_packages() -> list[str]:
    """Return the packages of the extra `report` that are not installed."""
    return [name for name in NEEDED if find_spec(name) is None]


def runtime() -> str:
    """Return the script that draws Vega-Lite, from the user's cache if it is there: bundling it takes seconds."""
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
        return script  # without a writable cache, each report bundles it anew
    return script
