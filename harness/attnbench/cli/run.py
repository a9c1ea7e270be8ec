"""`attnbench run`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from attnbench.cli.arguments import Devices, Plugins, Strict, Suites, Variants, axis, fraction, split


def run(
    suite: Suites = None,
    variant: Variants = None,
    device: Devices = None,
    plugin: Plugins = None,
    batch: Annotated[str | None, typer.Option(metavar="N,N", help="Batch sizes, e.g. 1,4.")] = None,
    heads: Annotated[str | None, typer.Option(metavar="N,N", help="Numbers of query heads.")] = None,
    kv_heads: Annotated[str | None, typer.Option(metavar="N,N", help="Numbers of key and value heads.")] = None,
    seq: Annotated[str | None, typer.Option(metavar="N,N", help="Sequence lengths, of queries and keys alike.")] = None,
    seq_k: Annotated[
        str | None, typer.Option(metavar="N,N", help="Numbers of keys, where they differ from the queries'.")
    ] = None,
    head_dim: Annotated[str | None, typer.Option(metavar="N,N", help="Widths of a head.")] = None,
    head_dim_v: Annotated[str | None, typer.Option(metavar="N,N", help="Widths of a value, where they differ.")] = None,
    dtype: Annotated[str | None, typer.Option(metavar="DTYPE", help="float32, float16, bfloat16.")] = None,
    mask: Annotated[
        str | None, typer.Option(metavar="MASK", help="none, causal, causal-top-left, window:L:R ...")
    ] = None,
    direction: Annotated[
        str | None, typer.Option(metavar="DIRECTION", help="forward, backward, forward_backward.")
    ] = None,
    results: Annotated[Path, typer.Option(metavar="DIR", help="Folder of runs.")] = Path("results"),
    name: Annotated[str | None, typer.Option(metavar="NAME", help="The run's name; default: the time.")] = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Run what this run still lacks.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="With --resume: failed cells too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the cells and run none.")] = False,
    precision: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="Half-width of the median's interval, e.g. 0.5%.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Seconds of sampling a cell; bounds its warm-up too.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Seconds that any phase of a cell may last.")
    ] = None,
    no_interleave: Annotated[bool, typer.Option("--no-interleave", help="One variant after the other.")] = False,
    strict_plugins: Strict = False,
) -> None:
    """Check, time and record every cell: variants x workloads x devices.

    Without options: suite `standard` on every GPU, or suite `quick` on the CPU.
    """
    from attnbench.cli.progress import reporter
    from attnbench.measure.protocol import Protocol
    from attnbench.runner.execute import Request, execute, plan_of, resumed, start
    from attnbench.runner.survey import reasons
    from attnbench.store import find_run

    axes: dict[str, list[Any]] = {
        **axis("batch", batch, int),
        **axis("heads", heads, int),
        **axis("kv_heads", kv_heads, int),
        **axis("seq", seq, int),
        **axis("seq_k", seq_k, int),
        **axis("head_dim", head_dim, int),
        **axis("head_dim_v", head_dim_v, int),
        **axis("dtype", dtype, str),
        **axis("mask", mask, str),
        **axis("direction", direction, str),
    }
    settings: dict[str, Any] = {"precision": fraction("--precision", precision), "interleave": not no_interleave}
    if budget is not None:
        settings["budget_s"] = budget
        settings["warm_up_max_s"] = min(Protocol().warm_up_max_s, max(0.05, budget))
    request = Request(
        suites=split(suite),
        variants=split(variant),
        devices=split(device),
        plugins=split(plugin),
        axes=axes,
        protocol=Protocol(**settings),
        results=results,
        name=name,
        strict_plugins=strict_plugins,
    )
    if resume is not None:
        folder = find_run(results, resume)
        catalog, plan = resumed(folder, retry_failed=retry_failed)
    else:
        catalog, plan = plan_of(request)
        if not dry_run:
            folder = start(request, catalog, plan)
    with reporter(plan) as progress:
        if dry_run:
            progress.print_plan(reasons(plan))
            return
        summary = execute(
            folder,
            catalog,
            plan,
            timeout_s=timeout,
            started=progress.started,
            stored=progress.stored,
            complain=lambda text: typer.echo(text, err=True),
        )
    progress.print_summary(folder, summary)
    if summary.interrupted:
        typer.echo(f"interrupted; go on with: attnbench run --resume {shlex.quote(str(folder))}", err=True)
        raise typer.Exit(130)
    bad = set(summary.statuses) - {"ok", "unsupported"}
    raise typer.Exit(1 if bad else 0)
