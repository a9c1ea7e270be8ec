"""Studies, each of which answers a question with measured rows, a figure and a finding in words."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.errors import AttnbenchError, UsageError, describe
from attnbench.runner.run_listener import RunListener

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from attnbench.plan.cells import Plan


Row = Mapping[str, Any]


def listed(parts: Sequence[str]) -> str:
    """Join the parts as in a sentence, for example as `a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def number(value: float) -> str:
    """Format a number with three significant digits, in scientific notation only if it is very large or very small."""
    if value == 0 or not 1e-3 <= abs(value) < 1e6:
        return f"{value:.3g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def bytes_text(count: float) -> str:
    """Format a number of bytes in the largest suitable unit, such as `1.50 KiB`."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{number(count / size)} {unit}"
    return f"{count:.0f} bytes"


def exponent(first: tuple[float, float], last: tuple[float, float]) -> float:
    """Return the exponent b of the curve y = a * x**b through two points (x, y).

    All coordinates must be positive, and the two values of x must differ.
    """
    return math.log(last[1] / first[1]) / math.log(last[0] / first[0])


Rows = list[dict[str, Any]]


def unwatched(_: Plan) -> AbstractContextManager[RunListener]:
    """Return a context manager whose listener ignores all events of the run."""
    return nullcontext(RunListener())


@dataclass(frozen=True)
class Settings:
    """The user's settings for a study.

    `sizes` overrides some of the study's default sizes. `watch` returns a context manager whose listener shows the
    progress of the study's run.
    """

    results: Path = Path("results")
    device: str | None = None
    variants: Sequence[str] = ()
    plugins: Sequence[str] = ()
    budget_s: float | None = None
    sizes: Mapping[str, Any] = field(default_factory=dict)
    watch: Callable[[Plan], AbstractContextManager[RunListener]] = unwatched


@dataclass(frozen=True)
class Study:
    """A question, and the functions that answer it.

    `collect` returns rows of JSON values. `draw` makes a figure from the rows, and `conclude` writes a finding about
    them.
    """

    name: str
    question: str
    collect: Callable[[Settings, Path], Rows]
    draw: Callable[[Rows], Figure]
    conclude: Callable[[Rows], str]


@dataclass(frozen=True)
class StudyResult:
    """The result of a study.

    `folder` contains rows.json, finding.md, figure.svg and figure.png. If the study timed variants, it also contains
    the study's run.
    """

    folder: Path
    finding: str


def make(study: Study, settings: Settings) -> StudyResult:
    """Run a study, and write its rows, finding and figure to a new folder.

    Raises AttnbenchError if no cell of the study was timed, and UsageError if the folder can't be created.
    """
    folder = settings.results / f"study-{study.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"results folder {str(settings.results)!r} can't be written: {describe(error)}") from None
    try:
        rows = study.collect(settings, folder)
    except BaseException:
        with suppress(OSError):  # the folder is only removed if it is empty
            folder.rmdir()
        raise
    if not rows:
        raise AttnbenchError(f"study {study.name}: no cell was timed; see the records in {folder} for the reasons")
    (folder / "rows.json").write_text(json.dumps(rows, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    finding = study.conclude(rows)
    (folder / "finding.md").write_text(f"# {study.question}\n\n{finding}\n\n![](figure.svg)\n", encoding="utf-8")
    figure = study.draw(rows)
    for suffix in ("svg", "png"):
        figure.savefig(folder / f"figure.{suffix}", dpi=160)
    return StudyResult(folder, finding)


def compute(experiment: str, options: Mapping[str, Any]) -> Rows:
    """Run an experiment that does not time anything, and return its rows.

    The experiment runs in a separate process, because it imports torch, which the supervisor must not import. Raises
    AttnbenchError if the experiment fails. The error message ends with the last line of the process's standard error.
    """
    process = subprocess.run(
        [sys.executable, "-m", "attnbench.worker.study_experiments", experiment],
        input=json.dumps(dict(options)),
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        raise AttnbenchError(f"experiment {experiment} failed: {process.stderr.strip().splitlines()[-1]}")
    rows: Rows = json.loads(process.stdout)
    return rows
