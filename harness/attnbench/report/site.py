"""A static site that covers many runs: an index by machine and date, a report for each run, and trends over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attnbench.analysis.load_runs import find_runs
from attnbench.analysis.results import Results
from attnbench.analysis.trend import Trend, trends
from attnbench.errors import UsageError
from attnbench.report.figures import slug
from attnbench.report.html_page import templates
from attnbench.report.write import write_report
from attnbench.store import read_manifest
from attnbench.untrusted import mapping

MAX_TRENDS = 500  # at most this many are shown on the page, those with the most change points first
WIDTH, HEIGHT = 220, 44  # size of a trend chart in pixels


@dataclass(frozen=True)
class ListedRun:
    """A run's entry in the index; `folder` is the path of its report within the site."""

    folder: str
    name: str
    started_at: str
    devices: str
    versions: str
    cells: int
    ok: int


def write_site(runs: str | Path | Sequence[str | Path], out: Path) -> Path:
    """Write a static site for all runs in `runs` into the folder `out`, and return the path of its index.html.

    The site is ready for GitHub Pages. Raises UsageError if there is no run or if the folder can't be written.
    """
    folders = [folder for folder in find_runs(runs) if _readable(folder)]
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".nojekyll").touch()
        listed = [_publish(run, out / "runs" / place) for run, place in zip(folders, _places(folders), strict=True)]
        listed.sort(key=lambda run: (run.devices, run.started_at), reverse=True)
        all_trends = trends(Results.load(folders))
        drawn = [(trend, _line(trend)) for trend in all_trends[:MAX_TRENDS]]
        page = (
            templates()
            .get_template("site.html")
            .render(runs=listed, trends=drawn, left=len(all_trends) - len(drawn), width=WIDTH, height=HEIGHT)
        )
        (out / "index.html").write_text(page, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"site folder {str(out)!r} can't be written: {error.strerror or error}") from None
    return out / "index.html"


def _readable(run: Path) -> bool:
    """Return whether a run's manifest can be read; unreadable runs are left out of the site."""
    try:
        read_manifest(run)
    except UsageError:
        return False
    return True


def _places(folders: Sequence[Path]) -> list[str]:
    """Return a folder name within the site for each run. The names are unique and contain no special characters."""
    taken: dict[str, int] = {}
    places = []
    for folder in folders:
        name = slug(f"{folder.parent.name}-{folder.name}")
        taken[name] = taken.get(name, 0) + 1
        places.append(name if taken[name] == 1 else f"{name}-{taken[name]}")
    return places


def _publish(run: Path, folder: Path) -> ListedRun:
    write_report(run, folder)
    frame, manifest = Results.load(run).frame, read_manifest(run)
    environments = mapping(manifest.get("environments"))
    packages = mapping(mapping(next(iter(environments.values()), None)).get("packages"))
    cells = frame[~frame["control"]]
    return ListedRun(
        folder=f"runs/{folder.name}/index.html",
        name=run.name,
        started_at=str(manifest.get("started_at", "")),
        devices=", ".join(sorted(cells["device_name"].unique())),
        versions=", ".join(f"{name} {packages[name]}" for name in ("attnbench", "torch") if name in packages),
        cells=len(cells),
        ok=int((cells["status"] == "ok").sum()),
    )


def _line(trend: Trend) -> list[tuple[float, float, str | None]]:
    """Return the points of a trend's chart: x and y in pixels, and the change at the point, if any."""
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
