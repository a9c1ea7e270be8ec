"""Choose the cells for `pytest --pyargs attnbench.benchmarks`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnbench.benchmarks.options import AXES, destination
from attnbench.errors import UsageError
from attnbench.plan.catalog import VariantEntry, read_catalog
from attnbench.plan.cells import choose_variants, choose_workloads
from attnbench.plan.devices import choose_devices

if TYPE_CHECKING:
    import pytest

    from attnbench.workloads.workload import Workload


@dataclass(frozen=True)
class Cells:
    """The variants, workloads and devices whose combinations are the cells.

    `variants` is keyed by variant name and `workloads` by workload id. `devices` maps the name of each device to its
    name for torch in this process.
    """

    variants: dict[str, VariantEntry]
    workloads: dict[str, Workload]
    devices: dict[str, str]


def choose_cells(config: pytest.Config) -> Cells:
    """Return the cells that the options select. Raises UsageError if an option is invalid."""
    option = config.getoption
    axes = {axis.name: values for axis in AXES if (values := option(destination(axis.name)))}
    catalog = read_catalog(option(destination("plugin")))
    variants = choose_variants(catalog, option(destination("variant")))
    workloads = choose_workloads(catalog, option(destination("suite")), axes)
    return Cells(
        {variant.name: variant for variant in variants},
        {workload.id: workload for workload in workloads},
        _choose_devices(option(destination("device"))),
    )


def _choose_devices(wanted: list[str]) -> dict[str, str]:
    """Return the names of the chosen devices, and make the chosen GPUs the only ones that torch can use.

    Torch numbers the GPUs that a process can use from 0, so a GPU's number for torch may differ from that in its name.
    """
    chosen = choose_devices(wanted)[: None if wanted else 1]
    for device in chosen:
        if device.core is not None or device.members:
            raise UsageError(f"device {device.name!r}: expected cpu or cuda:N; to time single cores, use attnbench run")
    gpus = [device for device in chosen if device.kind == "cuda"]
    if gpus:
        visible = (gpu.worker_environment()["CUDA_VISIBLE_DEVICES"] for gpu in gpus)
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(visible)
    return {device.name: f"cuda:{gpus.index(device)}" if device in gpus else device.name for device in chosen}
