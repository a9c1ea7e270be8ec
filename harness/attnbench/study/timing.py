"""Timing for studies. A study runs a suite, as `attnbench run` does, and the timed cells become the study's rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnbench.study.study import Rows, Settings

COLUMNS = (  # the columns of the loaded run that become the fields of a row
    "variant", "exact", "device", "device_name", "batch", "heads", "seq_q", "head_dim", "dtype", "mask", "direction",
    "latency_ms", "latency_low_ms", "latency_high_ms", "peak_bytes", "saved_bytes", "flops", "bytes", "gpus",
    "split",
)  # fmt: skip
Grids = Sequence[Mapping[str, Any]]


def collector(
    name: str,
    sizes: Mapping[str, Mapping[str, Any]],
    grids: Callable[[Mapping[str, Any]], Grids],
    also: Sequence[str] = (),
) -> Callable[[Settings, Path], Rows]:
    """Return a study's `collect` function, which runs the study's grids and returns a row for each timed cell.

    `sizes` contains the study's default sizes for each kind of device. The user's settings can override them. `grids`
    creates the grids from the sizes. If the user chose no variants, the variants that a run includes by default and the
    variants in `also` are timed.
    """

    def collect(settings: Settings, folder: Path) -> Rows:
        from attnbench.plan.devices import choose_devices

        device = choose_devices([settings.device] if settings.device else [])[0]
        chosen = {**sizes[device.kind], **settings.sizes}
        return run_suite(name, grids(chosen), settings, folder, [device.name], also=also)

    return collect


def run_suite(
    name: str, grids: Grids, settings: Settings, folder: Path, devices: list[str], *, also: Sequence[str] = ()
) -> Rows:
    """Write a suite to the study's folder, run it, and return a row for each timed cell."""
    from attnbench.analysis import load
    from attnbench.measure_config import MeasureConfig
    from attnbench.plan.unsupported import unsupported_reasons
    from attnbench.runner.request import Request, plan_of, refuse_nothing_to_time
    from attnbench.runner.run import execute, start

    suite = folder / "run.toml"
    suite.write_text(suite_text(f"study-{name}", grids), encoding="utf-8")
    protocol = MeasureConfig() if settings.budget_s is None else MeasureConfig(budget_s=settings.budget_s)
    request = Request(
        suites=[str(suite)],
        variants=list(settings.variants) or [*_default_variants(settings, devices), *also],
        devices=list(devices),
        plugins=list(settings.plugins),
        protocol=protocol,
        results=folder,
        name="run",
    )
    catalog, plan = plan_of(request)
    refuse_nothing_to_time(plan, unsupported_reasons(plan))
    done = start(request, catalog, plan)
    with settings.watch(plan) as watching:
        execute(done, catalog, plan, listener=watching)
    frame = load(done)
    timed = frame[(frame["status"] == "ok") & ~frame["control"] & frame["latency_ms"].notna()]
    rows: Rows = json.loads(timed[list(COLUMNS)].to_json(orient="records"))
    return rows


def _default_variants(settings: Settings, devices: list[str]) -> list[str]:
    """Return the names of the variants that run by default on these devices."""
    from attnbench.plan.catalog import read_catalog
    from attnbench.plan.cells import default_variants
    from attnbench.plan.devices import choose_devices

    return [variant.name for variant in default_variants(read_catalog(settings.plugins), choose_devices(devices))]


def suite_text(name: str, grids: Grids) -> str:
    """Return the grids as a suite in TOML.

    The values must be strings, numbers, booleans or lists, which have the same form in JSON and TOML.
    """
    lines = [f"name = {json.dumps(name)}"]
    for grid in grids:
        lines += ["", "[[grid]]", *(f"{key} = {json.dumps(value)}" for key, value in grid.items())]
    return "\n".join(lines) + "\n"
