"""The command that runs one cell again, as it was run."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attnbench.errors import UsageError
from attnbench.measure_config import MeasureConfig
from attnbench.untrusted import listing, mapping

if TYPE_CHECKING:
    from attnbench.workloads.workload import Workload


def rerun_command(variant: str, workload: Workload, device: str, manifest: Mapping[str, Any]) -> list[str]:
    """Spell the `attnbench run` whose one cell has the cell_id of a run's cell, as words for a shell.

    `manifest` is that run's: it says which plugins were named and how cells were measured. Settings that only a caller
    in Python can give have no option, and are left out, as is what makes no sense in a manifest of others.
    """
    command = ["attnbench", "run", "--variant", variant, "--device", device, "--workload", workload.id]
    settings = mapping(mapping(manifest.get("protocols")).get(device.partition(":")[0]))
    with contextlib.suppress(UsageError):
        command += _protocol_options(MeasureConfig.from_json(settings))
    for plugin in listing(manifest.get("plugin_arguments")):
        command += ["--plugin", str(plugin)]
    return command


def _protocol_options(protocol: MeasureConfig) -> list[str]:
    usual = MeasureConfig()
    options = []
    if protocol.precision is not None:
        options += ["--precision", repr(protocol.precision)]
    if protocol.budget_s != usual.budget_s:
        options += ["--budget", repr(protocol.budget_s)]
    if protocol.mode != usual.mode:
        options += ["--mode", protocol.mode]
    if not protocol.interleave:
        options += ["--no-interleave"]
    return options
