"""Reading of option values: lists at commas, numbers, percentages."""

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
        help="Suites, by name or TOML file.",
    ),
]
Workloads = Annotated[
    list[str] | None,
    typer.Option("-w", "--workload", metavar="ID", help="Whole workloads, by their ids, as --dry-run prints."),
]
Variants = Annotated[
    list[str] | None,
    typer.Option(
        "-v",
        "--variant",
        metavar="VARIANT",
        autocompletion=last_of(completion.variants),
        help="Variants, by name or glob.",
    ),
]
OneDevice = Annotated[
    str | None,
    typer.Option(
        "-d", "--device", metavar="DEVICE", autocompletion=last_of(completion.devices), help="cpu, cuda, cuda:1 ..."
    ),
]
Devices = Annotated[
    list[str] | None,
    typer.Option(
        "-d",
        "--device",
        metavar="DEVICE",
        autocompletion=last_of(completion.devices),
        help="cpu, cpu:0, cuda, cuda:1 ...",
    ),
]
Plugins = Annotated[
    list[str] | None, typer.Option("-p", "--plugin", metavar="PLUGIN", help="FILE.py or package.module.")
]
Strict = Annotated[bool, typer.Option("--strict-plugins", help="Fail if any plugin does not load.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Tell of failures and results alone.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Tell of everything.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON alone.")]

ResultsFolder = Annotated[Path, typer.Option("--results", metavar="DIR", help="Folder of runs.")]
RunName = Annotated[str | None, typer.Option("--name", metavar="NAME", help="The run's name; default: the time.")]
Resume = Annotated[
    str | None,
    typer.Option(metavar="RUN", autocompletion=last_of(completion.runs), help="Run what this run still lacks."),
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="With --resume: failed cells too.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the cells and run none.")]
Precision = Annotated[
    str | None, typer.Option(metavar="PERCENT", help="Half-width of the median's interval, e.g. 0.5%.")
]
Budget = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="Seconds of sampling a cell; bounds its warm-up too.")
]
Timeout = Annotated[float | None, typer.Option(metavar="SECONDS", help="Seconds that any phase of a cell may last.")]
Exhaustive = Annotated[bool, typer.Option("--exhaustive", help="Try what is known not to fit in memory, too.")]
HostMemory = Annotated[
    str | None, typer.Option(metavar="SIZE", help="The machine's memory that a worker may take, e.g. 8GiB.")
]
Baseline = Annotated[
    str | None,
    typer.Option(metavar="VARIANT", autocompletion=last_of(completion.variants), help="What speed-ups are over."),
]
EveryDevice = Annotated[
    bool, typer.Option("--every-device", help="Measure all cells on each device, also on several of one model.")
]
Mode = Annotated[
    str,
    typer.Option(metavar="MODE", help="hot, cold (caches emptied before each call) or graph (a CUDA graph's kernels)."),
]
ExecutorName = Annotated[
    str, typer.Option("--executor", metavar="NAME", help="Where cells run: local, ray or slurm (a fleet of machines).")
]
Address = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="A Ray cluster's; without it Ray is started on this machine.")
]
NoInterleave = Annotated[bool, typer.Option("--no-interleave", help="One variant after the other.")]
Runs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN]...",
        autocompletion=last_of(completion.runs),
        help="Runs, by folder or name; none: the latest.",
    ),
]


def level(*, quiet: bool, verbose: bool) -> Level:
    """Say how much to tell; raises UsageError for both at once."""
    if quiet and verbose:
        raise UsageError("--quiet and --verbose contradict each other: give one")
    return "quiet" if quiet else "verbose" if verbose else "normal"


def split(values: Iterable[str] | None) -> list[str]:
    """Take repeated and comma-separated values apart."""
    return [part.strip() for value in values or () for part in value.split(",") if part.strip()]


def run_folders(runs: list[str] | None, results: Path) -> list[Path]:
    """Return the folders of the named runs, or of the latest run in `results`; raises UsageError if one is missing."""
    from attnbench.store import find_run

    return [find_run(results, run) for run in runs] if runs else [find_run(results)]


def with_axis_options(command: Callable[..., None], after: str) -> Callable[..., None]:
    """Return the command with an option for each workload axis behind its parameter `after`.

    The command takes them as `**axes`: the text of each option, or None, by the axis's name.
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
    """Read the values of an axis, e.g. [512, 1024] for `512,1024`, none for None; raises UsageError for a wrong one."""
    if text is None:
        return []
    option = f"--{axis.name.replace('_', '-')}"
    try:
        values = [axis.read(part) for part in split([text])]
    except ValueError:
        raise UsageError(f"{option} {text!r}: expected whole numbers, comma-separated") from None
    if not values:
        raise UsageError(f"{option} is empty: give it at least one value")
    return values


def numbers_or_types(text: str | None) -> tuple[str | None, list[str]]:
    """Take apart what `--gpus` gives: numbers of devices, as their text, or else types of the fleet's devices."""
    types = [part for part in split([text] if text else None) if not re.fullmatch(r"[-+]?[0-9.]+", part)]
    return (None, types) if types else (text, [])


def size(name: str, text: str | None) -> int | None:
    """Read a number of bytes such as 512MiB or 8GiB; raises UsageError."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?", text.strip(), re.IGNORECASE)
    if not found or not float(found[1]):
        raise UsageError(f"{name} {text!r}: expected a size such as 512MiB or 8GiB")
    return int(float(found[1]) * 1024 ** " KMGT".index((found[2] or " ")[0].upper()))


def fraction(name: str, text: str | None) -> float | None:
    """Read a fraction such as 0.5% or 0.005; raises UsageError."""
    if text is None:
        return None
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise UsageError(f"{name} {text!r}: expected a percentage such as 0.5%, above 0% and below 100%")
    return value
