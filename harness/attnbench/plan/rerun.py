"""The command that repeats the measurement of one cell."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attnbench.device_names import device_type
from attnbench.errors import UsageError
from attnbench.measure_config import MeasureConfig
from attnbench.untrusted import listing, mapping

if TYPE_CHECKING:
    from attnbench.workloads.workload import Workload


def rerun_command(variant: str, workload: Workload, device: str, manifest: Mapping[str, Any]) -> list[str]:
    """Return an `attnbench run` command, as a list of arguments, that measures a cell again under the same cell_id.

    `manifest` is the manifest of the cell's run, which contains the plugins and the measurement settings. Settings that
    have no command-line option are left out, and so are malformed entries of the manifest.
    """
    command = ["attnbench", "run", "--variant", variant, "--device", device, "--workload", workload.id]
    with contextlib.suppress(UsageError):
        settings = mapping(mapping(manifest.get("protocols")).get(device_type(device)))
        command += _measure_options(MeasureConfig.from_json(settings))
    for plugin in listing(manifest.get("plugin_arguments")):
        command += ["--plugin", str(plugin)]
    return command


def _measure_options(config: MeasureConfig) -> list[str]:
    """Return the command-line options for the settings that differ from the defaults."""
    default = MeasureConfig()
    options = []
    if config.precision is not None:
        options += ["--precision", repr(config.precision)]
    if config.budget_s != default.budget_s:
        options += ["--budget", repr(config.budget_s)]
    if config.mode != default.mode:
        options += ["--mode", config.mode]
    if config.processes is not None:
        options += ["--processes", str(config.processes)]
    if not config.interleave:
        options += ["--no-interleave"]
    return options
