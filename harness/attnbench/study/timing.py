"""Rows of a study that times variants: it runs a suite as `attnbench run` does."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnbench.study.study import Rows, Settings

KEPT = (
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
    """Make a study's `collect`: sizes of the device's kind, with the user's on top, become grids and then a run.

    Without variants of the user's choice those run that a run takes by default, and `also` those that the study needs.
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
    """Write the suite beside the study, run it, and give what was timed."""
    from attnbench.analysis import load
    from attnbench.measure_config import MeasureConfig
    from attnbench.runner.run import Request, execute, plan_of, start

    suite = folder / "run.toml"
    suite.write_text(suite_text(f"study-{name}", grids), encoding="utf-8")
    protocol = MeasureConfig() if settings.budget_s is None else MeasureConfig(budget_s=settings.budget_s)
    request = Request(
        suites=[str(suite)],
        variants=list(settings.variants) or [*_by_default(settings, devices), *also],
        devices=list(devices),
        plugins=list(settings.plugins),
        protocol=protocol,
        results=folder,
        name="run",
    )
    catalog, plan = plan_of(request)
    done = start(request, catalog, plan)
    with settings.watch(plan) as watching:
        execute(done, catalog, plan, watcher=watching)
    frame = load(done)
    timed = frame[(frame["status"] == "ok") & ~frame["control"] & frame["latency_ms"].notna()]
    rows: Rows = json.loads(timed[list(KEPT)].to_json(orient="records"))
    return rows


def _by_default(settings: Settings, devices: list[str]) -> list[str]:
    """Name the variants that a run on the devices takes which names none."""
    from attnbench.plan.catalog import read_catalog
    from attnbench.plan.cells import default_variants
    from attnbench.plan.devices import choose_devices

    return [variant.name for variant in default_variants(read_catalog(settings.plugins), choose_devices(devices))]


def suite_text(name: str, grids: Grids) -> str:
    """Write grids as a suite's TOML; its values are texts, numbers and lists, which JSON writes alike."""
    lines = [f"name = {json.dumps(name)}"]
    for grid in grids:
        lines += ["", "[[grid]]", *(f"{key} = {json.dumps(value)}" for key, value in grid.items())]
    return "\n".join(lines) + "\n"
