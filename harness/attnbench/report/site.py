"""A static site of many runs: an index by machine and date, each run's report, and each cell's trend over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attnbench.analysis.load_runs import find_runs
from attnbench.analysis.results import Results
from attnbench.analysis.trend import Trend, trends
from attnbench.errors import UsageError
from attnbench.report.figures import slug
from attnbench.report.page import templates
from attnbench.report.write import write_report
from attnbench.store import read_manifest
from attnbench.untrusted import mapping

TRENDS = 500  # on the page, those with most change points first
WIDTH, HEIGHT = 220, 44  # of a trend's drawing, in pixels


@dataclass(frozen=True)
class Listed:
    """One run in the index: its folder in the site, and what its manifest and records say."""

    folder: str
    name: str
    started_at: str
    devices: str
    versions: str
    cells: int
    ok: int


def write_site(runs: str | Path | Sequence[str | Path], out: Path) -> Path:
    """Write a site of all runs that `runs` holds into `out`, fit for GitHub Pages; returns its index.html.

    Raises UsageError for no run, and where the folder can't be written.
    """
    folders = [folder for folder in find_runs(runs) if _readable(folder)]
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".nojekyll").touch()
        listed = [_publish(run, out / "runs" / place) for run, place in zip(folders, _places(folders), strict=True)]
        listed.sort(key=lambda one: (one.devices, one.started_at), reverse=True)
        found = trends(Results.load(folders))
        drawn = [(trend, _line(trend)) for trend in found[:TRENDS]]
        page = (
            templates()
            .get_template("site.html")
            .render(runs=listed, trends=drawn, left=len(found) - len(drawn), width=WIDTH, height=HEIGHT)
        )
        (out / "index.html").write_text(page, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"site folder {str(out)!r} can't be written: {error.strerror or error}") from None
    return out / "index.html"


def _readable(run: Path) -> bool:
    """Leave out a run whose manifest can't be read: one bad run of somebody's does not cost the site."""
    try:
        read_manifest(run)
    except UsageError:
        return False
    return True


def _places(folders: Sequence[Path]) -> list[str]:
    """Give each run a folder of its own in the site, safe whatever the run is called."""
    taken: dict[str, int] = {}
    places = []
    for folder in folders:
        name = slug(f"{folder.parent.name}-{folder.name}")
        taken[name] = taken.get(name, 0) + 1
        places.append(name if taken[name] == 1 else f"{name}-{taken[name]}")
    return places


def _publish(run: Path, folder: Path) -> Listed:
    write_report(run, folder)
    frame, manifest = Results.load(run).frame, read_manifest(run)
    environments = mapping(manifest.get("environments"))
    packages = mapping(mapping(next(iter(environments.values()), None)).get("packages"))
    cells = frame[~frame["control"]]
    return Listed(
        folder=f"runs/{folder.name}/index.html",
        name=run.name,
        started_at=str(manifest.get("started_at", "")),
        devices=", ".join(sorted(cells["device_name"].unique())),
        versions=", ".join(f"{name} {packages[name]}" for name in ("attnbench", "torch") if name in packages),
        cells=len(cells),
        ok=int((cells["status"] == "ok").sum()),
    )


def _line(trend: Trend) -> list[tuple[float, float, str | None]]:
    """Place the points of a trend in its drawing: x and y in pixels, and the change at it."""
    values = [point.latency_ms for point in trend.points]
    least, most = 0.0, max(values) * 1.05
    step = (WIDTH - 12) / max(1, len(values) - 1)
    return [
        (
            round(6 + index * step, 1),
            round(HEIGHT - 4 - (HEIGHT - 8) * (value - least) / (most - least), 1),
            point.change,
        )
        for index, (value, point) in enumerate(zip(values, trend.points, strict=True))
    ]
