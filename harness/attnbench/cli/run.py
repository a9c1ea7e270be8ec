"""The `attnbench run` command."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import typer

from attnbench.cli import arguments
from attnbench.cli.arguments import axis_values, fraction, level, numbers_or_types, size, split, with_axis_options
from attnbench.workloads.workload import OPTIONS

if TYPE_CHECKING:
    from attnbench.plan.catalog import Catalog
    from attnbench.plan.cells import Plan
    from attnbench.runner.local_executor import Executor
    from attnbench.runner.request import Request


def run(
    suite: arguments.Suites = None,
    workload: arguments.Workloads = None,
    variant: arguments.Variants = None,
    device: arguments.Devices = None,
    plugin: arguments.Plugins = None,
    results: arguments.ResultsFolder = Path("results"),
    name: arguments.RunName = None,
    resume: arguments.Resume = None,
    retry_failed: arguments.RetryFailed = False,
    exhaustive: arguments.Exhaustive = False,
    every_device: arguments.EveryDevice = False,
    baseline: arguments.Baseline = None,
    dry_run: arguments.DryRun = False,
    precision: arguments.Precision = None,
    budget: arguments.Budget = None,
    timeout: arguments.Timeout = None,
    host_memory: arguments.HostMemory = None,
    max_workers: arguments.MaxWorkers = None,
    mode: arguments.Mode = "hot",
    executor: arguments.ExecutorName = "local",
    address: arguments.Address = None,
    processes: arguments.Processes = None,
    no_interleave: arguments.NoInterleave = False,
    strict_plugins: arguments.Strict = False,
    quiet: arguments.Quiet = False,
    verbose: arguments.Verbose = False,
    **axes: str | None,
) -> None:
    """Check, time and record every cell: variants x workloads x devices.

    By default, the `standard` suite runs on every GPU. Without a GPU, the `quick` suite runs on the CPU, which takes
    about two minutes on two cores. Each device has default variants; -v "*" selects all variants.
    """
    _run(SimpleNamespace(**locals()))


with_axis_options(run, after="plugin")


def _run(options: SimpleNamespace) -> None:
    """Run the command with the given options. Unless it is a dry run, raise typer.Exit with the exit code."""
    from attnbench.cli.output import (
        output_may_be_closed,
        print_next,
        print_plan,
        print_summary,
        print_warnings,
        watched,
    )
    from attnbench.interrupts import EndedBySignal, signal_of
    from attnbench.plan.history import History
    from attnbench.plan.unsupported import unsupported_reasons
    from attnbench.runner.cell_limits import CellLimits
    from attnbench.runner.request import refuse_nothing_to_time, refuse_unrunnable
    from attnbench.runner.run import execute, start
    from attnbench.store import latest, load_warnings, read_manifest

    verbosity = level(quiet=options.quiet, verbose=options.verbose)
    host_memory = size("--host-memory", options.host_memory)
    limits = CellLimits(options.timeout, options.exhaustive, host_memory, options.max_workers)
    folder, request, catalog, plan, executor = _planned(options)
    # On a cluster, only the machine that runs a cell can determine whether the cell is supported.
    unsupported = unsupported_reasons(plan) if options.executor == "local" else {}
    history = History(options.results)
    if folder is None:
        refuse_unrunnable(request, catalog, plan, unsupported)
    if options.dry_run:
        print_plan(plan, unsupported, history)
        return
    if folder is None:
        refuse_nothing_to_time(plan, unsupported)
    folder = folder or start(request, catalog, plan)
    estimate = history.estimate(plan, unsupported)
    with watched(plan, unsupported, estimate, verbosity) as listener:
        try:
            summary = execute(folder, catalog, plan, executor=executor, limits=limits, listener=listener)
        except (KeyboardInterrupt, EndedBySignal) as ended:  # before or after the cells; `execute` counts in between
            _leave_interrupted(folder, signal_of(ended))
    with output_may_be_closed():
        print_summary(folder, summary, estimate)
        print_next(latest(folder).values(), read_manifest(folder).get("plugin_arguments", []))
        print_warnings(load_warnings(folder))
    if summary.signal is not None:
        _leave_interrupted(folder, summary.signal)
    raise typer.Exit(1 if summary.failed else 0)


def _planned(options: SimpleNamespace) -> tuple[Path | None, Request, Catalog, Plan, Executor]:
    """Return a tuple: the folder of the run to resume (None for a new run), request, catalog, plan and executor."""
    from attnbench.cli.executors import find_executor
    from attnbench.runner.request import plan_of
    from attnbench.runner.resume import resumed
    from attnbench.store import find_run, plugin_arguments, read_manifest

    request = _request(options)
    folder = None if options.resume is None else find_run(options.results, options.resume)
    plugins = request.plugins if folder is None else plugin_arguments(read_manifest(folder))
    types = numbers_or_types(options.axes["gpus"])[1]
    executor = find_executor(options.executor, options.address, types, plugins)
    if folder is None:
        return None, request, *plan_of(request, executor), executor
    planned = resumed(folder, retry_failed=options.retry_failed, exhaustive=options.exhaustive, executor=executor)
    return folder, request, *planned, executor


def _leave_interrupted(run: Path, number: int) -> None:
    """Print the command that resumes a run that a signal has ended, and raise typer.Exit with the exit code."""
    from attnbench.cli.output import output_may_be_closed
    from attnbench.interrupts import exit_code
    from attnbench.runner.run import resume_command

    with output_may_be_closed():
        typer.echo(f"interrupted; to continue: {resume_command(run)}", err=True)
    raise typer.Exit(exit_code(number))


def _request(options: SimpleNamespace) -> Request:
    """Return the request that the options describe.

    Raises UsageError if a value is invalid.
    """
    from attnbench.measure_config import MeasureConfig
    from attnbench.runner.request import Request

    settings: dict[str, Any] = {
        "precision": fraction("--precision", options.precision),
        "processes": options.processes,
        "interleave": not options.no_interleave,
        "mode": options.mode,
    }
    typed = {**options.axes, "gpus": numbers_or_types(options.axes["gpus"])[0]}
    values = {axis.name: axis_values(axis, typed[axis.name]) for axis in OPTIONS}
    return Request(
        suites=split(options.suite),
        workloads=split(options.workload),
        variants=split(options.variant),
        devices=split(options.device),
        plugins=split(options.plugin),
        axes={name: given for name, given in values.items() if given},
        protocol=MeasureConfig(**settings),
        budget_s=options.budget,
        results=options.results,
        name=options.name,
        baseline=options.baseline,
        every_device=options.every_device or options.executor != "local",
        strict_plugins=options.strict_plugins,
    )
