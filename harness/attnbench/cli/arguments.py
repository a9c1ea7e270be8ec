"""Arguments and options that several commands share, and functions that parse their values."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnbench.cli import completion
from attnbench.cli.completion import last_of
from attnbench.errors import UsageError
from attnbench.workloads.workload import OPTIONS

if TYPE_CHECKING:
    from attnbench.progress import Level
    from attnbench.workloads.axis import Axis, Option

Suites = Annotated[
    list[str] | None,
    typer.Option(
        "-s",
        "--suite",
        metavar="SUITE",
        autocompletion=last_of(completion.suites),
        help="Suites to run: names or TOML files.",
    ),
]
Workloads = Annotated[
    list[str] | None,
    typer.Option("-w", "--workload", metavar="ID", help="Workloads to run, by id; --dry-run prints the ids."),
]
Variants = Annotated[
    list[str] | None,
    typer.Option(
        "-v",
        "--variant",
        metavar="VARIANT",
        autocompletion=last_of(completion.variants),
        help="Variants: names or glob patterns.",
    ),
]
OneDevice = Annotated[
    str | None,
    typer.Option(
        "-d",
        "--device",
        metavar="DEVICE",
        autocompletion=last_of(completion.devices),
        help="Device: cpu, cuda, cuda:1 ...",
    ),
]
Devices = Annotated[
    list[str] | None,
    typer.Option(
        "-d",
        "--device",
        metavar="DEVICE",
        autocompletion=last_of(completion.devices),
        help="Devices: cpu, cpu:0, cuda, cuda:1 ...",
    ),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option("-p", "--plugin", metavar="PLUGIN", help="Plugin to load: FILE.py or package.module."),
]
Strict = Annotated[bool, typer.Option("--strict-plugins", help="Fail if a plugin can't be loaded.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Show only failures and results.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show more detail.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON only.")]

ResultsFolder = Annotated[Path, typer.Option("--results", metavar="DIR", help="Folder that contains the runs.")]
RunName = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="Name of the run; default: the current time.")
]
Resume = Annotated[
    str | None,
    typer.Option(
        metavar="RUN", autocompletion=last_of(completion.runs), help="Continue this run by running its missing cells."
    ),
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="With --resume, also run failed cells again.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the cells without running them.")]
Precision = Annotated[
    str | None,
    typer.Option(metavar="PERCENT", help="Sample until the median is known this precisely, e.g. 0.5%."),
]
Budget = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="Seconds of sampling per cell; also limits the warm-up.")
]
Timeout = Annotated[float | None, typer.Option(metavar="SECONDS", help="Time limit for each phase of a cell.")]
Exhaustive = Annotated[
    bool, typer.Option("--exhaustive", help="Also run cells that are expected not to fit in memory.")
]
HostMemory = Annotated[str | None, typer.Option(metavar="SIZE", help="Host memory that a worker may use, e.g. 8GiB.")]
MaxWorkers = Annotated[
    int | None,
    typer.Option(metavar="N", help="Workers to keep on a device at the same time; default: as many as fit in memory."),
]
Baseline = Annotated[
    str | None,
    typer.Option(
        metavar="VARIANT", autocompletion=last_of(completion.variants), help="Variant that speed-ups are relative to."
    ),
]
EveryDevice = Annotated[
    bool, typer.Option("--every-device", help="Run all cells on each device, even on devices of the same model.")
]
Mode = Annotated[
    str,
    typer.Option(
        metavar="MODE", help="hot, cold (caches are flushed before each call) or graph (replays a CUDA graph)."
    ),
]
ExecutorName = Annotated[
    str, typer.Option("--executor", metavar="NAME", help="Where cells run: local, or ray or slurm for a cluster.")
]
Address = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Address of a Ray cluster; default: start Ray on this machine."),
]
Processes = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Processes that measure a cell, one after another, until its comparisons are clear; default: at most 6 on "
        "a CPU, 4 on a GPU. Verdicts need at least 2.",
    ),
]
NoInterleave = Annotated[
    bool, typer.Option("--no-interleave", help="Time the variants one after another instead of alternately.")
]
Runs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN]...",
        autocompletion=last_of(completion.runs),
        help="Runs: folders or names; default: the latest run.",
    ),
]


def level(*, quiet: bool, verbose: bool) -> Level:
    """Return the level of output.

    Raises UsageError if both options are given.
    """
    if quiet and verbose:
        raise UsageError("--quiet and --verbose can't be combined: give only one of them")
    return "quiet" if quiet else "verbose" if verbose else "normal"


def split(values: Iterable[str] | None) -> list[str]:
    """Return the values of an option that may be repeated and may contain comma-separated values."""
    return [part.strip() for value in values or () for part in value.split(",") if part.strip()]


def run_folders(runs: list[str] | None, results: Path) -> list[Path]:
    """Return the folders of the named runs, or of the latest run in `results` if no run is named.

    Raises UsageError if a run does not exist.
    """
    from attnbench.store import find_run

    return [find_run(results, run) for run in runs] if runs else [find_run(results)]


def with_axis_options(command: Callable[..., None], after: str) -> Callable[..., None]:
    """Add an option for each workload axis to `command`, after the parameter named `after`, and return the command.

    The command receives the options as `**axes`. Each value is the typed text, or None if the option was not given.
    """
    parameters = list(inspect.signature(command, eval_str=True).parameters.values())
    place = next(index for index, parameter in enumerate(parameters, 1) if parameter.name == after)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    options = [
        inspect.Parameter(axis.name, kind, default=None, annotation=_annotation(axis.option))
        for axis in OPTIONS
        if axis.option
    ]
    named = [parameter for parameter in parameters if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    command.__signature__ = inspect.Signature([*named[:place], *options, *named[place:]])  # type: ignore[attr-defined]
    return command


def _annotation(option: Option) -> Any:
    suggest = last_of(lambda: option.suggestions) if option.suggestions else None
    return Annotated[str | None, typer.Option(metavar=option.metavar, autocompletion=suggest, help=option.help)]


def axis_values(axis: Axis, text: str | None) -> list[Any]:
    """Return the values of an axis, e.g. [512, 1024] for `512,1024`, or [] if `text` is None.

    Raises UsageError if a value is invalid, or if `text` contains no value.
    """
    if text is None:
        return []
    option = f"--{axis.name.replace('_', '-')}"
    try:
        values = [axis.read(part) for part in split([text])]
    except ValueError:
        raise UsageError(f"{option} {text!r}: expected whole numbers, comma-separated") from None
    if not values:
        raise UsageError(f"{option} is empty: expected at least one value")
    return values


def numbers_or_types(text: str | None) -> tuple[str | None, list[str]]:
    """Return the value of `--gpus` as (device counts, []) or as (None, GPU types).

    Examples: `1,2` gives ("1,2", []), and `H100,A100` gives (None, ["H100", "A100"]).
    """
    types = [part for part in split([text] if text else None) if not re.fullmatch(r"[-+]?[0-9.]+", part)]
    return (None, types) if types else (text, [])


def size(name: str, text: str | None) -> int | None:
    """Parse a size such as `512MiB` and return it in bytes, or return None if `text` is None.

    Raises UsageError if `text` is not a size above zero. The error message contains `name`, the name of the option.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?", text.strip(), re.IGNORECASE)
    if not found or not float(found[1]):
        raise UsageError(f"{name} {text!r}: expected a size such as 512MiB or 8GiB")
    return int(float(found[1]) * 1024 ** " KMGT".index((found[2] or " ")[0].upper()))


def fraction(name: str, text: str | None) -> float | None:
    """Parse a fraction such as `0.5%` or `0.005` and return it as a float, or return None if `text` is None.

    Raises UsageError if `text` is not a fraction between 0 and 1. The error message contains `name`, the name of the
    option.
    """
    if text is None:
        return None
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise UsageError(f"{name} {text!r}: expected a percentage such as 0.5%, above 0% and below 100%")
    return value
