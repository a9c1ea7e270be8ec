"""Reading of option values: lists at commas, numbers, percentages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnbench.cli import completion
from attnbench.cli.completion import last_of
from attnbench.errors import UsageError

if TYPE_CHECKING:
    from attnbench.progress import Level

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

Batch = Annotated[str | None, typer.Option(metavar="N,N", help="Batch sizes, e.g. 1,4.")]
Heads = Annotated[str | None, typer.Option(metavar="N,N", help="Numbers of query heads.")]
KvHeads = Annotated[str | None, typer.Option(metavar="N,N", help="Numbers of key and value heads.")]
Seq = Annotated[str | None, typer.Option(metavar="N,N", help="Sequence lengths, of queries and keys alike.")]
SeqK = Annotated[str | None, typer.Option(metavar="N,N", help="Numbers of keys, where they differ from the queries'.")]
HeadDim = Annotated[str | None, typer.Option(metavar="N,N", help="Widths of a head.")]
HeadDimV = Annotated[str | None, typer.Option(metavar="N,N", help="Widths of a value, where they differ.")]
Dtype = Annotated[
    str | None,
    typer.Option(metavar="DTYPE", autocompletion=last_of(completion.dtypes), help="float32, float16, bfloat16."),
]
MaskText = Annotated[
    str | None,
    typer.Option(
        metavar="MASK", autocompletion=last_of(completion.masks), help="none, causal, causal-top-left, window:L:R ..."
    ),
]
Direction = Annotated[
    str | None,
    typer.Option(
        metavar="DIRECTION", autocompletion=last_of(completion.directions), help="forward, backward, forward_backward."
    ),
]

EmbedDim = Annotated[
    str | None, typer.Option(metavar="N,N", help="Widths of a whole layer around attention; 0: attention alone.")
]
Layout = Annotated[str | None, typer.Option(metavar="LAYOUT", help="native, BHSD, BSHD: which layout tensors come in.")]
Distribution = Annotated[
    str | None, typer.Option(metavar="NAME", help="Values that are timed: normal, uniform, integers, outliers, zeros.")
]
Gpus = Annotated[
    str | None,
    typer.Option(
        metavar="N,N|TYPE,TYPE",
        help="Numbers of devices at once (on a CPU, of cores); or, of a fleet, types of GPU, e.g. H100,A100.",
    ),
]
Split = Annotated[str | None, typer.Option(metavar="SPLIT", help="batch, heads, ring: what the devices share out.")]

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


def level(*, quiet: bool, verbose: bool) -> Level:
    """Say how much to tell; raises UsageError for both at once."""
    if quiet and verbose:
        raise UsageError("--quiet and --verbose contradict each other: give one")
    return "quiet" if quiet else "verbose" if verbose else "normal"


def split(values: Iterable[str] | None) -> list[str]:
    """Take repeated and comma-separated values apart."""
    return [part.strip() for value in values or () for part in value.split(",") if part.strip()]


def axis(name: str, text: str | None, kind: Callable[[str], Any]) -> dict[str, list[Any]]:
    """Read one axis, e.g. `seq` of `512,1024`; raises UsageError that names the value."""
    if text is None:
        return {}
    try:
        values = [kind(part) for part in split([text])]
    except ValueError:
        raise UsageError(f"--{name.replace('_', '-')} {text!r}: expected whole numbers, comma-separated") from None
    if not values:
        raise UsageError(f"--{name.replace('_', '-')} is empty: give it at least one value")
    return {name: values}


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
